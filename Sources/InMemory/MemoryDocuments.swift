import CohortCore
public import CohortSession
import CohortWire
public import FoundationEssentials
import Synchronization

/// Documents in memory: what the port means, in the fewest lines. For tests; nothing outlives the process.
public final class MemoryDocuments: Documents {
    struct State {
        var users: [User] = []
        var tokens: [JoinToken] = []
        var signIns: [SignIn] = []
        var peers: [String: Peer] = [:]
        /// The last registration of peers that were deleted.
        var deleted: [String: Int] = [:]
        /// Sessions in the order of insertion.
        var sessions: [Session] = []
        var points: [MetricPoint] = []
        var rounds: [String: [Int: RoundSummary]] = [:]
        var answers: [String: [String: RecordedAnswer]] = [:]
        var versions: [String: (ownerId: String, title: String, version: Int)] = [:]

        func signIns(of userId: String) -> [SignIn] {
            signIns.filter { $0.userId == userId }.sorted { ($0.createdAt, $0.id) > ($1.createdAt, $1.id) }
        }

        func index(_ id: String) -> Int? { sessions.firstIndex { $0.id == id } }
    }

    let state = Mutex(State())

    public init() {}

    public func ready() async throws {}

    public func close() async throws {}

    // MARK: Users

    public func insert(_ user: User) async throws {
        try state.withLock { state in
            var user = user
            user.email = user.email.lowercased()
            guard !state.users.contains(where: { $0.email == user.email }) else {
                throw CohortError(.conflict, "\(user.email) is already registered")
            }
            state.users.append(user)
        }
    }

    public func user(id: String) async throws -> User? { state.withLock { $0.users.first { $0.id == id } } }

    public func user(email: String) async throws -> User? {
        state.withLock { $0.users.first { $0.email == email.lowercased() } }
    }

    public func setPassword(userId: String, hash: String, at date: Date) async throws -> Bool {
        state.withLock { state in
            guard let index = state.users.firstIndex(where: { $0.id == userId }) else { return false }
            state.users[index].passwordHash = hash
            state.users[index].passwordChangedAt = date
            return true
        }
    }

    public func deleteUser(id: String) async throws {
        state.withLock { state in
            state.users.removeAll { $0.id == id }
            state.tokens.removeAll { $0.userId == id }
            state.signIns.removeAll { $0.userId == id }
        }
    }

    public func insert(_ token: JoinToken) async throws {
        try state.withLock { state in
            guard !state.tokens.contains(where: { $0.id == token.id }) else {
                throw CohortError(.conflict, "there is a join token \(token.id) already")
            }
            state.tokens.append(token)
        }
    }

    public func joinToken(id: String) async throws -> JoinToken? { state.withLock { $0.tokens.first { $0.id == id } } }

    public func joinTokens(userId: String) async throws -> [JoinToken] {
        state.withLock { $0.tokens.filter { $0.userId == userId }.sorted { ($0.createdAt, $0.id) < ($1.createdAt, $1.id) } }
    }

    public func revokeJoinToken(id: String, userId: String, at date: Date) async throws -> Bool {
        state.withLock { state in
            guard let index = state.tokens.firstIndex(where: { $0.id == id && $0.userId == userId }) else { return false }
            state.tokens[index].revokedAt = state.tokens[index].revokedAt ?? date
            return true
        }
    }

    public func insert(_ signIn: SignIn) async throws {
        try state.withLock { state in
            guard !state.signIns.contains(where: { $0.id == signIn.id }) else {
                throw CohortError(.conflict, "there is a sign-in \(signIn.id) already")
            }
            state.signIns.append(signIn)
            let old = Set(state.signIns(of: signIn.userId).dropFirst(SignIn.maxPerUser).map(\.id))
            state.signIns.removeAll { old.contains($0.id) }
        }
    }

    public func signIn(id: String) async throws -> SignIn? { state.withLock { $0.signIns.first { $0.id == id } } }

    public func signIns(userId: String) async throws -> [SignIn] { state.withLock { $0.signIns(of: userId) } }

    public func deleteSignIn(id: String, userId: String) async throws -> Bool {
        state.withLock { state in
            guard let index = state.signIns.firstIndex(where: { $0.id == id && $0.userId == userId }) else { return false }
            state.signIns.remove(at: index)
            return true
        }
    }

    public func deleteSignIns(userId: String) async throws { state.withLock { $0.signIns.removeAll { $0.userId == userId } } }

    public func deleteSignIns(expiredBy date: Date) async throws { state.withLock { $0.signIns.removeAll { $0.expiresAt <= date } } }
}

extension MemoryDocuments.State {
    mutating func free(_ peerId: String) {
        peers[peerId]?.sessionId = nil
        if peers[peerId]?.status == .training { peers[peerId]?.status = .online }
    }

    mutating func add(_ record: SessionRecord, _ sessionId: String) {
        for var point in record.points {
            let isThere = points.contains {
                $0.sessionId == point.sessionId && $0.peerId == point.peerId && $0.round == point.round && $0.epoch == point.epoch
            }
            guard !isThere else { continue }
            func finite(_ value: Double?) -> Double? { value.flatMap { $0.isFinite ? $0 : nil } }
            point.loss = finite(point.loss)
            point.accuracy = finite(point.accuracy)
            point.r2 = finite(point.r2)
            point.samplesPerSecond = finite(point.samplesPerSecond)
            points.append(point)
        }
        for round in record.rounds { rounds[sessionId, default: [:]][round.round] = round }
        for answer in record.answers { answers[sessionId, default: [:]][answer.peerId] = answer }
    }
}
