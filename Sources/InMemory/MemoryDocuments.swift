import CohortCore
public import CohortSession
public import CohortWire
public import FoundationEssentials
import Synchronization

/// Documents in memory: what the port means, in the fewest lines. For tests; nothing outlives the process.
public final class MemoryDocuments: Documents {
    fileprivate struct State {
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

    private let state = Mutex(State())

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

    // MARK: Peers

    public func register(_ peer: Peer) async throws -> Peer {
        try state.withLock { state in
            let earlier = state.peers[peer.id]
            if let earlier, earlier.ownerId != peer.ownerId {
                throw CohortError(.conflict, "the peer id \(peer.id) belongs to another user")
            }
            var stored = peer
            stored.sessionId = earlier?.sessionId
            stored.status = stored.sessionId == nil ? .online : .training
            stored.registration = (earlier?.registration ?? state.deleted[peer.id]).map { $0 + 1 } ?? peer.registration
            state.peers[peer.id] = stored
            state.deleted[peer.id] = nil
            return stored
        }
    }

    public func peer(id: String) async throws -> Peer? { state.withLock { $0.peers[id] } }

    public func peers() async throws -> [Peer] { peers { _ in true } }

    public func peers(visibleTo ownerId: String) async throws -> [Peer] { peers { $0.ownerId == ownerId || $0.serve == .everyone } }

    public func peerCounts() async throws -> [PeerStatus: Int] {
        Dictionary(grouping: peers { _ in true }, by: \.status).mapValues(\.count)
    }

    public func peers(ofSession sessionId: String) async throws -> [Peer] { peers { $0.sessionId == sessionId } }

    public func peers(named name: String) async throws -> [NamedPeer] {
        peers { NamedPeer.isMade($0.name, from: name) }.map {
            NamedPeer(id: $0.id, name: $0.name, status: $0.status, lastSeen: $0.lastSeen)
        }
    }

    public func livingPeers(tokenId: String) async throws -> Int { peers { $0.tokenId == tokenId && $0.status != .offline }.count }

    public func deletePeers(unseenSince date: Date) async throws -> Int {
        let gone = peers { $0.status == .offline && $0.sessionId == nil && $0.lastSeen < date }
        for peer in gone { try await deletePeer(id: peer.id) }
        return gone.count
    }

    public func availablePeers() async throws -> [Peer] { peers { $0.status == .online && $0.sessionId == nil } }

    private func peers(where condition: (Peer) -> Bool) -> [Peer] {
        state.withLock { $0.peers.values.filter(condition).sorted { ($0.name, $0.id) < ($1.name, $1.id) } }
    }

    public func freeStrayPeers() async throws -> [String] {
        state.withLock { state in
            let sessions = state.sessions.filter { !$0.status.isFinal || $0.isEnding == true }.map(\.id)
            let strays = state.peers.values.filter { $0.sessionId.map { !sessions.contains($0) } ?? false }.map(\.id).sorted()
            for id in strays { state.free(id) }
            return strays
        }
    }

    public func touch(_ beats: [PeerBeat]) async throws {
        state.withLock { state in
            for beat in beats {
                guard let peer = state.peers[beat.peerId], peer.registration == beat.registration, peer.status != .offline else { continue }
                state.peers[beat.peerId]?.lastSeen = beat.seen
            }
        }
    }

    public func claim(peerId: String, sessionId: String) async throws -> Bool {
        state.withLock { state in
            guard let peer = state.peers[peerId], peer.status == .online, peer.sessionId == nil else { return false }
            state.peers[peerId]?.sessionId = sessionId
            state.peers[peerId]?.status = .training
            return true
        }
    }

    public func free(peerId: String, sessionId: String) async throws {
        state.withLock { state in
            if state.peers[peerId]?.sessionId == sessionId { state.free(peerId) }
        }
    }

    public func freePeers(ofSession sessionId: String) async throws {
        state.withLock { state in
            for peer in state.peers.values where peer.sessionId == sessionId { state.free(peer.id) }
        }
    }

    public func setOffline(peerId: String, registration: Int?, hasLeft: Bool) async throws {
        state.withLock { state in
            guard let peer = state.peers[peerId], registration == nil || peer.registration == registration else { return }
            state.peers[peerId]?.status = .offline
            state.peers[peerId]?.offlineReason = hasLeft ? .left : .silent
        }
    }

    public func deletePeer(id: String) async throws {
        state.withLock { state in
            guard let peer = state.peers.removeValue(forKey: id) else { return }
            state.deleted[id] = peer.registration
        }
    }

    // MARK: Sessions

    public func insert(_ session: Session, sharesUpload: Bool) async throws {
        try check(session)
        try state.withLock { state in
            guard state.index(session.id) == nil else { throw CohortError(.conflict, "there is a session \(session.id) already") }
            if let key = session.upload?.key {
                let others = state.sessions.filter {
                    $0.upload?.key == key && (!sharesUpload || $0.ownerId == session.ownerId && $0.dataset != nil)
                }
                guard others.isEmpty != sharesUpload else {
                    throw sharesUpload
                        ? CohortError(.notFound, "no session has the upload \(key) any more")
                        : CohortError(.conflict, "there is a session with the data set key \(key) already")
                }
            }
            state.sessions.append(session)
        }
    }

    public func session(id: String) async throws -> Session? {
        state.withLock { state in state.index(id).map { state.sessions[$0] } }
    }

    public func sessions(ownerId: String, limit: Int, before id: String?) async throws -> [Session] {
        state.withLock { state in
            var sessions = state.sessions.enumerated().filter { $0.element.ownerId == ownerId }
                .sorted { ($0.element.createdAt, $0.offset) > ($1.element.createdAt, $1.offset) }[...]
            if let id { sessions = sessions.drop { $0.element.id != id }.dropFirst() }
            return sessions.prefix(max(0, limit)).map(\.element)
        }
    }

    public func unfinishedSessions() async throws -> [String] {
        state.withLock { state in
            state.sessions.enumerated().filter { !$0.element.status.isFinal || $0.element.isEnding == true }
                .sorted { ($0.element.createdAt, $0.offset) < ($1.element.createdAt, $1.offset) }.map(\.element.id)
        }
    }

    public func sessionCounts() async throws -> [SessionStatus: Int] {
        state.withLock { $0.sessions.reduce(into: [:]) { $0[$1.status, default: 0] += 1 } }
    }

    public func usedUploads(of keys: [String], besides sessionId: String?) async throws -> Set<String> {
        let used = state.withLock { Set($0.sessions.filter { $0.id != sessionId }.compactMap { $0.upload?.key }) }
        return used.intersection(keys)
    }

    public func takeModelVersion(of session: Session) async throws -> Int {
        state.withLock { state in
            if let taken = state.versions[session.id] { return taken.version }
            let taken = state.versions.values.filter { $0.ownerId == session.ownerId && $0.title == session.title }.map(\.version)
            let named = state.sessions.filter { $0.ownerId == session.ownerId && $0.title == session.title && $0.id != session.id }
                .compactMap(\.modelVersion)
            let version = ((taken + named).max() ?? 0) + 1
            state.versions[session.id] = (session.ownerId, session.title, version)
            return version
        }
    }

    public func deleteSession(id: String) async throws {
        state.withLock { state in
            state.versions[id] = nil
            state.sessions.removeAll { $0.id == id }
            state.points.removeAll { $0.sessionId == id }
            state.rounds[id] = nil
            state.answers[id] = nil
        }
    }

    public func update(_ session: Session, recording record: SessionRecord) async throws -> Session {
        var stored = session
        stored.revision += 1
        try check(stored)
        let changed = stored
        return try state.withLock { state in
            var stored = changed
            guard let index = state.index(session.id) else { throw CohortError(.notFound, "there is no session \(session.id)") }
            let current = state.sessions[index]
            guard current.revision == session.revision, current.generation == session.generation else {
                throw CohortError(.conflict, "session \(session.id) has changed; read it again")
            }
            stored.lease = current.lease
            stored.cancelRequested = current.cancelRequested
            state.sessions[index] = stored
            state.add(record, session.id)
            if session.status.isFinal { state.answers[session.id] = nil }
            return stored
        }
    }

    public func record(_ record: SessionRecord, sessionId: String, generation: Int) async throws {
        try state.withLock { state in
            guard let index = state.index(sessionId) else { throw CohortError(.notFound, "there is no session \(sessionId)") }
            guard state.sessions[index].generation == generation else {
                throw CohortError(.conflict, "session \(sessionId) is of another generation by now")
            }
            state.add(record, sessionId)
        }
    }

    public func answers(sessionId: String) async throws -> [RecordedAnswer] {
        state.withLock { ($0.answers[sessionId] ?? [:]).values.sorted { $0.peerId < $1.peerId } }
    }

    public func rounds(sessionId: String) async throws -> [RoundSummary] {
        state.withLock { ($0.rounds[sessionId] ?? [:]).values.sorted { $0.round < $1.round } }
    }

    public func takeLease(sessionId: String, owner: String, now: Date, expiresAt: Date) async throws -> Session? {
        try state.withLock { state in
            guard let index = state.index(sessionId) else { throw CohortError(.notFound, "there is no session \(sessionId)") }
            let lease = state.sessions[index].lease
            guard lease.map({ $0.owner == owner || $0.expiresAt <= now }) ?? true else { return nil }
            state.sessions[index].generation += 1
            state.sessions[index].lease = Lease(owner: owner, expiresAt: expiresAt)
            return state.sessions[index]
        }
    }

    public func renewLease(sessionId: String, owner: String, generation: Int, expiresAt: Date) async throws -> HeldLease? {
        state.withLock { state in
            guard let index = state.index(sessionId), state.sessions[index].lease?.owner == owner,
                state.sessions[index].generation == generation
            else { return nil }
            state.sessions[index].lease?.expiresAt = expiresAt
            return HeldLease(cancelRequested: state.sessions[index].cancelRequested)
        }
    }

    public func requestCancel(sessionId: String) async throws -> Session? {
        state.withLock { state in
            guard let index = state.index(sessionId) else { return nil }
            if !state.sessions[index].status.isFinal { state.sessions[index].cancelRequested = true }
            return state.sessions[index]
        }
    }

    // MARK: Transfer

    public func users(after id: String?, limit: Int) async throws -> [User] { page(state.withLock { $0.users }, after: id, limit) }

    public func peers(after id: String?, limit: Int) async throws -> [Peer] {
        page(state.withLock { Array($0.peers.values) }, after: id, limit)
    }

    public func deletedPeers(after id: String?, limit: Int) async throws -> [DeletedPeer] {
        let all = state.withLock { $0.deleted.sorted { $0.key < $1.key } }
        return Array(all.filter { $0.key > id ?? "" }.prefix(max(0, limit)).map { DeletedPeer(id: $0.key, registration: $0.value) })
    }

    public func sessions(after id: String?, limit: Int) async throws -> [Session] {
        page(state.withLock { $0.sessions }, after: id, limit)
    }

    private func page<Value: Identifiable>(_ all: [Value], after id: String?, _ limit: Int) -> [Value] where Value.ID == String {
        Array(all.filter { $0.id > id ?? "" }.sorted { $0.id < $1.id }.prefix(max(0, limit)))
    }

    public func restore(_ peer: Peer) async throws { state.withLock { $0.peers[peer.id] = peer } }

    public func restore(_ peer: DeletedPeer) async throws { state.withLock { $0.deleted[peer.id] = peer.registration } }

    // MARK: Metrics

    public func metrics(sessionId: String) async throws -> [MetricPoint] {
        state.withLock { state in
            state.points.enumerated().filter { $0.element.sessionId == sessionId }
                .sorted { ($0.element.time, $0.offset) < ($1.element.time, $1.offset) }.map(\.element)
        }
    }

    /// Checks that a document is valid JSON, as a document store requires.
    private func check(_ session: Session) throws {
        do {
            _ = try CohortJSON.encode(session)
        } catch {
            throw CohortError(.internal, "session \(session.id) could not be stored as JSON: \(error)")
        }
    }
}

extension MemoryDocuments.State {
    fileprivate mutating func free(_ peerId: String) {
        peers[peerId]?.sessionId = nil
        if peers[peerId]?.status == .training { peers[peerId]?.status = .online }
    }

    fileprivate mutating func add(_ record: SessionRecord, _ sessionId: String) {
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
