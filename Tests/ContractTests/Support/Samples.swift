import CohortCore
import CohortSession
import CohortWire
import Foundation

/// Noon of some day, and seconds later.
func moment(_ seconds: Double = 0) -> Date { Date(timeIntervalSince1970: 1_769_860_800 + seconds) }

extension User {
    static func sample(id: String = newIdentifier(), email: String = "ada@example.org") -> User {
        User(id: id, email: email, name: "Ada", passwordHash: "$2b$12$hash", createdAt: moment())
    }
}

extension JoinToken {
    static func sample(id: String = newIdentifier(), userId: String = "ada", createdAt: Date = moment()) -> JoinToken {
        JoinToken(id: id, userId: userId, name: "laptops", createdAt: createdAt, expiresAt: moment(3600))
    }
}

extension SignIn {
    static func sample(id: String = newIdentifier(), userId: String = "ada", createdAt: Date = moment()) -> SignIn {
        SignIn(
            id: id, userId: userId, client: "Firefox \"140\"", network: "192.0.2.0", createdAt: createdAt,
            expiresAt: createdAt.addingTimeInterval(3600))
    }
}

extension Peer {
    static func sample(id: String = newIdentifier(), name: String = "laptop", owner: String = "ada") -> Peer {
        Peer(
            id: id, name: name, ownerId: owner, tokenId: "token",
            capabilities: PeerCapabilities(
                cores: 8, memoryBytes: 16 << 30, engine: "native", device: "cpu", samplesPerSecond: 123_456.5, platform: "Linux x86_64",
                version: "0.1.0"),
            registeredAt: moment(), lastSeen: moment())
    }
}

extension Session {
    static func sample(id: String = newIdentifier(), owner: String = "ada", createdAt: Date = moment()) -> Session {
        Session(
            id: id, ownerId: owner, createdAt: createdAt,
            settings: SessionSettings(seed: 9_007_199_254_740_991, perPeer: ["$lab.machine 50%": SessionSettings.Override(batchSize: 7)]),
            peers: [SessionPeer(.sample())],
            upload: ObjectReference(key: "\(id).csv", sha256: "ab", bytes: 7), filename: "penguins.csv")
    }
}

extension MetricPoint {
    static func sample(
        session: String = "s", peer: String? = "p", round: Int = 0, epoch: Int = 1, loss: Double? = 0.5, at seconds: Double = 0
    ) -> MetricPoint {
        MetricPoint(
            sessionId: session, peerId: peer, peerName: peer, round: round, epoch: epoch, loss: loss, accuracy: 0.25, r2: nil,
            samplesPerSecond: 1000, time: moment(seconds))
    }
}

extension DatasetInfo {
    static let sample = DatasetInfo(
        filename: "f.csv", csvLink: "s3://b/k", object: ObjectReference(key: "k", sha256: "ab", bytes: 7),
        schema: TableSchema(
            hasHeader: true, delimiter: ",", columns: [.init(name: "x", kind: .numeric, mean: 0, std: 1), .init(name: "y", kind: .target)],
            target: "y", task: .classification, classes: ["a", "b"], validation: 0.2, splitSeed: 1, trainingRows: 90, validationRows: 30,
            droppedRows: 0),
        schemaObject: ObjectReference(key: "schemas/s.json", sha256: "", bytes: 1), warnings: [])
}

extension Documents {
    /// Records points of sessions, which are inserted first where they are missing.
    func add(_ points: [MetricPoint]) async throws {
        for (id, points) in Dictionary(grouping: points, by: \.sessionId) {
            let known = try await session(id: id)
            if known == nil { try await insert(Session.sample(id: id)) }
            try await record(SessionRecord(points: points), sessionId: id, generation: known?.generation ?? 0)
        }
    }
}
