import CohortCore
import CohortSession
import CohortWire
import FoundationEssentials
import InMemory
import Synchronization
import Testing

@testable import CohortCoordinator

/// An unprocessable event is refused, its sender receives REFUSED, and the session goes on.
@Suite struct RefusalTests {
    private static let csv = "x,z,y\n" + (0..<24).map { "\($0),\($0 * 7 % 5),\($0 % 2 == 0 ? "even" : "odd")\n" }.joined()

    enum Trick: CaseIterable {
        case garbage, speaksForAnother, oldAttempt, anotherSession, report

        /// In the first round.
        func message(_ done: DoneEvent) throws -> [UInt8]? {
            guard done.round == 0 else { return nil }
            var event = done
            switch self {
            case .garbage: return [UInt8](#"{"type":"DONE","session_id":"\#(done.sessionId)"}"#.utf8)
            case .speaksForAnother: event.peerId = "a"
            case .oldAttempt: event.attempt = -1
            case .anotherSession: event.sessionId = "another"
            case .report:
                return try CohortJSON.encode(
                    PeerEvent.heartbeat(
                        HeartbeatEvent(
                            sessionId: done.sessionId, peerId: done.peerId, generation: 0, round: 7, epoch: 1, loss: 1, accuracy: nil,
                            samplesPerSecond: nil, progress: nil)))
            }
            return try CohortJSON.encode(PeerEvent.done(event))
        }

        /// nil: no REFUSED is sent.
        var reason: String? {
            switch self {
            case .garbage: "peer_id"
            case .speaksForAnother: "peer_id is 'a', but peer b sent it"
            case .oldAttempt: "attempt"
            case .anotherSession: "not an event of a peer of session"
            case .report: nil
            }
        }
    }

    @Test(arguments: Trick.allCases) func `its sender is notified, and the session ends right`(trick: Trick) async throws {
        let folder = "\(FileManager.default.temporaryDirectory.path)/cohort-refusal-\(newIdentifier())"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let world = try await SessionWorld(csv: Self.csv, scratch: folder)
        world.mischief.next = { try trick.message($0) }
        #expect(try await world.live(FaultPlan(nil, time: world.time), starting: SessionWorld.settings("fedavg")))
        let session = try #require(try await world.documents.sessions(ownerId: "owner", limit: 1).first)
        #expect(session.status == .completed && session.results?.rows?.least == 4 && session.results?.rows?.most == 4)
        let refusals = world.mischief.refusals.withLock { $0 }
        if let reason = trick.reason {
            #expect(refusals.count == 1 && refusals[0].sessionId == session.id && refusals[0].round == 0, "\(refusals)")
            #expect(refusals.first?.reason.contains(reason) == true, "\(refusals)")
        } else {
            #expect(refusals.isEmpty, "\(refusals)")
        }
    }
}
