import CohortCore
public import CohortSession
public import CohortWire
public import FoundationEssentials
import Synchronization

/// A document store whose calls may go wrong.
public struct FaultyDocuments: Documents {
    let base: any Documents
    let plan: FaultPlan

    public init(_ base: any Documents, _ plan: FaultPlan) {
        self.base = base
        self.plan = plan
    }

    public func ready() async throws { try await plan.call("ready") { try await base.ready() } }
    public func close() async throws { try await base.close() }
    public func insert(_ user: User) async throws { try await plan.call("insert user") { try await base.insert(user) } }
    public func user(id: String) async throws -> User? { try await plan.call("user") { try await base.user(id: id) } }
    public func user(email: String) async throws -> User? { try await plan.call("user") { try await base.user(email: email) } }
    public func setPassword(userId: String, hash: String, at date: Date) async throws -> Bool {
        try await plan.call("setPassword") { try await base.setPassword(userId: userId, hash: hash, at: date) }
    }
    public func deleteUser(id: String) async throws { try await plan.call("deleteUser") { try await base.deleteUser(id: id) } }
    public func insert(_ token: JoinToken) async throws { try await plan.call("insert token") { try await base.insert(token) } }
    public func joinToken(id: String) async throws -> JoinToken? { try await plan.call("joinToken") { try await base.joinToken(id: id) } }
    public func joinTokens(userId: String) async throws -> [JoinToken] {
        try await plan.call("joinTokens") { try await base.joinTokens(userId: userId) }
    }
    public func revokeJoinToken(id: String, userId: String, at date: Date) async throws -> Bool {
        try await plan.call("revokeJoinToken") { try await base.revokeJoinToken(id: id, userId: userId, at: date) }
    }
    public func insert(_ signIn: SignIn) async throws { try await plan.call("insert sign-in") { try await base.insert(signIn) } }
    public func signIn(id: String) async throws -> SignIn? { try await plan.call("signIn") { try await base.signIn(id: id) } }
    public func signIns(userId: String) async throws -> [SignIn] {
        try await plan.call("signIns") { try await base.signIns(userId: userId) }
    }
    public func deleteSignIn(id: String, userId: String) async throws -> Bool {
        try await plan.call("deleteSignIn") { try await base.deleteSignIn(id: id, userId: userId) }
    }
    public func deleteSignIns(userId: String) async throws {
        try await plan.call("deleteSignIns") { try await base.deleteSignIns(userId: userId) }
    }
    public func deleteSignIns(expiredBy date: Date) async throws {
        try await plan.call("deleteSignIns expired") { try await base.deleteSignIns(expiredBy: date) }
    }
    public func peers(named name: String) async throws -> [NamedPeer] {
        try await plan.call("peers(named:)") { try await base.peers(named: name) }
    }
    public func livingPeers(tokenId: String) async throws -> Int {
        try await plan.call("livingPeers") { try await base.livingPeers(tokenId: tokenId) }
    }
    public func deletePeers(unseenSince date: Date) async throws -> Int {
        try await plan.call("deletePeers") { try await base.deletePeers(unseenSince: date) }
    }
    public func register(_ peer: Peer) async throws -> Peer { try await plan.call("register") { try await base.register(peer) } }
    public func peer(id: String) async throws -> Peer? { try await plan.call("peer") { try await base.peer(id: id) } }
    public func peers() async throws -> [Peer] { try await plan.call("peers") { try await base.peers() } }
    public func peers(visibleTo ownerId: String) async throws -> [Peer] {
        try await plan.call("peers(visibleTo:)") { try await base.peers(visibleTo: ownerId) }
    }
    public func peerCounts() async throws -> [PeerStatus: Int] {
        try await plan.call("peerCounts") { try await base.peerCounts() }
    }
    public func peers(ofSession sessionId: String) async throws -> [Peer] {
        try await plan.call("peers(ofSession:)") { try await base.peers(ofSession: sessionId) }
    }
    public func availablePeers() async throws -> [Peer] { try await plan.call("availablePeers") { try await base.availablePeers() } }
    public func freeStrayPeers() async throws -> [String] { try await plan.call("freeStrayPeers") { try await base.freeStrayPeers() } }
    public func touch(_ beats: [PeerBeat]) async throws { try await plan.call("touch") { try await base.touch(beats) } }
    public func claim(peerId: String, sessionId: String) async throws -> Bool {
        try await plan.call("claim") { try await base.claim(peerId: peerId, sessionId: sessionId) }
    }
    public func free(peerId: String, sessionId: String) async throws {
        try await plan.call("free") { try await base.free(peerId: peerId, sessionId: sessionId) }
    }
    public func freePeers(ofSession sessionId: String) async throws {
        try await plan.call("freePeers") { try await base.freePeers(ofSession: sessionId) }
    }
    public func setOffline(peerId: String, registration: Int?, hasLeft: Bool) async throws {
        try await plan.call("setOffline") { try await base.setOffline(peerId: peerId, registration: registration, hasLeft: hasLeft) }
    }
    public func deletePeer(id: String) async throws { try await plan.call("deletePeer") { try await base.deletePeer(id: id) } }
    public func insert(_ session: Session, sharesUpload: Bool) async throws {
        try await plan.call("insert session") { try await base.insert(session, sharesUpload: sharesUpload) }
    }
    public func session(id: String) async throws -> Session? { try await plan.call("session") { try await base.session(id: id) } }
    public func sessions(ownerId: String, limit: Int, before id: String?) async throws -> [Session] {
        try await plan.call("sessions") { try await base.sessions(ownerId: ownerId, limit: limit, before: id) }
    }
    public func unfinishedSessions() async throws -> [String] {
        try await plan.call("unfinishedSessions") { try await base.unfinishedSessions() }
    }
    public func sessionCounts() async throws -> [SessionStatus: Int] {
        try await plan.call("sessionCounts") { try await base.sessionCounts() }
    }
    public func takeModelVersion(of session: Session) async throws -> Int {
        try await plan.call("takeModelVersion") { try await base.takeModelVersion(of: session) }
    }
    public func usedUploads(of keys: [String], besides sessionId: String?) async throws -> Set<String> {
        try await plan.call("usedUploads") { try await base.usedUploads(of: keys, besides: sessionId) }
    }
    public func deleteSession(id: String) async throws { try await plan.call("deleteSession") { try await base.deleteSession(id: id) } }
    public func update(_ session: Session, recording record: SessionRecord) async throws -> Session {
        try await plan.call("update") { try await base.update(session, recording: record) }
    }
    public func record(_ record: SessionRecord, sessionId: String, generation: Int) async throws {
        try await plan.call("record") { try await base.record(record, sessionId: sessionId, generation: generation) }
    }
    public func answers(sessionId: String) async throws -> [RecordedAnswer] {
        try await plan.call("answers") { try await base.answers(sessionId: sessionId) }
    }
    public func rounds(sessionId: String) async throws -> [RoundSummary] {
        try await plan.call("rounds") { try await base.rounds(sessionId: sessionId) }
    }
    public func takeLease(sessionId: String, owner: String, now: Date, expiresAt: Date) async throws -> Session? {
        try await plan.call("takeLease") {
            try await base.takeLease(sessionId: sessionId, owner: owner, now: now, expiresAt: expiresAt)
        }
    }
    public func renewLease(sessionId: String, owner: String, generation: Int, expiresAt: Date) async throws -> HeldLease? {
        try await plan.call("renewLease") {
            try await base.renewLease(sessionId: sessionId, owner: owner, generation: generation, expiresAt: expiresAt)
        }
    }
    public func setLabels(_ labels: SessionLabels, sessionId: String) async throws -> SessionLabels? {
        try await plan.call("setLabels") { try await base.setLabels(labels, sessionId: sessionId) }
    }
    public func requestCancel(sessionId: String) async throws -> Session? {
        try await plan.call("requestCancel") { try await base.requestCancel(sessionId: sessionId) }
    }
    public func users(after id: String?, limit: Int) async throws -> [User] {
        try await plan.call("users") { try await base.users(after: id, limit: limit) }
    }
    public func peers(after id: String?, limit: Int) async throws -> [Peer] {
        try await plan.call("peers after") { try await base.peers(after: id, limit: limit) }
    }
    public func deletedPeers(after id: String?, limit: Int) async throws -> [DeletedPeer] {
        try await plan.call("deletedPeers") { try await base.deletedPeers(after: id, limit: limit) }
    }
    public func sessions(after id: String?, limit: Int) async throws -> [Session] {
        try await plan.call("sessions after") { try await base.sessions(after: id, limit: limit) }
    }
    public func restore(_ peer: Peer) async throws { try await plan.call("restore") { try await base.restore(peer) } }
    public func restore(_ peer: DeletedPeer) async throws { try await plan.call("restore") { try await base.restore(peer) } }
    public func metrics(sessionId: String) async throws -> [MetricPoint] {
        try await plan.call("metrics") { try await base.metrics(sessionId: sessionId) }
    }
}
