public import CohortWire
public import FoundationEssentials

/// The document store: users, tokens, peers, sessions, metrics. Every method is atomic and durable when it returns.
public protocol Documents: UserDocuments, PeerDocuments, SessionDocuments, MetricDocuments, TransferDocuments {
    /// - Throws: ``CohortError`` `unavailable` when the store cannot be used now, in one sentence.
    func ready() async throws
    /// Waits for running calls, then closes the store. Later calls throw `unavailable`. Idempotent.
    func close() async throws
}

public protocol UserDocuments: Sendable {
    /// - Throws: ``CohortError`` `conflict` when the e-mail is taken.
    func insert(_ user: User) async throws
    func user(id: String) async throws -> User?
    /// Finds a user by the lowercased e-mail.
    func user(email: String) async throws -> User?
    /// - Parameter hash: bcrypt's.
    /// - Returns: false when there is no such user.
    func setPassword(userId: String, hash: String, at date: Date) async throws -> Bool
    /// Removes the user, the user's join tokens and sign-ins. Idempotent.
    func deleteUser(id: String) async throws
    func insert(_ token: JoinToken) async throws
    func joinToken(id: String) async throws -> JoinToken?
    func joinTokens(userId: String) async throws -> [JoinToken]
    /// - Returns: false when this user has none with the id.
    func revokeJoinToken(id: String, userId: String, at date: Date) async throws -> Bool
    /// Keeps the user's newest ``SignIn/maxPerUser`` sign-ins; those beyond are removed.
    /// - Throws: ``CohortError`` `conflict` when there is one with the id.
    func insert(_ signIn: SignIn) async throws
    func signIn(id: String) async throws -> SignIn?
    /// Newest first.
    func signIns(userId: String) async throws -> [SignIn]
    /// - Returns: false when this user has none with the id.
    func deleteSignIn(id: String, userId: String) async throws -> Bool
    /// Removes all sign-ins of a user. Idempotent.
    func deleteSignIns(userId: String) async throws
    /// Removes the sign-ins of all users that have expired by `date`. Idempotent.
    func deleteSignIns(expiredBy date: Date) async throws
}

public protocol PeerDocuments: Sendable {
    /// Inserts, or replaces what an earlier registration of the same id said. Keeps `sessionId` (a peer that comes back is still
    /// locked to its session), raises `registration`, sets ONLINE or, when locked, TRAINING.
    /// - Returns: the peer as stored.
    /// - Throws: `conflict` when the id belongs to another owner.
    func register(_ peer: Peer) async throws -> Peer
    func peer(id: String) async throws -> Peer?
    /// Sorted by name, then id.
    func peers() async throws -> [Peer]
    /// The owner's own, and those that serve everyone; sorted by name, then id.
    func peers(visibleTo ownerId: String) async throws -> [Peer]
    /// The number of peers of each status.
    func peerCounts() async throws -> [PeerStatus: Int]
    /// Those that are locked to the session.
    func peers(ofSession sessionId: String) async throws -> [Peer]
    /// Who has the name or, with a number behind it, one made from it (`lab-pc`, `lab-pc-2`, …), in no order.
    func peers(named name: String) async throws -> [NamedPeer]
    /// The number of peers of the join token that are not OFFLINE.
    func livingPeers(tokenId: String) async throws -> Int
    /// ONLINE, and locked to no session.
    func availablePeers() async throws -> [Peer]
    /// Frees peers whose session is over and has freed its peers, or is not there: whom a crash has left locked.
    /// - Returns: their ids.
    func freeStrayPeers() async throws -> [String]
    /// Sets `lastSeen` for many at once, where the registration still is the given one and the peer is not OFFLINE.
    func touch(_ beats: [PeerBeat]) async throws
    /// Locks one ONLINE peer to a session by compare-and-set: `sessionId` nil → `sessionId`, status TRAINING.
    /// - Returns: false when it was not ONLINE and free.
    func claim(peerId: String, sessionId: String) async throws -> Bool
    /// Frees the peer if it is locked to this session: TRAINING becomes ONLINE, OFFLINE stays. Idempotent.
    func free(peerId: String, sessionId: String) async throws
    /// Frees all peers of a session. Idempotent.
    func freePeers(ofSession sessionId: String) async throws
    /// OFFLINE, if the registration still is the given one (nil: whichever).
    /// - Parameter hasLeft: it said goodbye.
    func setOffline(peerId: String, registration: Int?, hasLeft: Bool) async throws
    func deletePeer(id: String) async throws
    /// Deletes the peers that are OFFLINE, locked to no session and were last seen before `date`.
    /// - Returns: how many there were.
    func deletePeers(unseenSince date: Date) async throws -> Int
}

/// A peer's name, and whether it is still in use.
public struct NamedPeer: Codable, Hashable, Sendable {
    public var id: String
    public var name: String
    public var status: PeerStatus
    public var lastSeen: Date

    public init(id: String, name: String, status: PeerStatus, lastSeen: Date) {
        self.id = id
        self.name = name
        self.status = status
        self.lastSeen = lastSeen
    }

    /// Returns whether `name` is `base`, or `base`, a hyphen and a number of at most nine digits.
    public static func isMade(_ name: String, from base: String) -> Bool {
        guard name != base else { return true }
        guard name.hasPrefix("\(base)-") else { return false }
        let number = name.dropFirst(base.count + 1)
        return (1...9).contains(number.count) && number.allSatisfy { $0.isASCII && $0.isNumber }
    }
}

public struct PeerBeat: Hashable, Sendable {
    public var peerId: String
    public var registration: Int
    public var seen: Date

    public init(peerId: String, registration: Int, seen: Date) {
        self.peerId = peerId
        self.registration = registration
        self.seen = seen
    }
}

public protocol SessionDocuments: Sendable {
    /// - Parameter sharesUpload: its upload is that of another session of the owner's, which was trained on it.
    /// - Throws: ``CohortError`` `conflict` when its id is taken, or the key of an upload that should be its own; `notFound` when there is no session
    ///   any more that it could share an upload with.
    func insert(_ session: Session, sharesUpload: Bool) async throws
    func session(id: String) async throws -> Session?
    /// Newest first.
    /// - Parameter before: the id of the last session of the page before; nil: from the newest on. Of one that is not there: none.
    func sessions(ownerId: String, limit: Int, before id: String?) async throws -> [Session]
    /// Summaries of ``sessions(ownerId:limit:before:)``: a store may return them without reading whole documents.
    func sessionSummaries(ownerId: String, limit: Int, before id: String?) async throws -> [SessionSummary]
    /// The ids of all that are not final, or are final and still ending, oldest first. Not the documents: one that cannot be read keeps
    /// none of the others.
    func unfinishedSessions() async throws -> [String]
    /// The number of sessions of each status.
    func sessionCounts() async throws -> [SessionStatus: Int]
    /// Those of the object keys that a session's upload has.
    /// - Parameter besides: a session that does not count.
    func usedUploads(of keys: [String], besides sessionId: String?) async throws -> Set<String>
    /// Removes a session with its records. Idempotent. The caller removes its objects.
    func deleteSession(id: String) async throws
    /// Stores `session` if the stored revision and generation are the session's; the stored revision then is one more. Its lease, a wish to
    /// cancel and its labels are not the document's: they stay as they are stored. What is recorded with it is
    /// stored in the same step, before or with it: a point or a summary that is there is never ahead of what the document can repeat.
    /// - Returns: the session as stored.
    /// - Throws: ``CohortError`` `conflict` when someone else has stored since, or has taken the session over.
    func update(_ session: Session, recording record: SessionRecord) async throws -> Session
    /// Stores what came of events without the document.
    /// - Throws: ``CohortError`` `conflict` when the session's generation is another by now.
    func record(_ record: SessionRecord, sessionId: String, generation: Int) async throws
    /// Each peer's newest recorded answer; none of a session that has ended.
    func answers(sessionId: String) async throws -> [RecordedAnswer]
    /// Returns the summaries of all rounds, oldest first.
    func rounds(sessionId: String) async throws -> [RoundSummary]
    /// Takes the lease in one atomic step, when it is free, expired by `now`, or already `owner`'s: this raises the generation.
    /// - Returns: the session as stored, or nil when another holds it.
    func takeLease(sessionId: String, owner: String, now: Date, expiresAt: Date) async throws -> Session?
    /// Renews the lease that is held under this generation, in a small step that does not touch the document.
    /// - Returns: nil when another has taken over.
    func renewLease(sessionId: String, owner: String, generation: Int, expiresAt: Date) async throws -> HeldLease?
    /// Takes a version for the model: one more than any other model of the same owner and title has. Repeated calls return the same; two
    /// sessions that end at once get two.
    func takeModelVersion(of session: Session) async throws -> Int
    /// Stores labels if the stored ones have their revision; the stored revision then is one more. The document and its revision stay as they are.
    /// - Returns: the labels as stored; nil when someone else has stored since, or there is no such session.
    func setLabels(_ labels: SessionLabels, sessionId: String) async throws -> SessionLabels?
    /// Records that the session is to be cancelled, which its coordinator does. Idempotent.
    /// - Returns: the session as stored, as it was when it has ended already; nil when there is none.
    func requestCancel(sessionId: String) async throws -> Session?
}

extension SessionDocuments {
    /// Inserts a session whose upload is not shared.
    public func insert(_ session: Session) async throws { try await insert(session, sharesUpload: false) }
}

/// A renewed lease.
public struct HeldLease: Hashable, Sendable {
    /// A person asked to cancel the session.
    public var cancelRequested: Bool

    public init(cancelRequested: Bool) { self.cancelRequested = cancelRequested }
}

extension SessionDocuments {
    public func sessions(ownerId: String, limit: Int) async throws -> [Session] {
        try await sessions(ownerId: ownerId, limit: limit, before: nil)
    }

    public func sessionSummaries(ownerId: String, limit: Int, before id: String?) async throws -> [SessionSummary] {
        try await sessions(ownerId: ownerId, limit: limit, before: id).map { SessionSummary($0) }
    }

    /// Returns the highest version among models of the same owner and title in the newest thousand sessions; 0 without one.
    public func highestModelVersion(besides session: Session) async throws -> Int {
        let others = try await sessionSummaries(ownerId: session.ownerId, limit: 1_000, before: nil)
        return others.filter { $0.id != session.id && ($0.name ?? $0.filename) == session.title }.compactMap(\.version).max() ?? 0
    }

    public func update(_ session: Session) async throws -> Session { try await update(session, recording: SessionRecord()) }
}

/// The records that grow as a session runs, stored beside its document.
public struct SessionRecord: Sendable {
    /// New points of the curves. One of a session, peer, round and epoch that are there already is ignored: a repeated message counts once.
    public var points: [MetricPoint]
    /// A summary of a round that is there already replaces it.
    public var rounds: [RoundSummary]
    /// Replaces what the same peer answered before.
    public var answers: [RecordedAnswer]

    public init(points: [MetricPoint] = [], rounds: [RoundSummary] = [], answers: [RecordedAnswer] = []) {
        self.points = points
        self.rounds = rounds
        self.answers = answers
    }

    public var isEmpty: Bool { points.isEmpty && rounds.isEmpty && answers.isEmpty }
}

/// One point of a session's time series.
public struct MetricPoint: Codable, Hashable, Sendable {
    public var sessionId: String
    /// nil: the global model.
    public var peerId: String?
    public var peerName: String?
    public var round: Int
    /// Epoch within the round, from 1; 0 for the global model.
    public var epoch: Int
    /// Training loss (peers), validation loss (global model).
    public var loss: Double?
    public var accuracy: Double?
    public var r2: Double?
    public var samplesPerSecond: Double?
    public var time: Date

    public init(
        sessionId: String, peerId: String?, peerName: String?, round: Int, epoch: Int, loss: Double?, accuracy: Double?, r2: Double?,
        samplesPerSecond: Double?, time: Date
    ) {
        self.sessionId = sessionId
        self.peerId = peerId
        self.peerName = peerName
        self.round = round
        self.epoch = epoch
        self.loss = loss
        self.accuracy = accuracy
        self.r2 = r2
        self.samplesPerSecond = samplesPerSecond
        self.time = time
    }
}

public protocol MetricDocuments: Sendable {
    /// The points, oldest first.
    func metrics(sessionId: String) async throws -> [MetricPoint]
    /// Returns at most about `maxPerPeer` points of each peer and of the global model, by round and epoch: every n-th from the first, and the last.
    func metrics(sessionId: String, maxPerPeer: Int) async throws -> [MetricPoint]
}

extension MetricDocuments {
    public func metrics(sessionId: String, maxPerPeer: Int) async throws -> [MetricPoint] {
        let points = Dictionary(grouping: try await metrics(sessionId: sessionId)) { $0.peerId ?? "" }
        return points.sorted { $0.key < $1.key }.flatMap { _, points in
            let every = max(1, (points.count + maxPerPeer - 1) / max(1, maxPerPeer))
            return points.sorted { ($0.round, $0.epoch) < ($1.round, $1.epoch) }.enumerated()
                .filter { $0.offset % every == 0 || $0.offset == points.count - 1 }.map(\.element)
        }
    }
}
