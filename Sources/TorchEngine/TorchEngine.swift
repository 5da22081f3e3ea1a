import CTorch
public import CohortCore
import Synchronization

/// Trains by PyTorch's own kernels, on the CPU or a GPU.
public struct TorchEngine: TrainingEngine {
    /// How matrices are multiplied.
    public enum Precision: String, Sendable, CaseIterable {
        /// In 32-bit floats.
        case float32
        /// With inputs rounded to 10 bits of mantissa: some times as fast on NVIDIA's GPUs since 2020.
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
    private let seen: Seen

    /// - Parameters:
    ///   - device: `cpu` or `cuda:N`.
    ///   - threads: of work on the CPU; for all of this process.
    /// - Throws: ``CohortError`` `invalid` for a device that is not here, with those that are.
    public init(plugin: TorchPlugin, device: String, threads: Int, precision: Precision = .float32) throws {
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
        seen = Seen()
        plugin.api.set_threads(Int32(clamping: max(1, threads)))
    }

    public var notes: [String] {
        let gpu = plugin.gpus.first { "cuda:\($0.index)" == place }
        return ["PyTorch \(plugin.version) on \(device)\(gpu.map { " (\($0.name))" } ?? "")"] + seen.notes
    }

    public func prepare(_ table: FeatureTable) throws -> any PreparedTable {
        let prepared = try TorchTable(table, plugin: plugin, device: place)
        if !prepared.isResident { seen.add("the data set does not fit into the memory of \(place): batches are sent to it one by one") }
        return prepared
    }

    public func makeModel(_ spec: ModelSpec, module: [UInt8]?) throws -> any TrainableModel {
        try TorchModel(spec, module: module, plugin: plugin, device: place, precision: precision, seen: seen)
    }
}

/// What was noticed while training, each thing once.
final class Seen: Sendable {
    private let kept = Mutex<[String]>([])

    var notes: [String] { kept.withLock { $0 } }

    func add(_ note: String) {
        kept.withLock { if !$0.contains(note) { $0.append(note) } }
    }
}

/// A table where the device wants it: a view of the same memory, or a copy on a GPU.
final class TorchTable: PreparedTable, @unchecked Sendable {
    // @unchecked: the plugin only reads it after `init`.
    let table: FeatureTable
    let handle: OpaquePointer
    private let plugin: TorchPlugin

    init(_ table: FeatureTable, plugin: TorchPlugin, device: String) throws {
        var handle: OpaquePointer?
        try plugin.check(
            plugin.api.make_table(device, table.features, table.targets, UInt64(table.rowCount), UInt64(table.featureCount), &handle))
        guard let handle else { throw CohortError(.internal, "PyTorch gave no table") }
        self.table = table
        self.handle = handle
        self.plugin = plugin
    }

    deinit { plugin.api.free_table(handle) }

    /// Whether its rows are in the device's own memory.
    var isResident: Bool { plugin.api.table_is_resident(handle) != 0 }
}
