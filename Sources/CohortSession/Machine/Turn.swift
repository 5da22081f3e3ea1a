public import CohortCore
public import CohortWire

/// One event's way through the session machine: when it is handled, and the actions that follow.
struct Turn {
    let now: Moment
    var actions = SessionActions()

    init(at now: Moment) { self.now = now }

    mutating func make(_ object: SessionActions.ObjectTask) { actions.objects.append(object) }
    mutating func record(_ point: MetricPoint) { actions.records.points.append(point) }
    mutating func record(_ round: RoundSummary) { actions.records.rounds.append(round) }
    mutating func record(_ answer: RecordedAnswer) { actions.records.answers.append(answer) }
    mutating func send(_ command: SessionActions.Command) { actions.commands.append(command) }
    mutating func perform(_ effect: SessionActions.Effect) { actions.effects.append(effect) }
    mutating func publish(_ notice: SessionNotice) { actions.notices.append(notice) }
    mutating func discard(_ keys: [String]) { actions.discarded += keys }
}

/// The actions of the session machine, in the order of execution: objects are made before the document that names them; the records and the document
/// are stored in one transaction; then commands and effects, then notices, then the removal of objects.
public struct SessionActions: Sendable {
    /// An object that the document will name. The result is the machine's next event.
    public enum ObjectTask: Hashable, Sendable {
        /// Make one model of the round's accepted answers, then report ``SessionMachine/Event`` `aggregated`.
        case aggregate(RoundOutcome)
        /// Write the model file from these weights, then report ``SessionMachine/Event/concluded(model:metrics:evaluation:version:)``.
        case conclude(weights: ObjectReference, metrics: Metrics)
    }

    /// A command to one peer, built from the stored document.
    public enum Command: Hashable, Sendable {
        /// - Parameter prepares: with the data set's links, for a peer that must load it before it receives rows.
        case enable(peerId: String, prepares: Bool)
        case train(peerId: String)
        case refused(peerId: String, round: Int, attempt: Int, reason: String)
        case stop(peerId: String, StopCommand.Reason)

        public var isTrain: Bool { if case .train = self { true } else { false } }

        public var peerId: String {
            switch self {
            case .enable(let id, _), .train(let id), .refused(let id, _, _, _), .stop(let id, _): id
            }
        }
    }

    public enum Effect: Hashable, Sendable {
        /// Claim at most this many ONLINE peers, and report ``SessionMachine/Event/joined(_:)`` for each.
        case claim(Int)
        case free(peerId: String)
    }

    public var objects: [ObjectTask] = []
    /// Records beside the document: metric points, summaries of rounds, and the answers of the open round.
    public var records = SessionRecord()
    public var commands: [Command] = []
    public var effects: [Effect] = []
    public var notices: [SessionNotice] = []
    /// Keys of objects that are unused once the document is stored. A failure to remove them is no error of the session.
    public var discarded: [String] = []

    public init() {}

    public var isEmpty: Bool {
        objects.isEmpty && records.isEmpty && commands.isEmpty && effects.isEmpty && notices.isEmpty && discarded.isEmpty
    }

    /// There are answers to record, and beside notices nothing else is to be done.
    public var isOnlyAnswers: Bool {
        objects.isEmpty && commands.isEmpty && effects.isEmpty && discarded.isEmpty && !records.answers.isEmpty
    }

    public static func + (first: SessionActions, second: SessionActions) -> SessionActions {
        var both = first
        both += second
        return both
    }

    public static func += (actions: inout SessionActions, more: SessionActions) {
        actions.objects += more.objects
        actions.records.points += more.records.points
        actions.records.rounds += more.records.rounds
        actions.records.answers += more.records.answers
        actions.commands += more.commands
        actions.effects += more.effects
        actions.notices += more.notices
        actions.discarded += more.discarded
    }
}
