import CTorch
public import CohortCore
import Synchronization

/// Trains by PyTorch's own kernels, on the CPU or a GPU.
public struct TorchEngine: TrainingEngine {
    /// The precision of matrix products.
    public enum Precision: String, Sendable, CaseIterable {
        /// 32-bit floats.
        case float32
        /// Inputs rounded to 10 bits of mantissa: some times as fast on NVIDIA's GPUs since 2020.
        case tf32
        /// Activations and their gradients in 16 bits, 7 of them mantissa; weights, losses and the optimizer stay in 32.
        case bfloat16
    }

    public let name = "torch"
    /// `cpu`, `cuda:0`; with `tf32` or `bfloat16` behind it, if it computes so: results say it.
    public let device: String
    private let place: String
    private let plugin: TorchPlugin
    private let precision: Precision
    private let threads: Int
    private let modules: ModuleHost?
    private let seen: Seen

    /// - Parameters:
    ///   - device: `cpu` or `cuda:N`.
    ///   - threads: of work on the CPU; for all of this process.
    ///   - modules: how modules are run; nil: none is.
    /// - Throws: ``CohortError`` `invalid` for a device that is not here, with those that are.
    public init(
        plugin: TorchPlugin, device: String, threads: Int, precision: Precision = .float32, modules: ModuleHost? = nil
    ) throws {
        let gpus = plugin.gpus
        guard device == "cpu" || gpus.contains(where: { "cuda:\($0.index)" == device }) else {
            let there = (["cpu"] + gpus.map { "cuda:\($0.index)" }).joined(separator: ", ")
            let note = gpus.isEmpty ? ": \(plugin.gpuNote)" : ""
            throw CohortError(.invalid, "there is no device '\(device.printable(max: 40))' here, but \(there)\(note)")
        }
        self.plugin = plugin
        guard precision != .tf32 || device != "cpu" else {
            throw CohortError(.invalid, "TF32 is of NVIDIA's GPUs: COHORT_TORCH_PRECISION on the CPU is float32 or bfloat16")
        }
        place = device
        self.device = precision == .float32 ? device : "\(device) \(precision.rawValue)"
        self.precision = precision
        self.threads = threads
        self.modules = modules
        seen = Seen()
        plugin.api.set_threads(Int32(clamping: max(1, threads)))
    }

    public var notes: [String] {
        let gpu = plugin.gpus.first { "cuda:\($0.index)" == place }
        return ["PyTorch \(plugin.version) on \(device)\(gpu.map { " (\($0.name))" } ?? "")"] + seen.notes
    }

    /// Modules are run with 32-bit numbers only.
    public var runsModules: Bool { modules != nil && precision != .bfloat16 }

    public func prepare(_ table: FeatureTable) throws -> any PreparedTable {
        TorchTable(table, plugin: plugin, device: place, seen: seen)
    }

    /// Makes a model; a module runs in a separate process.
    public func makeModel(_ spec: ModelSpec, module: [UInt8]?) throws -> any TrainableModel {
        guard let module else { return try ownModel(spec, module: nil) }
        guard let modules else { throw CohortError(.invalid, "no modules are run here") }
        return try RemoteModule(
            spec, module: module, modules, plugin: plugin.path, device: place, threads: threads, precision: precision, seen: seen)
    }

    /// Makes a model in this process: a module may do all that this process may.
    func ownModel(_ spec: ModelSpec, module: [UInt8]?) throws -> TorchModel {
        try TorchModel(spec, module: module, plugin: plugin, device: place, precision: precision, seen: seen)
    }
}

/// Notes of training, each once.
final class Seen: Sendable {
    private let kept = Mutex<[String]>([])

    var notes: [String] { kept.withLock { $0 } }

    func add(_ note: String) {
        kept.withLock { if !$0.contains(note) { $0.append(note) } }
    }
}

/// A table where the device wants it, once a model of this process reads it: a view of the same memory, or a copy on a GPU.
final class TorchTable: PreparedTable, Sendable {
    let table: FeatureTable
    private let plugin: TorchPlugin
    private let device: String
    private let seen: Seen
    private let made = Mutex<Made?>(nil)

    private final class Made: @unchecked Sendable {
        // @unchecked: the plugin only reads it after `init`.
        let handle: OpaquePointer
        /// The table whose memory the handle reads.
        private let table: FeatureTable
        private let plugin: TorchPlugin

        init(_ table: FeatureTable, plugin: TorchPlugin, device: String) throws {
            var handle: OpaquePointer?
            let table = table.dense()
            guard case .dense(let features, let targets) = table.rows else { throw CohortError(.internal, "the table is not dense") }
            try plugin.check(
                plugin.api.make_table(device, features, targets, UInt64(table.rowCount), UInt64(table.featureCount), &handle))
            guard let handle else { throw CohortError(.internal, "PyTorch gave no table") }
            self.handle = handle
            self.table = table
            self.plugin = plugin
        }

        deinit { plugin.api.free_table(handle) }
    }

    init(_ table: FeatureTable, plugin: TorchPlugin, device: String, seen: Seen) {
        self.table = table
        self.plugin = plugin
        self.device = device
        self.seen = seen
    }

    /// Holds as long as this table.
    func handle() throws -> OpaquePointer {
        try made.withLock { made in
            if let made { return made.handle }
            let table = try Made(table, plugin: plugin, device: device)
            if plugin.api.table_is_resident(table.handle) == 0 {
                seen.add("the data set does not fit into the memory of \(device): batches are sent to it one by one")
            }
            made = table
            return table.handle
        }
    }
}
