/// What the session machine answers to an event, in the order in which it is carried out: objects are made before the document that names
/// them; records and document are stored in one step; then come commands and effects, which somebody waits for; then what nobody waits for.
public struct Step: Sendable {
    /// An object that the document is to name. What came of it is the machine's next event.
    public enum ObjectTask: Hashable, Sendable {
        /// Make one model of the round's accepted answers, then report ``SessionMachine/Event`` `aggregated`.
        case aggregate(RoundOutcome)
        /// Write the model file from these weights, then report ``SessionMachine/Event/concluded(_:_:_:version:)``.
        case conclude(ObjectReference, Metrics)
    }

    /// A command to one peer, built from the stored document.
    public enum Command: Hashable, Sendable {
        /// `prepares`: with the data set's links, for a peer that should load it before it is given rows.
        case enable(peerId: String, prepares: Bool)
        case train(peerId: String)
        case refused(peerId: String, round: Int, attempt: Int, why: String)
        case stop(peerId: String, StopCommand.Reason)

        public var peerId: String {
            switch self {
            case .enable(let id, _), .train(let id), .refused(let id, _, _, _), .stop(let id, _): id
            }
        }
    }

    public enum Effect: Hashable, Sendable {
        /// Claim up to so many ONLINE peers, and report ``SessionMachine/Event/joined(_:)`` for each.
        case claim(Int)
        case free(peerId: String)
    }

    public var objects: [ObjectTask] = []
    /// Beside the document: points, summaries of rounds, answers that are remembered until their round is closed.
    public var records = SessionRecord()
    public var commands: [Command] = []
    public var effects: [Effect] = []
    public var notices: [SessionNotice] = []
    /// Keys of objects that nobody needs once the document is stored. Never an error for the session.
    public var discarded: [String] = []

    public init() {}

    public var isEmpty: Bool {
        objects.isEmpty && records.isEmpty && commands.isEmpty && effects.isEmpty && notices.isEmpty && discarded.isEmpty
    }

    public static func += (step: inout Step, more: Step) {
        step.objects += more.objects
        step.records.points += more.records.points
        step.records.rounds += more.records.rounds
        step.records.answers += more.records.answers
        step.commands += more.commands
        step.effects += more.effects
        step.notices += more.notices
        step.discarded += more.discarded
    }
}
