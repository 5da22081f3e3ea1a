import CohortCore
public import CohortSession
public import CohortStrategies
import FoundationEssentials

/// The settings of a coordinator. Times are in seconds.
public struct CoordinatorConfiguration: Sendable {
    /// Who it is: the same after a restart on the same data folder, so that it knows its own leases.
    public var owner: String
    public var leaseSeconds: Double
    /// The strategies that sessions may have.
    public var strategies: StrategyCatalogue
    /// The time limits of sessions.
    public var rules: SessionMachine.Rules
    /// The validity of links in messages. A transfer that has begun continues; a new message has new links.
    public var linkSeconds: Double
    /// Between looks at peers and deadlines.
    public var tickSeconds: Double
    /// After so many tries that end with the same fault of the server a session fails.
    public var maxFaults: Int
    /// The longest time that a start may take; an older one was interrupted by a crash.
    public var startSeconds: Double
    /// The share of other users' peers that one account may hold at a time, 0 to 1.
    public var poolShare: Double
    /// Bytes that averaging one session's updates may take.
    public var modelMemory: Int
    /// Three quarters of this machine's memory.
    public static let standardModelMemory = Int(clamping: ProcessInfo.processInfo.physicalMemory / 4 * 3)
    /// The folder for copies of data sets, where the object store is not local. Used by this process alone; created when needed.
    public var scratchFolder: String

    public init(
        owner: String, leaseSeconds: Double = 15, rules: SessionMachine.Rules = .init(), linkSeconds: Double = 900,
        tickSeconds: Double = 0.5, maxFaults: Int = 20, startSeconds: Double = 60, poolShare: Double = 1,
        modelMemory: Int = standardModelMemory, strategies: StrategyCatalogue = .builtIn, scratchFolder: String
    ) {
        self.maxFaults = maxFaults
        self.poolShare = poolShare
        self.modelMemory = modelMemory
        self.startSeconds = startSeconds
        self.owner = owner
        self.strategies = strategies
        self.scratchFolder = scratchFolder
        self.leaseSeconds = leaseSeconds
        self.rules = rules
        self.linkSeconds = linkSeconds
        self.tickSeconds = tickSeconds
    }
}
