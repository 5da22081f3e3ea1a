import CohortCore
import CohortSession
import CohortStrategies
import CohortWire
import FoundationEssentials
import InMemory
import TestSupport
import Testing

@testable import CohortCoordinator

/// One of each way in which a round's answers become a model: their mean, their columns, the server's own step, one of them.
private let strategies = ["fedavg", "median", "fedadam", "independent"]

/// Every call that a session makes to its parts goes wrong once, in every way: the session ends right all the same.
@Suite struct NthCallTests {
    private static let csv = "x,z,y\n" + (0..<24).map { "\($0),\($0 * 7 % 5),\($0 % 2 == 0 ? "even" : "odd")\n" }.joined()

    fileprivate static func session(
        _ strategy: String, _ kind: FaultPlan.Kind?, at number: Int, in folder: String, on parts: SessionWorld.Parts = .inMemory
    ) async throws -> (calls: Int, name: String, problems: [String]) {
        let world = try await SessionWorld(csv: csv, scratch: "\(folder)/scratch", parts: parts)
        let plan = FaultPlan(kind, at: number, time: world.time)
        do {
            return try await outcome(world, plan: plan, strategy: strategy)
        } catch {
            // What it was, and how far it came.
            var state = ["call \(number), \(plan.name), of \(kind.map { "\($0)" } ?? "none"): \(error)"]
            for session in try await world.documents.sessions(ownerId: "owner", limit: 100) {
                state.append(
                    "\(session.id) \(session.status) generation \(session.generation) round \(session.round) starting \(session.isStarting == true) ending \(session.isEnding == true) waiting for \(session.waitingFor ?? "nothing"), peers \(session.peers.map { "\($0.name) \($0.state) \($0.message ?? "")" })"
                )
            }
            state.append("the peers: \(world.journal.text)")
            throw CohortError(.internal, state.joined(separator: "; "))
        }
    }

    private static func outcome(_ world: SessionWorld, plan: FaultPlan, strategy: String) async throws -> (
        calls: Int, name: String, problems: [String]
    ) {
        var lives = try await world.live(plan, starting: SessionWorld.settings(strategy)) ? 1 : 2
        if lives == 2 {
            // After the crash: the user, whose start was not answered, starts another, and the server resumes the old one.
            lives = 2
            let isThere = try await world.documents.sessionCounts().values.reduce(0, +) > 0
            _ = try await world.live(FaultPlan(nil), starting: isThere ? nil : SessionWorld.settings(strategy))
        }
        return (plan.count, plan.name, try await problems(world, strategy, isCrash: lives == 2))
    }

    /// What is not as it should be at the end.
    private static func problems(_ world: SessionWorld, _ strategy: String, isCrash: Bool) async throws -> [String] {
        var problems: [String] = []
        func check(_ holds: Bool, _ what: @autoclosure () -> String) { if !holds { problems.append(what()) } }
        for peer in try await world.documents.peers() {
            check(
                peer.sessionId == nil && peer.status == .online, "\(peer.name) is \(peer.status), locked to \(peer.sessionId ?? "unknown")")
        }
        let sessions = try await world.documents.sessions(ownerId: "owner", limit: 100)
        check(!sessions.isEmpty, "there is no session")
        var kept: Set<String> = []
        var completed = 0
        for session in sessions {
            kept.formUnion(session.checkpoints.map(\.weights.key) + [session.best?.weights.key, session.weights?.key].compactMap { $0 })
            if let dataset = session.dataset { kept.formUnion([dataset.object.key, "schemas/\(session.id).json"]) }
            if let model = session.modelObject { kept.insert(model.key) }
            check(session.isEnding == nil && session.isStarting == nil, "the session is not over")
            if session.status == .failed, session.error?.contains("being started") == true { continue }
            check(session.status == .completed, "the session is \(session.status): \(session.error ?? "")")
            completed += 1
            guard session.status == .completed else { continue }
            let rows = session.results?.rows
            // Two rounds of two epochs, or two peers that train all rows for two epochs.
            let times = 4
            check(
                rows?.least == times && rows?.most == times, "rows were trained on \(rows.map { "\($0.least) to \($0.most)" } ?? "?") times"
            )
            check(session.results?.metrics.samples == session.dataset?.validationRows, "the model was not measured")
            // These peers make up their measurements, which is detected; there is no other note about them.
            let said = session.peers.compactMap(\.message).filter { !$0.contains("but the server measured") }
            check(said.isEmpty, "peers: \(said)")
            check(try await world.objects.size(of: session.modelObject?.key ?? "none") != nil, "there is no model file")
            let rounds = try await world.documents.rounds(sessionId: session.id).count
            check(rounds == session.settings.rounds, "\(rounds) rounds are recorded")
            let points = try await world.documents.metrics(sessionId: session.id).filter { $0.peerId != nil }.count
            check(points == session.settings.rounds * 2 * 2, "\(points) points are recorded")
        }
        // A start that failed is the person's to repeat; one that was cut short by a crash is ended.
        check(completed >= 1 || isCrash, "no session completed")
        let named = Set(sessions.compactMap(\.upload?.key))
        let left = try await world.objects.list(prefix: "").filter { key in
            // The upload of a start that a crash cut short goes a day later.
            !kept.contains(key) && !(isCrash && Session.isUploadKey(key) && !named.contains(key))
        }
        check(left.isEmpty, "objects are left over: \(left)")
        let copies = (try? FileManager.default.contentsOfDirectory(atPath: world.scratch)) ?? []
        check(copies.isEmpty, "copies are left over: \(copies)")
        return problems
    }

    @Test(arguments: strategies, FaultPlan.Kind.allCases)
    func `whichever call goes wrong, the session ends right`(strategy: String, kind: FaultPlan.Kind) async throws {
        try await withFolder { folder in
            let clean = try await Self.session(strategy, nil, at: 0, in: folder)
            #expect(clean.problems.isEmpty, "\(clean.problems)")
            #expect(clean.calls > 50, "a session makes calls: \(clean.calls)")
            var cases = 0
            // Calls that come of ticks are as many as there is time: what a session itself makes is within this.
            for number in 1...clean.calls {
                let outcome = try await Self.session(strategy, kind, at: number, in: folder)
                cases += 1
                #expect(outcome.problems.isEmpty, "call \(number), \(outcome.name): \(outcome.problems)")
            }
            print("\(strategy), \(kind): \(cases) cases")
        }
    }

    /// One after the other: what a server does for one session is not the time of another.
    @Suite(.serialized) struct OnRealServers {
        @Test(
            .enabled(if: SharedParts.areThere, "needs real servers: make integration runs every fifth call"),
            arguments: strategies, FaultPlan.Kind.allCases)
        func `whichever call to real servers goes wrong, the session ends right`(strategy: String, kind: FaultPlan.Kind) async throws {
            try await withFolder { folder in
                let clean = try await SharedParts.with { try await NthCallTests.session(strategy, nil, at: 0, in: folder, on: $0) }
                #expect(clean.problems.isEmpty, "\(clean.problems)")
                // Some: other ones for each kind.
                let first = 1 + (FaultPlan.Kind.allCases.firstIndex(of: kind) ?? 0) % SharedParts.step
                for number in stride(from: first, through: clean.calls, by: SharedParts.step) {
                    let outcome = try await SharedParts.with {
                        try await NthCallTests.session(strategy, kind, at: number, in: folder, on: $0)
                    }
                    #expect(outcome.problems.isEmpty, "call \(number), \(outcome.name): \(outcome.problems)")
                }
            }
        }
    }
}
