/// The state of the peers beside the document: the place of each one, what it owes, and what was reported of it. The document's own state of
/// a peer changes by the transitions of ``SessionPeer`` alone.
struct Roster: Sendable {
    /// The index of each peer in the document, by id.
    private var places: [String: Int]
    /// The peers whose ENABLED the next round waits for: those of the start or of a takeover, not those that join later.
    private(set) var awaited: Set<String> = []
    private var awaitedSince: Double?
    /// When ENABLE was sent to a peer in the middle of a round.
    private var lockedSince: [String: Double] = [:]
    /// When a peer's work was assigned; also work of an earlier round.
    private(set) var workBegan: [String: Double] = [:]
    /// The refused answers and retryable errors of this round.
    private var retries: [String: Int] = [:]
    /// The failed loads of the data set, until one succeeds.
    private var loadFailures: [String: Int] = [:]
    /// Reports that are made once and not repeated.
    private var reported: Set<String> = []
    var watch: WorkWatch

    init(_ peers: [SessionPeer], progressWait: Double) {
        places = Self.places(peers)
        watch = WorkWatch(floor: progressWait)
    }

    private static func places(_ peers: [SessionPeer]) -> [String: Int] {
        Dictionary(peers.enumerated().map { ($1.id, $0) }, uniquingKeysWith: { first, _ in first })
    }

    /// The peer's index in the document, in constant time: thousands of peers report every epoch.
    func index(of peerId: String) -> Int? { places[peerId] }

    mutating func update(_ peers: [SessionPeer]) { places = Self.places(peers) }

    mutating func add(_ peerId: String, at index: Int) { places[peerId] = index }

    /// Forgets what a peer that is gone owed.
    mutating func forget(_ peerId: String) {
        awaited.remove(peerId)
        lockedSince[peerId] = nil
        watch.end(peerId)
    }

    /// Returns whether `key` is reported for the first time.
    mutating func reports(_ key: String) -> Bool { reported.insert(key).inserted }

    mutating func mayReportAgain(_ key: String) { reported.remove(key) }

    // MARK: ENABLED

    /// The next round waits for these peers, as far as they are not waited for already.
    mutating func awaitEnabled(_ ids: some Sequence<String>, since seconds: Double) {
        awaited.formUnion(ids)
        awaitedSince = seconds
    }

    /// The next round waits for one more peer, no longer than for the others.
    mutating func awaitEnabled(joining peerId: String, since seconds: Double) {
        awaited.insert(peerId)
        awaitedSince = awaitedSince ?? seconds
    }

    mutating func replaceAwaited(_ ids: some Sequence<String>, since seconds: Double) {
        awaited = Set(ids)
        awaitedSince = seconds
    }

    /// Returns whether the awaited peers have had this many seconds to answer.
    func isEnabledOverdue(after wait: Double, at seconds: Double) -> Bool {
        guard !awaited.isEmpty, let awaitedSince else { return false }
        return seconds - awaitedSince >= wait
    }

    mutating func stopAwaiting() {
        awaited = []
        awaitedSince = nil
    }

    mutating func enabled(_ peerId: String) {
        awaited.remove(peerId)
        lockedSince[peerId] = nil
    }

    /// ENABLE was sent to a peer that no round waits for.
    mutating func lock(_ peerId: String, since seconds: Double) { lockedSince[peerId] = seconds }

    /// Seconds since ENABLE was sent to a peer; begins to count where nothing is known.
    mutating func secondsLocked(_ peerId: String, at seconds: Double) -> Double {
        let since = lockedSince[peerId] ?? seconds
        lockedSince[peerId] = since
        return seconds - since
    }

    // MARK: Work

    mutating func clearRound() {
        retries = [:]
        lockedSince = [:]
    }

    mutating func beginWork(_ peerId: String, at seconds: Double) {
        workBegan[peerId] = seconds
        watch.begin(peerId, at: seconds)
    }

    /// Counts a refused answer or a retryable error.
    /// - Returns: whether the peer may try again: not after the third of a round.
    mutating func mayRetry(_ peerId: String) -> Bool {
        retries[peerId, default: 0] += 1
        return retries[peerId, default: 0] < 3
    }

    /// Counts a failure to load the data set.
    /// - Returns: whether the peer may try again: not after the third in a row.
    mutating func mayLoadAgain(_ peerId: String) -> Bool {
        loadFailures[peerId, default: 0] += 1
        return loadFailures[peerId, default: 0] < 3
    }

    mutating func loaded(_ peerId: String) {
        loadFailures[peerId] = nil
        watch.end(peerId)
    }
}
