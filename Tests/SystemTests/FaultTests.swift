import CohortAPI
import CohortClient
import CohortCore
import CohortPeer
import CohortSession
import CohortTraining
import CohortWire
import FoundationEssentials
import Glibc
import Synchronization
import TestSupport
import Testing

extension SystemSuite {
    /// Real processes, killed.
    @Suite(.serialized) struct Faults {
        private static let settings = SessionSettings(peers: 3, rounds: 6, epochs: 4, batchSize: 8, lr: 0.01, hidden: [16], seed: 5)

        /// Six rounds of four epochs; a row whose peer died in one round was trained on in the five others.
        private static let (once, all) = (20, 24)

        @Test func `a peer killed in the middle of an epoch: its rows go to the others and the session completes`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                let peers = try await world.peers(3, of: server, for: person)
                let point = try await world.points.hold(.midEpoch, of: peers[0], round: 1)
                let started = try await person.startSession(Self.settings, file: try world.blobs(rows: 600))
                let held = try await world.points.reached(point)
                try await peers[0].send(SIGKILL)
                held.release()
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let results = try await person.results(id: started.sessionId)
                #expect(results.peers.first { $0.name == "peer-1" }?.state == .lost)
                let rows = try #require(results.rows)
                #expect(rows.least == Self.once && rows.most == Self.all, "one share of one round is missing, nothing else: \(rows)")
                #expect(try #require(results.metrics.accuracy) > 0.9)
                try await eventually("no peer stays locked") {
                    try await person.peers().allSatisfy { $0.status == ($0.name == "peer-1" ? .offline : .online) }
                }
            }
        }

        /// Every point at which a peer can die costs at most that peer's share of one round.
        @Test(arguments: CheckPoint.Name.allCases) func `a peer killed at any point of its work costs at most its share of the round`(
            name: CheckPoint.Name
        ) async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                let peers = try await world.peers(2, of: server, for: person)
                let point = try await world.points.hold(name, of: peers[1], round: 1)
                var settings = Self.settings
                settings.peers = 2
                let started = try await person.startSession(settings, file: try world.blobs(rows: 300))
                let held = try await world.points.reached(point)
                try await peers[1].send(SIGKILL)
                held.release()
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let rows = try #require(try await person.results(id: started.sessionId).rows)
                #expect(rows.least == Self.once && rows.most == Self.all, "\(name): \(rows)")
            }
        }

        @Test func `all peers killed: FAILED, with the reason, and no peer stays locked`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                let peers = try await world.peers(2, of: server, for: person)
                var settings = Self.settings
                settings.peers = 2
                var points: [CheckPoints.Rule] = []
                for peer in peers { points.append(try await world.points.hold(.midEpoch, of: peer, round: 0)) }
                let started = try await person.startSession(settings, file: try world.blobs(rows: 300))
                for point in points { _ = try await world.points.reached(point) }
                for peer in peers { try await peer.send(SIGKILL) }
                let status = try await person.final(started.sessionId)
                #expect(status.status == .failed)
                #expect(try #require(status.error).contains("peer-1 is lost"), "\(status.error ?? "")")
                try await eventually("no peer stays locked") { try await person.peers().allSatisfy { $0.status == .offline } }
            }
        }

        @Test func `the server killed in the middle of a round goes on from the last finished one`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                let peers = try await world.peers(3, of: server, for: person)
                let point = try await world.points.hold(.midEpoch, of: peers[2], round: 2)
                let started = try await person.startSession(Self.settings, file: try world.blobs(rows: 600))
                let held = try await world.points.reached(point)
                try await server.process.send(SIGKILL)
                _ = try await server.process.end()
                _ = try await world.server("server-again", port: server.port)
                held.release()
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let results = try await person.results(id: started.sessionId)
                let rows = try #require(results.rows)
                #expect(rows.least == Self.all && rows.most == Self.all, "none lost, none twice: \(rows)")
                #expect(try #require(results.metrics.accuracy) > 0.9)
            }
        }

        @Test func `a server away for longer than a peer may be silent: peers come back by themselves, and none is late`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                let peers = try await world.peers(2, of: server, for: person)
                var settings = Self.settings
                settings.peers = 2
                let point = try await world.points.hold(.midEpoch, of: peers[0], round: 1)
                let started = try await person.startSession(settings, file: try world.blobs(rows: 300))
                let held = try await world.points.reached(point)
                try await server.process.send(SIGTERM)
                _ = try await server.process.end()
                try await eventually("both have noticed") {
                    peers.allSatisfy { $0.standardError.contains("the server does not take this peer's beats") }
                }
                held.release()
                _ = try await world.server("server-again", port: server.port)
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let results = try await person.results(id: started.sessionId)
                let rows = try #require(results.rows)
                #expect(rows.least == Self.all && rows.most == Self.all, "nothing lost: \(rows)")
                #expect(results.peers.allSatisfy { $0.message == nil }, "no peer was late: \(results.peers.map(\.message))")
            }
        }

        @Test func `a peer that leaves in mid-session says so, and a surplus one receives the reason why it waits`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                let peers = try await world.peers(2, of: server, for: person)
                let held = try await world.points.hold(.midEpoch, of: peers[0], round: 1)
                let other = try await world.points.hold(.midEpoch, of: peers[1], round: 1)
                var settings = Self.settings
                settings.peers = 2
                let started = try await person.startSession(settings, file: try world.blobs(rows: 600))
                let told = Task {
                    var words: [String] = []
                    for try await notice in try await person.events(id: started.sessionId) { words.append(notice.message) }
                    return words
                }
                let (first, second) = (try await world.points.reached(held), try await world.points.reached(other))
                _ = try await world.peers(1, of: server, for: person, prefix: "late")
                // The coordinator looks who is there every few seconds; the goodbye is seen after the newcomer.
                try await eventually("the newcomer is reported as waiting") {
                    server.process.standardError.contains("late-1 is available but not needed: the session has the 2 peers")
                }
                try await peers[0].send(SIGTERM)
                first.release()
                second.release()
                _ = try await peers[0].end()
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let words = try await told.value
                #expect(words.contains { $0.hasPrefix("peer-1 has left") }, "\(words)")
                #expect(!words.contains { $0.hasPrefix("peer-1 is lost") }, "\(words)")
                #expect(words.contains("late-1 joins at the next round"), "\(words)")
            }
        }

        @Test func `a frozen peer is lost; continued, its late answer changes nothing and it joins again`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                let peers = try await world.peers(3, of: server, for: person)
                let frozen = try await world.points.hold(.midEpoch, of: peers[1], round: 0)
                // The session is held open until the frozen one is back.
                let open = try await world.points.hold(.firstBatch, of: peers[0], round: 1)
                let joined = try await world.points.hold(.firstBatch, of: peers[0], round: 3)
                let started = try await person.startSession(Self.settings, file: try world.blobs(rows: 600))
                let late = try await world.points.reached(frozen)
                try await peers[1].send(SIGSTOP)
                late.release()
                try await eventually("the frozen peer is lost") {
                    try await person.peers().first { $0.name == "peer-2" }?.status == .offline
                }
                let held = try await world.points.reached(open)
                try await peers[1].send(SIGCONT)
                try await eventually("the continued peer is back, and free") {
                    try await person.peers().first { $0.name == "peer-2" }?.status == .online
                }
                held.release()
                let again = try await world.points.reached(joined)
                try await eventually("it has the data set again") {
                    let state = try await person.trainingStatus(id: started.sessionId).peers.first { $0.name == "peer-2" }?.state
                    return [.ready, .training, .done].contains(state)
                }
                again.release()
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let results = try await person.results(id: started.sessionId)
                let rows = try #require(results.rows)
                #expect(rows.least == Self.once && rows.most == Self.all, "the late answer is not counted: \(rows)")
                let back = try #require(results.peers.first { $0.name == "peer-2" })
                #expect(back.state != .lost && back.trainedSamples > 0, "it trained again: \(back)")
                try await eventually("no peer stays locked") { try await person.peers().allSatisfy { $0.status == .online } }
            }
        }

        @Test func `a cancelled session hands out its last checkpoint, and one that failed as well`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                let peers = try await world.peers(2, of: server, for: person)
                var settings = Self.settings
                settings.peers = 2
                for isCancelled in [true, false] {
                    let point = try await world.points.hold(.midEpoch, of: peers[0], round: 2)
                    let started = try await person.startSession(settings, file: try world.blobs(rows: 300))
                    let held = try await world.points.reached(point)
                    if isCancelled {
                        try await person.cancel(id: started.sessionId)
                    } else {
                        for peer in peers { try await peer.send(SIGKILL) }
                    }
                    let status = try await person.final(started.sessionId)
                    held.release()
                    #expect(status.status == (isCancelled ? .cancelled : .failed))
                    let model = "\(world.folder)/\(started.sessionId).safetensors"
                    try await eventually("the last checkpoint can be had") {
                        try await person.downloadModel(id: started.sessionId, to: model) > 0
                    }
                    let file = try ModelFile.decode([UInt8](Data(contentsOf: URL(filePath: model))))
                    let loss = try #require(file.metrics?.loss)
                    #expect(loss < 0.7, "it was trained for two rounds")
                    try await eventually("no peer stays locked") {
                        try await person.peers().allSatisfy { $0.status == (isCancelled ? .online : .offline) }
                    }
                }
            }
        }

        @Test func `the server killed during the upload: the client gets an error, nothing is half there`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                _ = try await world.peers(1, of: server, for: person)
                let csv = "\(world.folder)/large.csv"
                try Self.writeLarge(csv, megabytes: 256)
                let sent = Sent()
                await #expect(throws: CohortError.self) {
                    try await person.startSession(SessionSettings(), file: csv) { done, total in
                        if done > total / 4, sent.first() { kill(server.process.identifier ?? 0, SIGKILL) }
                    }
                }
                _ = try await server.process.end()
                _ = try await world.server("server-again", port: server.port)
                #expect(try await person.sessions().isEmpty)
                let leftovers = try FileManager.default.contentsOfDirectory(atPath: "\(world.folder)/server/objects/.tmp")
                #expect(leftovers.isEmpty, "a part that was never whole is gone after the restart: \(leftovers)")
                try await eventually("the peer is back, and free") { try await person.peers().allSatisfy { $0.status == .online } }
            }
        }

        static func writeLarge(_ path: String, megabytes: Int) throws {
            let lines = (1...4).map { "0.\($0)23456789,0.\($0)87654321,1.2345678\($0),2.345678\($0),3.45678\($0),class\($0)\n" }.joined()
            let block = [UInt8](String(repeating: lines, count: (1 << 20) / lines.utf8.count).utf8)
            _ = FileManager.default.createFile(atPath: path, contents: Data("a,b,c,d,e,y\n".utf8))
            guard let file = fopen(path, "a") else { throw TestFailure("cannot write \(path)") }
            defer { fclose(file) }
            for _ in 0..<megabytes { fwrite(block, 1, block.count, file) }
        }
    }
}

/// True once.
private final class Sent: Sendable {
    private let done = Mutex(false)
    func first() -> Bool {
        done.withLock { done in
            defer { done = true }
            return !done
        }
    }
}
