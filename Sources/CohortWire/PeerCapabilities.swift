public import CohortCore

/// The description of a machine in its registration.
public struct PeerCapabilities: Codable, Hashable, Sendable {
    public var cores: Int
    public var memoryBytes: Int
    /// `native`, `torch`.
    public var engine: String
    /// `cpu`, `cuda:0`.
    public var device: String
    /// Measured once on a fixed small net (64-128-64-10, batch 64).
    public var samplesPerSecond: Double
    /// The number of parameters of that net.
    public static let measuredParameters = 17_226
    /// Operating system and architecture.
    public var platform: String
    public var version: String
    /// The users whose modules, which are code, it runs; absent: none, as its engine trains none.
    public var modules: Pool?
    /// The encodings of packed rows that it reads. None: it is of a version that got CSVs.
    public var encodings: [String]
    /// The optimizers that it has; nil: it did not say.
    public var optimizers: [String]?
    /// The nets that it trains; nil: it did not say.
    public var nets: [String]?

    /// The lists of peers of this version.
    public static let ownEncodings = RecordLayout.Encoding.allCases.map(\.rawValue)
    public static let ownOptimizers = OptimizerName.allCases.map(\.rawValue)
    public static let ownNets = ["simple"]

    public init(
        cores: Int, memoryBytes: Int, engine: String, device: String, samplesPerSecond: Double, platform: String, version: String,
        modules: Pool? = nil, encodings: [String] = ownEncodings, optimizers: [String]? = ownOptimizers, nets: [String]? = ownNets
    ) {
        self.encodings = encodings
        self.optimizers = optimizers
        self.nets = nets
        self.modules = modules
        self.cores = cores
        self.memoryBytes = memoryBytes
        self.engine = engine
        self.device = device
        self.samplesPerSecond = samplesPerSecond
        self.platform = platform
        self.version = version
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        cores = try container.whole(.cores, in: 1...65_536)
        memoryBytes = try container.whole(.memoryBytes, in: 1...(1 << 60))
        engine = try container.decode(String.self, forKey: .engine).printable(max: 64)
        device = try container.decode(String.self, forKey: .device).printable(max: 64)
        samplesPerSecond = try container.number(.samplesPerSecond, in: 1e-3...1e9)
        platform = try container.decode(String.self, forKey: .platform).printable(max: 200)
        version = try container.decode(String.self, forKey: .version).printable(max: 64)
        modules = try container.decodeIfPresent(Pool.self, forKey: .modules)
        func words(_ key: CodingKeys) throws -> [String]? {
            try container.decodeIfPresent([String].self, forKey: key)?.prefix(64).map { $0.printable(max: 64) }
        }
        encodings = try words(.encodings) ?? []
        optimizers = try words(.optimizers)
        nets = try words(.nets)
    }
}
