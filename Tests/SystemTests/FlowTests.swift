import CohortAPI
import CohortClient
import CohortCore
import CohortSession
import CohortWire
import FoundationEssentials
import TestSupport
import Testing

extension SystemSuite {
    @Suite(.serialized) struct Flow {
        @Test func `fedavg over three peers trains, reports, and leaves a model that predicts`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                _ = try await world.peers(3, of: server, for: person)
                let csv = try world.blobs(rows: 300)
                let settings = SessionSettings(peers: 3, rounds: 4, epochs: 3, batchSize: 16, lr: 0.01, hidden: [16], seed: 3)
                let started = try await person.startSession(settings, file: csv)
                #expect(started.peers.count == 3)

                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                #expect(status.progress == 1)

                let results = try await person.results(id: started.sessionId)
                #expect(try #require(results.metrics.accuracy) > 0.95)
                #expect(results.peers.count == 3)
                let rows = try #require(results.rows)
                #expect(rows.least == 12 && rows.most == 12, "every row once an epoch: 4 rounds of 3")

                let points = try await person.metrics(id: started.sessionId)
                #expect(points.count { $0.peerId != nil } == 3 * 4 * 3, "a point a peer and epoch")

                let model = "\(world.folder)/model.safetensors"
                try await person.downloadModel(id: started.sessionId, to: model)
                let prediction = try await person.predict(
                    id: started.sessionId, rows: [["a": .number(-2), "b": .number(-2), "c": .number(0), "d": .null]])
                #expect(prediction.predictions == [.text("class0")])
                let lacking = await #expect(throws: CohortError.self) {
                    try await person.predict(id: started.sessionId, rows: [["a": .number(-2), "e": .number(1)]])
                }
                #expect(lacking?.message.contains("missing that the model predicts from: b, c, d") == true, "\(lacking?.message ?? "")")

                let peers = try await person.peers()
                #expect(peers.allSatisfy { $0.status == .online }, "no peer stays locked")
            }
        }

        @Test func `independent keeps the best peer's model, with overrides per peer`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                _ = try await world.peers(2, of: server, for: person)
                let csv = try world.blobs(rows: 200)
                let settings = SessionSettings(
                    peers: 2, strategy: "independent", epochs: 20, batchSize: 16, lr: 0.01, hidden: [16], seed: 3,
                    perPeer: ["peer-2": .init(epochs: 1, lr: 0.000_001)])
                let started = try await person.startSession(settings, file: csv)
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let results = try await person.results(id: started.sessionId)
                #expect(results.bestPeer == "peer-1")
                let losses = Dictionary(uniqueKeysWithValues: results.peers.map { ($0.name, $0.loss ?? .infinity) })
                #expect(try #require(losses["peer-1"]) < #require(losses["peer-2"]))
            }
        }

        @Test func `the same seed, data, settings and peers give the same model, bit by bit`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                _ = try await world.peers(2, of: server, for: person)
                let csv = try world.blobs(rows: 150)
                let settings = SessionSettings(peers: 2, rounds: 3, epochs: 2, batchSize: 8, lr: 0.01, hidden: [8], dropout: 0.1, seed: 11)
                var weights: [[UInt8]] = []
                for run in 1...2 {
                    let started = try await person.startSession(settings, file: csv)
                    #expect(try await person.final(started.sessionId).status == .completed)
                    let path = "\(world.folder)/model-\(run).safetensors"
                    try await person.downloadModel(id: started.sessionId, to: path)
                    // Behind the header, which names the session, stand the tensors.
                    let bytes = [UInt8](try Data(contentsOf: URL(filePath: path)))
                    let header = bytes[..<8].enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
                    weights.append(Array(bytes[(8 + header)...]))
                }
                #expect(weights[0] == weights[1] && !weights[0].isEmpty)
            }
        }

        @Test func `a session is cancelled, its peers are free for the next`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                _ = try await world.peers(1, of: server, for: person)
                let csv = try world.blobs(rows: 3_000)
                let endless = SessionSettings(peers: 1, strategy: "independent", epochs: 100_000, batchSize: 4)
                let started = try await person.startSession(endless, file: csv)
                try await eventually("training") { try await person.trainingStatus(id: started.sessionId).epoch > 0 }
                try await person.cancel(id: started.sessionId)
                #expect(try await person.final(started.sessionId, within: .seconds(10)).status == .cancelled)
                try await eventually("the peer is free", within: .seconds(10)) {
                    try await person.peers().allSatisfy { $0.status == .online }
                }
            }
        }
    }
}
