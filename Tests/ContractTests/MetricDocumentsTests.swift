import CohortCore
import CohortSession
import Testing

@Suite
struct MetricDocumentsTests {
    @Test(arguments: DocumentStore.all)
    func `A repeated point counts once, and the first stays`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            let peer = MetricPoint.sample(loss: 0.5)
            let global = MetricPoint.sample(peer: nil, epoch: 0, loss: 0.4, at: 1)
            try await documents.add([peer, global])
            try await documents.add([.sample(loss: 99, at: 2), .sample(peer: nil, epoch: 0, loss: 99, at: 2)])
            try await documents.add([])
            #expect(try await documents.metrics(sessionId: "s") == [peer, global])
        }
    }

    @Test(arguments: DocumentStore.all)
    func `Points differ by session, peer, round and epoch, and come in the order of time`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            let points = [
                MetricPoint.sample(at: 5), .sample(epoch: 2, at: 4), .sample(round: 1, at: 3), .sample(peer: "q", at: 2),
                .sample(peer: nil, at: 1), .sample(session: "t", at: 0),
            ]
            try await documents.add(points)
            #expect(try await documents.metrics(sessionId: "s") == points.dropLast().reversed())
            #expect(try await documents.metrics(sessionId: "t") == [points[5]])
            #expect(try await documents.metrics(sessionId: "u") == [])
        }
    }

    @Test(arguments: DocumentStore.all)
    func `Of many points a curve gets an even choice, with the first and the last`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            let many = (0..<103).map { MetricPoint.sample(round: $0 / 10, epoch: $0 % 10, at: Double($0)) }
            let few = [MetricPoint.sample(peer: nil, at: 200), .sample(peer: nil, round: 1, at: 201)]
            try await documents.add(many.reversed() + few)
            let chosen = try await documents.metrics(sessionId: "s", maxPerPeer: 20)
            #expect(chosen.filter { $0.peerId == nil } == few)
            #expect(chosen.filter { $0.peerId != nil } == stride(from: 0, to: 103, by: 6).map { many[$0] })
            #expect(try await documents.metrics(sessionId: "s", maxPerPeer: 10).last == many.last)
            #expect(try await documents.metrics(sessionId: "s", maxPerPeer: 200).count == 105)
            #expect(try await documents.metrics(sessionId: "t", maxPerPeer: 10).isEmpty)
        }
    }

    @Test(arguments: DocumentStore.all)
    func `A loss that is not a number is stored as absent`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            try await documents.add([.sample(epoch: 1, loss: .nan), .sample(epoch: 2, loss: .infinity, at: 1)])
            #expect(try await documents.metrics(sessionId: "s").map(\.loss) == [nil, nil])
        }
    }
}
