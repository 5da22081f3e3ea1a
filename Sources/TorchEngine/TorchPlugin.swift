import CTorch
import CohortCore

/// The shared library that `make torch` builds, opened: libtorch and what it finds on this machine. Once open it stays.
public final class TorchPlugin: @unchecked Sendable {
    // @unchecked: the table of functions is constant, and they may be called from any thread.

    /// A CUDA device.
    public struct GPU: Hashable, Sendable {
        public var index: Int
        public var name: String
        /// The bytes of its memory.
        public var bytes: Int
    }

    let api: cohort_torch_api
    public let path: String

    /// Loads libtorch as well, which takes about a second.
    /// - Throws: ``CohortError`` `unavailable`: the file is missing or cannot be loaded, or serves another interface version.
    public init(path: String) throws {
        var message = [CChar](repeating: 0, count: 1_024)
        guard let api = cohort_torch_load(path, &message, message.count) else {
            let text = message.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" }
            throw CohortError(.unavailable, "the torch engine cannot be loaded: \(text.printable(max: 600))")
        }
        self.api = api.pointee
        self.path = path
    }

    /// The version of libtorch, such as 2.9.1.
    public var version: String { text(api.version) }

    /// The GPUs that CUDA finds, in its order.
    public var gpus: [GPU] {
        (0..<max(0, Int(api.cuda_devices()))).compactMap { index in
            var name = [CChar](repeating: 0, count: 256)
            var bytes: UInt64 = 0
            guard api.cuda_describe(Int32(index), &name, name.count, &bytes) == 0 else { return nil }
            let text = name.withUnsafeBufferPointer { self.text($0.baseAddress) }
            return GPU(index: index, name: text.printable(max: 64), bytes: Int(clamping: bytes))
        }
    }

    /// The reason why there is no GPU; empty where there is one.
    public var gpuNote: String { text(api.cuda_note()) }

    /// - Throws: ``CohortError`` with the plugin's sentence, unless `status` is 0.
    func check(_ status: Int32) throws {
        guard status != 0 else { return }
        let text = self.text(api.last_error()).printable(max: 600)
        switch UInt32(bitPattern: status) {
        case COHORT_TORCH_INVALID.rawValue: throw CohortError(.invalid, text)
        case COHORT_TORCH_MEMORY.rawValue:
            throw CohortError(
                .unavailable,
                "the device has not enough memory for this model and batch_size, half of it included (\(text)): choose a smaller batch_size, or start this peer with --device cpu"
            )
        default: throw CohortError(.internal, "PyTorch: \(text)")
        }
    }

    private func text(_ text: UnsafePointer<CChar>?) -> String { text.map { String(cString: $0) } ?? "" }
}
