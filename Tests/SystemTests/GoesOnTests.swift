import CohortAPI
import CohortClient
import CohortCore
import CohortSession
import CohortWire
import FoundationEssentials
import Testing

extension SystemSuite {
    @Suite(.serialized) struct GoesOn {
        @Test func `training goes on from a model, on a file with its columns in another order`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                _ = try await world.peers(2, of: server, for: person)
                let csv = try world.blobs(rows: 300)
                let first = try await person.startSession(
                    SessionSettings(peers: 2, rounds: 4, epochs: 3, batchSize: 16, lr: 0.01, hidden: [16], seed: 3), file: csv)
                #expect(try await person.final(first.sessionId).status == .completed)
                let before = try #require(try await person.results(id: first.sessionId).metrics.accuracy)
                #expect(before > 0.95)

                // The columns reversed, and one that the model does not know.
                let rows = String(decoding: try Data(contentsOf: URL(filePath: csv)), as: UTF8.self).split(whereSeparator: \.isNewline)
                let reversed = rows.enumerated().map { line, row in
                    "\(line == 0 ? "extra" : "\(line * 7 % 11)")," + row.split(separator: ",").reversed().joined(separator: ",")
                }
                let other = try world.write(reversed.joined(separator: "\n"), to: "other.csv")
                // Steps too small to learn anything by: what it can, it could before.
                var still = SessionSettings(peers: 2, rounds: 1, lr: 1e-12, seed: 5)
                still.from = first.sessionId
                let second = try await person.startSession(still, file: other)
                let status = try await person.final(second.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let results = try await person.results(id: second.sessionId)
                #expect(try #require(results.metrics.accuracy) > 0.95)
                #expect(results.warnings.contains { $0.contains("'extra' is not a column of the model") }, "\(results.warnings)")
                let session = try await person.session(id: second.sessionId)
                #expect(session.settings.hidden == [16] && session.settings.from == first.sessionId)
                #expect(session.settings.target == "y")

                // Each peer from the model as well, when each has its own.
                still.strategy = "independent"
                let third = try await person.startSession(still, file: csv)
                #expect(try await person.final(third.sessionId).status == .completed)
                #expect(try #require(try await person.results(id: third.sessionId).metrics.accuracy) > 0.95)
            }
        }

        @Test func `what cannot go on is refused, and said`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                _ = try await world.peers(1, of: server, for: person)
                let csv = try world.blobs(rows: 60)
                let first = try await person.startSession(SessionSettings(rounds: 1, hidden: [4]), file: csv)
                #expect(try await person.final(first.sessionId).status == .completed)
                func start(_ settings: SessionSettings, _ file: String) async throws -> String {
                    let started: API.SessionStarted
                    do { started = try await person.startSession(settings, file: file) } catch let error as CohortError {
                        return error.message
                    }
                    return try await person.final(started.sessionId).error ?? "none"
                }
                var settings = SessionSettings(rounds: 1)
                settings.from = "ffff"
                #expect(try await start(settings, csv).contains("there is no session 'ffff' of yours"))
                settings.from = first.sessionId
                settings.target = "a"
                #expect(try await start(settings, csv).contains("not 'a'"))
                settings.target = nil

                let header = String(decoding: try Data(contentsOf: URL(filePath: csv)), as: UTF8.self).split(whereSeparator: \.isNewline)[0]
                func file(_ rows: [String], _ header: Substring = header) throws -> String {
                    try world.write(([String(header)] + rows).joined(separator: "\n"), to: "other.csv")
                }
                let unknown = try file((0..<20).map { "\($0 % 7),1,2,3,\($0 % 2 == 0 ? "class0" : "stranger")" })
                #expect(try await start(settings, unknown).contains("'stranger' in the target column"))
                let text = try file((0..<20).map { "\($0 == 5 ? "five" : "\($0)"),1,2,3,class\($0 % 2)" })
                #expect(try await start(settings, text).contains("line 7: 'five' in the column 'a' is not a number"))
                let lacking = try file(
                    (0..<20).map { "\($0),1,2,class\($0 % 2)" }, header.split(separator: ",")[1...].joined(separator: ",")[...])
                #expect(try await start(settings, lacking).contains("columns are missing that the model predicts from: a"))

                let stranger = try await world.person(server, email: "eve@example.org")
                let refused = await #expect(throws: CohortError.self) { try await stranger.startSession(settings, file: csv) }
                #expect(refused?.message.contains("there is no session") == true, "\(refused?.message ?? "")")
            }
        }
    }
}
