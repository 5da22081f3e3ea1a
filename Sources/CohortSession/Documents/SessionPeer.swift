public import CohortCore
import CohortWire
import FoundationEssentials

/// A peer's place in a session.
public struct SessionPeer: Codable, Hashable, Sendable {
    public enum State: String, Codable, Sendable {
        /// Locked to the session; has not answered ENABLE yet.
        case locked
        /// Loading the data set; receives rows once that is done.
        case loading
        /// Ready for work; has none.
        case ready
        case training
        /// Has answered for this round.
        case done
        /// Gone: silent for too long, or removed. May join again.
        case lost
        /// Excluded from the session, after a permanent error or for harm.
        case failed
    }

    public var id: String
    public var name: String
    public var engine: String
    public var device: String
    /// The peer's registration that was last told what to do; another one means that it restarted and lost its work.
    public var registration: Int
    /// The memory that it registered with; nil in documents of older versions.
    public var memoryBytes: Int?
    /// Speed class used to deal shares: the registered samples/s, quantized, so that the same machines get the same shares; corrected by
    /// what its answers show.
    public var speed: Double
    /// The smoothed difference of its answers from its speed class, in octaves; nil: not measured yet.
    public var drift: Double?
    /// The speed that it had before it was late, as with its lid closed, and gets back; nil: it was not, or has it back.
    public var speedBeforeLate: Double?
    /// It has some of that speed back.
    public var isRegaining: Bool?
    /// Changed by the transitions below alone.
    public private(set) var state: State
    public var epoch: Int
    /// The progress of this round, 0 … 1.
    public var progress: Double
    public var loss: Double?
    public var accuracy: Double?
    public var samplesPerSecond: Double?
    /// Training rows leased to it this round.
    public var rows: [RowRange]
    /// Validation rows it evaluates this round.
    public var validationRows: RowRange?
    /// Rows that it loads before it is given work, as places in the table.
    public var rowsAhead: [RowRange]?
    /// The rows that it was last given to train on: it keeps these, as far as its share allows.
    public var lastRows: [RowRange]?
    /// All rows that were ever dealt to it, as places in the table: the server gives it these and no others.
    public private(set) var dealt: RowSet?
    /// Its answer of this round.
    public var answer: PeerAnswer?
    /// The attempt of the work that was assigned last.
    public var attempt: Int?
    /// The round that its work was given in, where others have closed since; nil: the session's own.
    public var workRound: Int?
    /// Answers in a row that were left out because they did harm.
    public var strikes: Int?
    /// The number of times in a row that its process ended while it had work, without an answer in between.
    public var restarts: Int?
    /// The last round in which its answer counted.
    public var countedRound: Int?
    /// Rounds in a row in which it gave no sign of work.
    public var misses: Int?
    /// Samples trained on so far, over all rounds.
    public var trainedSamples: Int
    /// The seconds from each round's beginning to its answer, over all rounds.
    public var workedSeconds: Double?
    /// Bytes of the updates that it sent.
    public var sentBytes: Int?
    public var message: String?

    public init(
        id: String, name: String, engine: String, device: String, registration: Int, speed: Double, state: State = .locked
    ) {
        self.id = id
        self.name = name
        self.engine = engine
        self.device = device
        self.registration = registration
        self.speed = speed
        self.state = state
        self.epoch = 0
        self.progress = 0
        self.rows = []
        self.trainedSamples = 0
    }

    /// A place for a registered peer. Its speed is rounded to a sixteenth of an octave, 4.4 %: shares are proportional to speed, and a peer that is
    /// measured again mostly gets the same share, so that a session can be repeated bit by bit.
    public init(_ peer: Peer) {
        self.init(
            id: peer.id, name: peer.name, engine: peer.capabilities.engine, device: peer.capabilities.device,
            registration: peer.registration, speed: Self.speedClass(of: peer.capabilities.samplesPerSecond))
        memoryBytes = peer.capabilities.memoryBytes
    }

    /// 2^(0/16) … 2^(16/16).
    private static let sixteenths: [Double] = (0...16).map { power in
        var (product, root) = (1.0, 2.0)
        for bit in [16, 8, 4, 2, 1] {
            if power & bit != 0 { product *= root }
            root = root.squareRoot()
        }
        return product
    }

    /// 2^octaves, to a sixteenth of an octave, within 2^±10.
    static func power(_ octaves: Double) -> Double {
        let steps = Int((min(max(octaves, -10), 10) * 16).rounded())
        return Double(sign: .plus, exponent: steps >> 4, significand: sixteenths[steps & 15])
    }

    /// Samples/s rounded to a sixteenth of an octave, from 1 to 2^30.
    public static func speedClass(of rate: Double) -> Double {
        let measured = rate.isFinite ? min(max(rate, 1), 0x1p30) : 1
        // The nearest by ratio: up to half a step, 2^(1/32), above it.
        let half = sixteenths[1].squareRoot()
        let step = sixteenths.lastIndex { measured.significand * half >= $0 } ?? 0
        return Double(sign: .plus, exponent: measured.exponent, significand: sixteenths[step])
    }

    /// Takes part in the session.
    public var isAlive: Bool { state != .lost && state != .failed }

    /// Has rows to train on or to evaluate in this round.
    public var hasWork: Bool { !rows.isEmpty || validationRows != nil }

    /// The number of training rows assigned for this round.
    public var rowCount: Int { rows.reduce(0) { $0 + $1.count } }

    // MARK: Transitions

    /// May fetch these rows of the table from now on.
    mutating func deal(_ ranges: [RowRange]) {
        var set = dealt ?? RowSet()
        for range in ranges { set.insert(range) }
        dealt = set
    }

    /// Must answer ENABLE again; a stored answer stays, other work is lost.
    mutating func lock() {
        if state != .done { state = .locked }
        workRound = nil
    }

    mutating func load() { state = .loading }

    mutating func becomeReady() { state = .ready }

    /// Works on the rows that it has been assigned.
    /// - Parameter attempt: nil: the attempt goes on.
    mutating func train(attempt: Int? = nil) {
        state = .training
        workRound = nil
        self.attempt = attempt ?? self.attempt
    }

    /// - Parameter maxUpdateBytes: the most that the reported size of the update adds to the bytes sent.
    mutating func finish(with answer: PeerAnswer, maxUpdateBytes: Int) {
        let results = answer.results
        state = .done
        progress = 1
        self.answer = answer
        workRound = nil
        misses = 0
        restarts = nil
        trainedSamples += max(0, results.samples)
        if let seconds = answer.seconds { workedSeconds = (workedSeconds ?? 0) + seconds }
        if let update = answer.update { sentBytes = (sentBytes ?? 0) + min(max(0, update.bytes), maxUpdateBytes) }
        if results.loss != nil { (loss, accuracy) = (results.loss, results.accuracy) }
        if let rate = results.rate { samplesPerSecond = rate }
    }

    /// The answer does not count: neither does its work.
    mutating func discardAnswer() {
        trainedSamples = max(0, trainedSamples - max(0, answer?.results.samples ?? 0))
        answer = nil
    }

    /// Has no work for the rest of this round, without an answer.
    mutating func skip(reason: String) {
        state = .ready
        workRound = nil
        message = reason
        progress = 0
    }

    /// The round `closed` is over.
    /// - Parameter keepsWorking: work that goes on may count in a later round.
    mutating func endRound(_ closed: Int, keepsWorking: Bool) {
        if state == .done { state = .ready }
        if state == .training, keepsWorking { workRound = workRound ?? closed }
        progress = 0
    }

    /// Stops its work, which counts in no round.
    mutating func stopWork() {
        state = .ready
        workRound = nil
    }

    /// Forgets the work of the round that is over.
    mutating func clearRound() {
        rows = []
        validationRows = nil
        answer = nil
        epoch = 0
        progress = 0
    }

    /// Is gone; a stored answer counts in this round.
    mutating func lose(reason: String) {
        progress = state == .done ? 1 : 0
        state = .lost
        message = reason
    }

    /// The session goes on without it, and does not take it back.
    mutating func exclude(reason: String) {
        state = .failed
        message = reason
        progress = 0
    }

    /// Registered again after a restart; a stored answer stays.
    mutating func restart(registration: Int) {
        self.registration = registration
        if state == .training { restarts = (restarts ?? 0) + 1 }
        lock()
        progress = state == .done ? 1 : 0
    }

    /// Joins again after it was lost: what it did in this session is kept.
    mutating func rejoin(as place: SessionPeer) {
        var place = place
        place.speed = speed
        place.drift = drift
        place.trainedSamples = trainedSamples
        place.workedSeconds = workedSeconds
        place.sentBytes = sentBytes
        place.restarts = restarts
        place.dealt = dealt
        if state == .lost, registration != place.registration { place.restarts = (place.restarts ?? 0) + 1 }
        self = place
    }

    /// Was too late in this round: it gets a smaller share from now on, and its speed back once it answers in time.
    mutating func slowDown(to speed: Double, reason: String) {
        state = state == .locked ? .locked : .ready
        message = reason
        // Late again with more rows: its speed is as low as measured.
        speedBeforeLate = isRegaining == true ? nil : speedBeforeLate ?? self.speed
        isRegaining = nil
        self.speed = speed
        drift = nil
    }
}
