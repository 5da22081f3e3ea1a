public import CohortCore
import CohortWire
import FoundationEssentials

/// Starts a session: its document first, then the claims, then the document with its peers. After an interruption at any point, no peer stays
/// locked to a missing session, and a coordinator ends the unfinished start.
public struct SessionStart: Sendable {
    private let documents: any Documents
    private let time: any TimeSource
    private let share: PoolShare
    private let hearing: Hearing?

    /// The session that had the upload was deleted meanwhile; nothing was started.
    public struct UploadIsGone: Error {}

    /// The peers that were heard since the server started: the others may be gone, although they are not marked OFFLINE yet.
    public struct Hearing: Sendable {
        let isHeard: @Sendable (Peer) -> Bool
        /// Monotonic seconds; until then, a living peer may still be unheard.
        let until: Double

        public init(until: Double, isHeard: @escaping @Sendable (Peer) -> Bool) {
            self.isHeard = isHeard
            self.until = until
        }
    }

    /// - Parameters:
    ///   - poolShare: see ``PoolShare``.
    ///   - hearing: nil: every peer that is ONLINE can be claimed.
    public init(documents: any Documents, time: any TimeSource, poolShare: Double = 1, hearing: Hearing? = nil) {
        share = PoolShare(poolShare, documents: documents)
        self.hearing = hearing
        self.documents = documents
        self.time = time
    }

    /// - Parameters:
    ///   - upload: the CSV in the object store; the session's from here on, unless this throws.
    ///   - sharesUpload: it is another session's of the owner too.
    ///   - module: the file that the settings' `module` means.
    ///   - traceparent: of the request.
    /// - Returns: the session as stored, PENDING, with its peers by name, then id.
    /// - Throws: ``UploadIsGone`` when a shared upload was deleted meanwhile; ``CohortError`` `notEnoughPeers` when too few peers are free; what the
    ///   store throws, once what was done is undone as far as possible: what is left of it is a session that says that it is starting, which a
    ///   coordinator ends.
    public func start(
        _ settings: SessionSettings, ownerId: String, upload: ObjectReference, sharesUpload: Bool = false, filename: String,
        module: ObjectReference? = nil, traceparent: String? = nil
    ) async throws -> Session {
        let (settings, model, isModule) = try await resolveStartingModel(settings, ownerId: ownerId)
        try await wait(for: settings, ownerId: ownerId, isModule: isModule)
        var session = Session(
            id: newIdentifier(), ownerId: ownerId, createdAt: time.date, settings: settings, peers: [], upload: upload, filename: filename)
        session.startModel = model
        session.moduleObject = module
        session.traceparent = traceparent
        session.isStarting = true
        do {
            try await documents.insert(session, sharesUpload: sharesUpload)
        } catch let error as CohortError where sharesUpload && error.code == .notFound {
            throw UploadIsGone()
        }
        do {
            var claimed: [Peer] = []
            for peer in try await candidates(for: settings, ownerId: ownerId, isModule: isModule) where claimed.count < settings.peers {
                if try await documents.claim(peerId: peer.id, sessionId: session.id) { claimed.append(peer) }
            }
            try await requireEnoughPeers(for: settings, free: claimed.count, ownerId: ownerId, isModule: isModule)
            try validateOverrides(of: settings, in: claimed)
            session.peers = claimed.sorted { ($0.name, $0.id) < ($1.name, $1.id) }.map { SessionPeer($0) }
            session.isStarting = nil
            return try await documents.update(session)
        } catch {
            // The first error is the one to report. A document that remains is marked as starting, and a coordinator ends it.
            try? await documents.freePeers(ofSession: session.id)
            try? await documents.deleteSession(id: session.id)
            throw error
        }
    }

    /// Checks whether the session could start now.
    /// - Returns: how many peers are free for it.
    /// - Throws: ``CohortError`` `unavailable` when they are too few, with who has the others; `notFound` and `invalid` for a model that it
    ///   cannot go on from.
    public func check(_ settings: SessionSettings, ownerId: String) async throws -> Int {
        let going = try await resolveStartingModel(settings, ownerId: ownerId)
        return try await wait(for: going.settings, ownerId: ownerId, isModule: going.isModule)
    }

    /// Resolves the settings of a session that continues from a model.
    private func resolveStartingModel(
        _ settings: SessionSettings, ownerId: String
    ) async throws -> (settings: SessionSettings, model: ObjectReference?, isModule: Bool) {
        guard let from = settings.from else { return (settings, nil, settings.module != nil) }
        guard let source = try await documents.session(id: from), source.ownerId == ownerId else {
            throw CohortError(.notFound, "from: there is no session '\(from.printable(max: 60))' of yours")
        }
        guard let object = source.modelObject, let model = source.model, let dataset = source.dataset else {
            throw CohortError(.invalid, "from: session \(from.prefix(8)) is \(source.status.rawValue) and has no model to go on from")
        }
        if let target = settings.target, target != dataset.target {
            throw CohortError(.invalid, "from: that model predicts '\(dataset.target)', not '\(target.printable(max: 60))'")
        }
        var settings = settings
        (settings.hidden, settings.activation, settings.dropout) = (model.hidden, model.activation, model.dropout)
        (settings.target, settings.task) = (dataset.target, dataset.task)
        return (settings, object, model.module != nil)
    }

    @discardableResult
    private func wait(for settings: SessionSettings, ownerId: String, isModule: Bool) async throws -> Int {
        let deadline = time.monotonic + Self.patience
        while true {
            let free = try await candidates(for: settings, ownerId: ownerId, isModule: isModule).count
            if free < settings.peers {
                // Peers of a session that has just ended are free in a moment; and after a start of the server, living peers are heard soon.
                var isWaiting = false
                if time.monotonic < deadline { isWaiting = try await anyIsBeingFreed(for: settings, ownerId: ownerId, isModule: isModule) }
                if !isWaiting, let hearing, time.monotonic < hearing.until {
                    isWaiting = try await available(for: settings, ownerId: ownerId, isModule: isModule).contains { !hearing.isHeard($0) }
                }
                if isWaiting {
                    try await time.sleep(seconds: Self.interval)
                    continue
                }
            }
            try await requireEnoughPeers(for: settings, free: free, ownerId: ownerId, isModule: isModule)
            return free
        }
    }

    /// Seconds in which an ended session frees its peers, unless something is away.
    static let patience = 3.0
    static let interval = 0.05

    private func anyIsBeingFreed(for settings: SessionSettings, ownerId: String, isModule: Bool) async throws -> Bool {
        for id in Set(try await busy(for: settings, ownerId: ownerId, isModule: isModule).compactMap(\.sessionId)) {
            if try await documents.session(id: id)?.status.isFinal ?? true { return true }
        }
        return false
    }

    private func busy(for settings: SessionSettings, ownerId: String, isModule: Bool) async throws -> [Peer] {
        try await documents.peers().filter {
            $0.sessionId != nil && $0.status != .offline && $0.canTrain(settings, ownerId: ownerId, isModule: isModule)
        }
    }

    /// Checks that every override names a peer that takes part: others would be ignored silently.
    private func validateOverrides(of settings: SessionSettings, in peers: [Peer]) throws {
        let names = peers.map(\.name).sorted()
        guard let stranger = settings.perPeer.keys.filter({ key in !peers.contains { $0.id == key || $0.name == key } }).min() else {
            return
        }
        let hint = Spelling.nearest(to: stranger, in: names).map { ": did you mean '\($0)'?" } ?? ""
        throw CohortError(
            .invalid,
            "per_peer names '\(stranger.printable(max: 60))', which is not among the free peers of this session (\(names.bounded()))\(hint)"
        )
    }

    /// Those that the settings name first, then the user's own, then the fastest; of other people's as many as the account may use.
    private func candidates(for settings: SessionSettings, ownerId owner: String, isModule: Bool) async throws -> [Peer] {
        let free = try await available(for: settings, ownerId: owner, isModule: isModule).filter { hearing?.isHeard($0) ?? true }
            .inClaimOrder(ownerId: owner, preferring: settings.names)
        guard free.contains(where: { $0.ownerId != owner }) else { return free }
        var lent = try await share.left(ownerId: owner, pool: settings.pool ?? .mine)
        return free.filter { peer in
            guard peer.ownerId != owner else { return true }
            lent -= 1
            return lent >= 0
        }
    }

    /// ONLINE, free, and allowed to train for the session.
    private func available(for settings: SessionSettings, ownerId owner: String, isModule: Bool) async throws -> [Peer] {
        try await documents.availablePeers().filter { $0.canTrain(settings, ownerId: owner, isModule: isModule) }
    }

    private func requireEnoughPeers(for settings: SessionSettings, free there: Int, ownerId: String, isModule: Bool) async throws {
        let count = settings.peers
        guard there < count else { return }
        let busy = try await busy(for: settings, ownerId: ownerId, isModule: isModule)
        var others = settings.pool == .everyone ? "" : ". Only your own count, unless the session says pool=everyone"
        if settings.pool == .everyone, let words = try await share.words(ownerId: ownerId) { others += "; \(words)" }
        if isModule {
            others +=
                ". It trains a module: only peers with the torch engine count (cohort peer --engine torch), and of other people's those that were started with --allow-models everyone"
        }
        let online = try await documents.availablePeers().filter {
            $0.mayServe(ownerId: ownerId, pool: settings.pool ?? .mine) && !$0.canTrain(settings, ownerId: ownerId, isModule: isModule)
        }
        let old = online.filter { !$0.readsTables }.map { "\($0.name.printable(max: 40)) (\($0.capabilities.version))" }
        if !old.isEmpty {
            others += ". Of an older version than this server's (\(CohortVersion.current)), and to be upgraded: \(old.bounded())"
        }
        let optimizer = settings.optimizer.name.rawValue
        let without = online.filter { $0.readsTables && $0.capabilities.optimizers?.contains(optimizer) == false }
            .map { $0.name.printable(max: 40) }
        if !without.isEmpty { others += ". Without the optimizer \(optimizer): \(without.bounded())" }
        let advice = busy.isEmpty ? "start more with `cohort peer`, or ask for fewer" : "wait for them, start more, or ask for fewer"
        throw CohortError(
            .notEnoughPeers,
            "\(count) \(count == 1 ? "peer was" : "peers were") asked for and \(there) \(there == 1 ? "is" : "are") online and free\(try await work(of: busy, ownerId)): \(advice)\(others)"
        )
    }

    /// Describes the sessions that busy peers are in.
    private func work(of busy: [Peer], _ ownerId: String) async throws -> String {
        var words = ""
        let sessions = Dictionary(grouping: busy) { $0.sessionId ?? "" }.sorted { $0.key < $1.key }
        for (id, peers) in sessions.prefix(3) {
            let session = try await documents.session(id: id)
            let owner = try await session?.ownerId == ownerId ? nil : documents.user(id: session?.ownerId ?? "")?.name
            let names = peers.map { $0.name.printable(max: 40) }.bounded()
            words += ", \(peers.count) \(peers.count == 1 ? "trains" : "train") in session \(id.prefix(8))"
            words += " of \(owner.map { $0.printable(max: 60) } ?? "yours") (\(names))"
        }
        return words + (sessions.count > 3 ? ", and \(sessions.count - 3) more sessions have others" : "")
    }
}

extension SessionSettings {
    /// Returns whether the settings have an override for the peer.
    fileprivate func names(_ peer: Peer) -> Bool { perPeer[peer.id] != nil || perPeer[peer.name] != nil }
}
