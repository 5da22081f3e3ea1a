import AsyncHTTPClient
import CohortAPI
import CohortClient
import CohortCore
import CohortSession
import CohortWire
import FoundationEssentials
import Glibc
import TestSupport
import Testing

/// A small world of a test: a folder, a server, peers, a person, all real processes over real sockets; everything ends with the body.
struct World: Sendable {
    let folder: String
    let http: HTTPClient
    /// Where peers are held.
    let points: CheckPoints
    fileprivate let requests: AsyncStream<TestProcess>.Continuation

    /// Short times, so that a death is noticed within a test's patience.
    static let fast = [
        "COHORT_HEARTBEAT_INTERVAL": "0.5", "COHORT_SUSPECT_AFTER": "1.5", "COHORT_DEAD_AFTER": "3", "COHORT_PEER_WAIT": "6",
        "COHORT_LEASE_SECONDS": "4",
        // No round closes early because this machine is slow: what closes it is what the test does.
        "COHORT_ROUND_GRACE": "3600",
    ]

    /// - Parameter executable: nil: `cohort`.
    func start(_ name: String, executable: String? = nil, _ arguments: [String], environment: [String: String] = [:]) -> TestProcess {
        let environment = environment.merging(["HOME": folder, "XDG_CONFIG_HOME": "\(folder)/config", "XDG_DATA_HOME": "\(folder)/share"]) {
            given, _ in given
        }
        let process = TestProcess(
            name: name, executable: executable, arguments: arguments, environment: environment, log: "\(folder)/\(name).log")
        requests.yield(process)
        return process
    }

    /// A server on a free port, or on `port`, with short times.
    func server(_ name: String = "server", data: String = "server", port: Int = 0, environment: [String: String] = [:]) async throws
        -> Server
    {
        let process = start(
            name, ["serve", "--host", "127.0.0.1", "--port", "\(port)", "--data-dir", "\(folder)/\(data)"],
            environment: Self.fast.merging(environment) { _, given in given })
        let line = try await process.firstLine(startingWith: "listening on ")
        return Server(process: process, url: String(line.dropFirst("listening on ".count)))
    }

    struct Server: Sendable {
        let process: TestProcess
        let url: String
        var port: Int { url.split(separator: ":").last.flatMap { Int($0) } ?? 0 }
    }

    static let password = "correct horse"

    /// Signs a user up.
    func person(_ server: Server, email: String = "ada@example.org") async throws -> CohortClient {
        let client = try CohortClient(server: ServerURL(server.url), http: http)
        let token = try await client.signup(email: email, password: Self.password, name: "Ada")
        return client.authenticated(by: token.accessToken)
    }

    func peer(_ name: String, of server: Server, token: String, environment: [String: String] = [:]) -> TestProcess {
        start(
            name, ["peer", "--server", server.url, "--name", name, "--data-dir", "\(folder)/\(name)", "--threads", "1"],
            environment: ["COHORT_TOKEN": token, "COHORT_CHECK_POINTS": points.path].merging(environment) { _, given in given })
    }

    /// `count` peers named `prefix-1`…, online.
    func peers(
        _ count: Int, of server: Server, for person: CohortClient, prefix: String = "peer", environment: [String: String] = [:]
    ) async throws -> [TestProcess] {
        let before = try await person.peers().count { $0.status == .online }
        let token = try #require(try await person.createToken(API.NewToken(name: "test")).token)
        let peers = (1...count).map { peer("\(prefix)-\($0)", of: server, token: token, environment: environment) }
        try await eventually("\(count) peers online") {
            try await person.peers().count { $0.status == .online } >= before + count
        }
        return peers
    }

    func write(_ text: String, to name: String) throws -> String {
        let path = "\(folder)/\(name)"
        try text.write(to: URL(filePath: path), atomically: true, encoding: .utf8)
        return path
    }

    /// A separable table: `rows` rows, class `y` from two of four numbers.
    func blobs(rows: Int, name: String = "blobs.csv") throws -> String {
        var generator = SeededGenerator(seed: 1)
        var text = "a,b,c,d,y\n"
        for row in 0..<rows {
            let side = Float(row % 3) * 2 - 2
            let values = (0..<4).map { column in (column < 2 ? side : 0) + generator.nextFloat() - 0.5 }
            text += values.map { "\($0)" }.joined(separator: ",") + ",class\(row % 3)\n"
        }
        return try write(text, to: name)
    }
}

/// Runs `body` in a new world; what it started is killed when it returns, its folder is removed when it did not fail.
func withWorld(_ body: @escaping @Sendable (World) async throws -> Void) async throws {
    let folder = "\(FileManager.default.temporaryDirectory.path)/cohort-system-\(newIdentifier())"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let http = HTTPClient.cohort()
    let points = try CheckPoints(path: "\(folder)/points")
    defer { points.close() }
    let (stream, requests) = AsyncStream.makeStream(of: TestProcess.self)
    let world = World(folder: folder, http: http, points: points, requests: requests)
    do {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                defer { requests.finish() }
                try await body(world)
            }
            for await process in stream { group.addTask { await process.run() } }
            group.cancelAll()
            try await group.waitForAll()
        }
    } catch {
        try? await http.shutdown()
        // Kept for a look: the logs say what happened.
        Issue.record("\(error)\nlogs are in \(folder)")
        return
    }
    try await http.shutdown()
    try FileManager.default.removeItem(atPath: folder)
}

extension CohortClient {
    /// Waits for the end of a session.
    func final(_ id: String, within limit: Duration = .seconds(120)) async throws -> API.TrainingStatus {
        try await eventually("session \(id) ends", within: limit) { try await trainingStatus(id: id).status.isFinal }
        return try await trainingStatus(id: id)
    }
}

extension API.Results {
    /// Expects each row to have been trained on equally often, but for answers that the server left out because the held-out loss was lower without
    /// them: which rows a peer has depends on the peers' speeds, and with few rows that can happen to honest peers.
    /// - Parameter epochs: of one round; 0: no such answer is expected.
    func expectEachRow(times: Int, epochs: Int = 0, sourceLocation: SourceLocation = #_sourceLocation) {
        let dropped = history.flatMap { round in round.dropped.map { "round \(round.round), \($0.key): \($0.value)" } }
        let allowed = times - epochs * dropped.count { $0.contains("the held-out loss is") }...times
        let isTrained = rows.map { allowed.contains($0.least) && allowed.contains($0.most) } ?? false
        #expect(isTrained, "\(String(describing: rows)), \(dropped)", sourceLocation: sourceLocation)
    }
}

extension World {
    /// Runs a session over ``blobs(rows:name:)`` to its end, and expects a good model and each row trained on equally often.
    /// - Parameter times: how often each row is trained on.
    @discardableResult
    func expectCompleted(
        _ settings: SessionSettings, by person: CohortClient, rows: Int = 300, times: Int, sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> (id: String, results: API.Results) {
        let id = try await person.startSession(settings, file: try blobs(rows: rows)).sessionId
        let status = try await person.final(id)
        #expect(status.status == .completed, "\(status.error ?? "")", sourceLocation: sourceLocation)
        let results = try await person.results(id: id)
        results.expectEachRow(times: times, sourceLocation: sourceLocation)
        #expect(try #require(results.metrics.accuracy) > 0.9, sourceLocation: sourceLocation)
        return (id, results)
    }
}
