import CohortClient
import CohortCore
import CohortStrategies
import Testing

extension SystemSuite {
    @Suite(.serialized) struct Strategies {
        @Test(arguments: StrategyCatalogue.names) func `every strategy trains to a model that predicts`(name: String) async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                _ = try await world.peers(3, of: server, for: person)
                var settings = SessionSettings(
                    peers: 3, strategy: name, rounds: 6, epochs: 3, batchSize: 16, lr: 0.01, hidden: [16], seed: 3)
                settings.optimizerState = .keep
                let started = try await person.startSession(settings, file: try world.blobs(rows: 300))
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let results = try await person.results(id: started.sessionId)
                #expect(results.strategy == name && results.peers.count == 3)
                #expect(try #require(results.metrics.accuracy) > 0.95)
            }
        }
    }
}
