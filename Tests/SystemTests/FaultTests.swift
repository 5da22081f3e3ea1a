import CohortClient
import CohortCore
import FoundationEssentials
import Glibc
import Synchronization
import Testing

extension SystemSuite {
    /// Real processes, killed.
    @Suite(.serialized) struct Faults {
        /// Rounds long enough to hit, short enough to wait for.
        private static let settings = SessionSettings(peers: 3, rounds: 6, epochs: 30, batchSize: 2, lr: 0.005, hidden: [64, 64], seed: 5)

        private func inRound(_ round: Int, _ person: CohortClient, _ id: String) async throws {
            try await eventually("round \(round) is being trained") {
                let status = try await person.trainingStatus(id: id)
                guard !status.status.isFinal else {
                    throw Late(description: "the session ended (\(status.status)) before round \(round): \(status.error ?? "")")
                }
                return status.round >= round && status.peers.contains { $0.state == .training && $0.epoch > 0 }
            }
        }

        @Test func `a peer killed in the middle of an epoch: its rows go to the others and the session completes`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                let peers = try await world.peers(3, of: server, for: person)
                let started = try await person.startSession(Self.settings, file: try world.blobs(rows: 3_000))
                try await inRound(1, person, started.sessionId)
                try await peers[0].send(SIGKILL)
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let results = try await person.results(id: started.sessionId)
                #expect(results.peers.first { $0.name == "peer-1" }?.state == .lost)
                #expect(try #require(results.rows).least >= 1, "no row was lost")
                #expect(try #require(results.metrics.accuracy) > 0.9)
                try await eventually("nobody stays locked") {
                    try await person.peers().allSatisfy { $0.status == ($0.name == "peer-1" ? .offline : .online) }
                }
            }
        }

        @Test func `all peers killed: FAILED, with the reason, and nobody stays locked`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                let peers = try await world.peers(2, of: server, for: person)
                var settings = Self.settings
                settings.peers = 2
                let started = try await person.startSession(settings, file: try world.blobs(rows: 3_000))
                try await inRound(0, person, started.sessionId)
                for peer in peers { try await peer.send(SIGKILL) }
                let status = try await person.final(started.sessionId)
                #expect(status.status == .failed)
                #expect(try #require(status.error).contains("peer"))
                #expect(try await person.peers().allSatisfy { $0.status == .offline })
            }
        }

        @Test func `the server killed in the middle of a round goes on from the last finished one`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                _ = try await world.peers(3, of: server, for: person)
                let started = try await person.startSession(Self.settings, file: try world.blobs(rows: 3_000))
                try await inRound(2, person, started.sessionId)
                try await server.process.send(SIGKILL)
                _ = try await server.process.end()
                _ = try await world.server("server-again", port: server.port)
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let results = try await person.results(id: started.sessionId)
                let rows = try #require(results.rows)
                #expect(rows.least == 180 && rows.most == 180, "6 rounds of 30 epochs, none lost, none twice: \(rows)")
                #expect(try #require(results.metrics.accuracy) > 0.9)
            }
        }

        @Test func `a server away for 10 s: peers come back by themselves`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                _ = try await world.peers(2, of: server, for: person)
                var settings = Self.settings
                settings.peers = 2
                let started = try await person.startSession(settings, file: try world.blobs(rows: 3_000))
                try await inRound(1, person, started.sessionId)
                try await server.process.send(SIGTERM)
                _ = try await server.process.end()
                try await Task.sleep(for: .seconds(10))  // The length of the absence is what is tested.
                _ = try await world.server("server-again", port: server.port)
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
            }
        }

        @Test func `a frozen peer is given up; continued, its late answer changes nothing and it may join again`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                let peers = try await world.peers(3, of: server, for: person)
                var settings = Self.settings
                settings.rounds = 10
                let started = try await person.startSession(settings, file: try world.blobs(rows: 3_000))
                try await inRound(0, person, started.sessionId)
                try await peers[1].send(SIGSTOP)
                try await eventually("the frozen peer is lost") {
                    try await person.peers().first { $0.name == "peer-2" }?.status == .offline
                }
                try await peers[1].send(SIGCONT)
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                try await eventually("the continued peer is back") {
                    try await person.peers().allSatisfy { $0.status == .online }
                }
                let rows = try #require(try await person.results(id: started.sessionId).rows)
                #expect(rows.least >= 1 && rows.most <= 300, "no row lost, none counted twice: \(rows)")
            }
        }

        @Test func `the server killed during the upload: the client is told, nothing is half there`() async throws {
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
                let leftovers = try FileManager.default.contentsOfDirectory(atPath: "\(world.folder)/server/uploads")
                #expect(leftovers.isEmpty, "a part that was never whole is gone after the restart: \(leftovers)")
                try await eventually("the peer is back, and free") { try await person.peers().allSatisfy { $0.status == .online } }
            }
        }

        static func writeLarge(_ path: String, megabytes: Int) throws {
            let line = "0.123456789,0.987654321,1.23456789,2.3456789,3.456789,class1\n"
            let block = [UInt8](String(repeating: line, count: (1 << 20) / line.utf8.count).utf8)
            _ = FileManager.default.createFile(atPath: path, contents: Data("a,b,c,d,e,y\n".utf8))
            guard let file = fopen(path, "a") else { throw Late(description: "cannot write \(path)") }
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
