public import CohortCore
import FoundationEssentials

/// How a coordinator works. Times in seconds.
public struct CoordinatorConfiguration: Sendable {
    /// Who it is: the same after a restart on the same data folder, so that it knows its own leases.
    public var owner: String
    public var leaseSeconds: Double
    /// What a session allows its peers.
    public var rules: SessionMachine.Rules
    /// How long links in messages hold. A transfer that has begun goes on; a new message brings new links.
    public var linkSeconds: Double
    /// Between looks at peers and deadlines.
    public var tickSeconds: Double
    /// After so many tries that end with the same fault of the server a session fails.
    public var maxFaults: Int
    /// How long a start may take; older ones were given up by a crash.
    public var startSeconds: Double
    /// Of the machines that others share, what one account may hold at a time, 0 to 1.
    public var poolShare: Double
    /// Bytes that averaging one session's updates may take.
    public var modelMemory: Int
    /// Three quarters of the machine's memory.
    public static let standardModelMemory = Int(clamping: ProcessInfo.processInfo.physicalMemory / 4 * 3)
    /// For copies of data sets, where the object store is elsewhere; this process's alone. Made when it is needed.
    public var scratchFolder: String

    public init(
        owner: String, leaseSeconds: Double = 15, rules: SessionMachine.Rules = .init(), linkSeconds: Double = 900,
        tickSeconds: Double = 0.5, maxFaults: Int = 20, startSeconds: Double = 60, poolShare: Double = 1,
        modelMemory: Int = standardModelMemory, scratchFolder: String
    ) {
        self.maxFaults = maxFaults
        self.poolShare = poolShare
        self.modelMemory = modelMemory
        self.startSeconds = startSeconds
        self.owner = owner
        self.scratchFolder = scratchFolder
        self.leaseSeconds = leaseSeconds
        self.rules = rules
        self.linkSeconds = linkSeconds
        self.tickSeconds = tickSeconds
    }
}
