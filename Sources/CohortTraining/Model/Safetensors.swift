public import CohortCore
import FoundationEssentials
import Synchronization

/// The `.safetensors` format: eight bytes, little-endian: the header's length; the header: JSON, tensor name → dtype, shape, offsets, and
/// `__metadata__`: text → text; then the tensors' bytes. Here every tensor is F32.
public struct Safetensors: Hashable, Sendable {
    static let longestHeader = 100 << 20

    /// In the order of the bytes.
    public var tensors: [TensorSpec]
    public var metadata: [String: String]
    /// Bytes before the first tensor.
    var dataStart: Int

    private struct Entry: Codable {
        var dtype: String
        var shape: [Int]
        var dataOffsets: [Int]

        enum CodingKeys: String, CodingKey {
            case dtype, shape
            case dataOffsets = "data_offsets"
        }
    }

    /// One JSON object whose values differ in shape: tensors, and the metadata.
    private struct Header: Codable {
        var entries: [String: Entry] = [:]
        var metadata: [String: String] = [:]

        private struct Key: CodingKey {
            var stringValue: String
            var intValue: Int? { nil }
            init(stringValue: String) { self.stringValue = stringValue }
            init?(intValue: Int) { nil }
        }

        init() {}

        init(from decoder: any Decoder) throws {
            let container = try decoder.container(keyedBy: Key.self)
            for key in container.allKeys {
                if key.stringValue == "__metadata__" {
                    metadata = try container.decode([String: String].self, forKey: key)
                } else {
                    entries[key.stringValue] = try container.decode(Entry.self, forKey: key)
                }
            }
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: Key.self)
            if !metadata.isEmpty { try container.encode(metadata, forKey: Key(stringValue: "__metadata__")) }
            for (name, entry) in entries { try container.encode(entry, forKey: Key(stringValue: name)) }
        }
    }

    /// The file of `parameters`, the flat vector in the order of `tensors`.
    static func encode(_ tensors: [TensorSpec], _ parameters: [Float], metadata: [String: String] = [:]) throws -> [UInt8] {
        try file(header: header(tensors, metadata: metadata), parameters, of: tensors)
    }

    fileprivate static func file(header: [UInt8], _ parameters: [Float], of tensors: [TensorSpec]) throws -> [UInt8] {
        guard parameters.count == tensors.reduce(0, { $0 + $1.count }) else {
            throw CohortError(.internal, "\(parameters.count) parameters do not fill the tensors")
        }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(header.count + parameters.count * 4)
        bytes.append(contentsOf: header)
        parameters.withUnsafeBytes { bytes.append(contentsOf: $0) }
        return bytes
    }

    /// All before the first tensor, the length in front included.
    fileprivate static func header(_ tensors: [TensorSpec], metadata: [String: String] = [:]) throws -> [UInt8] {
        var header = Header()
        header.metadata = metadata
        var offset = 0
        for tensor in tensors {
            header.entries[tensor.name] = Entry(dtype: "F32", shape: tensor.shape, dataOffsets: [offset, offset + tensor.count * 4])
            offset += tensor.count * 4
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        var json = [UInt8](try encoder.encode(header))
        // Padded, so that the tensors begin on a multiple of eight.
        while json.count % 8 != 0 { json.append(0x20) }
        return withUnsafeBytes(of: UInt64(json.count).littleEndian) { Array($0) } + json
    }

    /// How many bytes the header takes, length included.
    /// - Throws: ``CohortError`` `invalid` when that cannot be.
    static func headerBytes(_ start: some Collection<UInt8>) throws -> Int {
        let length = start.prefix(8).enumerated().reduce(UInt64(0)) { $0 | UInt64($1.element) << (8 * UInt64($1.offset)) }
        guard start.count >= 8, length >= 2, length <= UInt64(longestHeader) else {
            throw CohortError(.invalid, "this is not a .safetensors file: its first eight bytes are no header's length")
        }
        return 8 + Int(length)
    }

    /// Reads and checks a header, the length in front included.
    init(header bytes: ArraySlice<UInt8>) throws {
        dataStart = try Self.headerBytes(bytes)
        guard bytes.count == dataStart else { throw CohortError(.invalid, "the .safetensors file ends within its header") }
        let header: Header
        do {
            header = try JSONDecoder().decode(Header.self, from: Data(bytes.dropFirst(8)))
        } catch {
            throw CohortError(.invalid, "the .safetensors header is not what it must be: \(error)")
        }
        metadata = header.metadata
        tensors = []
        var offset = 0
        for (name, entry) in header.entries.sorted(by: {
            ($0.value.dataOffsets.first ?? 0, $0.key) < ($1.value.dataOffsets.first ?? 0, $1.key)
        }) {
            guard entry.dtype == "F32" else { throw CohortError(.invalid, "tensor '\(name)' is \(entry.dtype); it must be F32") }
            var count = 1
            for dimension in entry.shape {
                let (product, overflow) = count.multipliedReportingOverflow(by: dimension)
                guard dimension >= 0, !overflow, product < 1 << 40 else {
                    throw CohortError(.invalid, "tensor '\(name)' has the impossible shape \(entry.shape)")
                }
                count = product
            }
            guard entry.dataOffsets.count == 2, entry.dataOffsets[0] == offset, entry.dataOffsets[1] == offset + count * 4 else {
                throw CohortError(
                    .invalid,
                    "tensor '\(name)' of shape \(entry.shape) has the offsets \(entry.dataOffsets); \(offset) to \(offset + count * 4) was expected"
                )
            }
            offset += count * 4
            tensors.append(TensorSpec(name: name, shape: entry.shape))
        }
    }

    /// Bytes of a whole file.
    var fileBytes: Int { dataStart + tensors.reduce(0) { $0 + $1.count } * 4 }

    /// - Throws: ``CohortError`` `invalid` naming the first tensor that differs.
    func check(_ spec: ModelSpec) throws {
        let expected = spec.tensors
        for (have, want) in zip(tensors, expected) where have != want {
            throw CohortError(
                .invalid, "tensor '\(have.name)' of shape \(have.shape) stands where '\(want.name)' of shape \(want.shape) was expected")
        }
        guard tensors.count == expected.count else {
            throw CohortError(.invalid, "\(tensors.count) tensors were given where the model has \(expected.count)")
        }
    }
}

/// A model's weights as a `.safetensors` file: what peers upload and download.
public enum Weights {
    /// The most bytes that a file of this net's weights has: a header and 4 a parameter.
    public static func maxBytes(_ spec: ModelSpec) -> Int { (64 << 10) + 256 * spec.tensors.count + 4 * spec.parameterCount }

    public static func encode(_ spec: ModelSpec, _ parameters: [Float]) throws -> [UInt8] {
        try Safetensors.file(header: header(spec), parameters, of: spec.tensors)
    }

    /// The header that ``encode(_:_:)`` writes. The last one is remembered: the files of a session all begin with the same bytes.
    static func header(_ spec: ModelSpec) throws -> [UInt8] {
        if let last = lastHeader.withLock({ $0 }), last.spec == spec { return last.bytes }
        let bytes = try Safetensors.header(spec.tensors)
        lastHeader.withLock { $0 = (spec, bytes) }
        return bytes
    }

    private static let lastHeader = Mutex<(spec: ModelSpec, bytes: [UInt8])?>(nil)

    /// - Throws: ``CohortError`` `invalid` when the bytes are not whole, or of another model.
    public static func decode(_ bytes: [UInt8], spec: ModelSpec) throws -> [Float] {
        var parameters: [Float] = []
        parameters.reserveCapacity(spec.parameterCount)
        var stream = WeightsStream(spec: spec)
        try stream.feed(bytes) { parameters.append(contentsOf: $0) }
        try stream.finish()
        return parameters
    }
}

/// Reads weights as their bytes arrive, so that whoever sums them never holds a second model.
public struct WeightsStream {
    private let spec: ModelSpec
    private var pending: [UInt8] = []
    private var isHeaderRead = false
    private var remaining: Int

    public init(spec: ModelSpec) {
        self.spec = spec
        remaining = spec.parameterCount
    }

    /// Hands out the floats in the order of the flat parameter vector.
    /// - Throws: ``CohortError`` `invalid` as soon as the bytes cannot be this model's.
    public mutating func feed(_ chunk: [UInt8], _ take: ([Float]) throws -> Void) throws {
        pending.append(contentsOf: chunk)
        if !isHeaderRead {
            guard pending.count >= 8 else { return }
            let needed = try Safetensors.headerBytes(pending)
            guard pending.count >= needed else { return }
            if try !pending.starts(with: Weights.header(spec)) { try Safetensors(header: pending[..<needed]).check(spec) }
            pending.removeFirst(needed)
            isHeaderRead = true
        }
        let count = pending.count / 4
        guard count <= remaining, count < remaining || pending.count % 4 == 0 else {
            throw CohortError(.invalid, "the weights hold more bytes than the model's \(spec.parameterCount) parameters")
        }
        guard count > 0 else { return }
        let floats = [Float](unsafeUninitializedCapacity: count) { floats, initialized in
            pending.withUnsafeBytes {
                UnsafeMutableRawBufferPointer(floats).copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[..<(count * 4)]))
            }
            initialized = count
        }
        pending.removeFirst(count * 4)
        remaining -= count
        try take(floats)
    }

    /// - Throws: ``CohortError`` `invalid` when bytes are missing.
    public func finish() throws {
        guard isHeaderRead, remaining == 0, pending.isEmpty else {
            throw CohortError(
                .invalid, "the weights end early: \(spec.parameterCount - remaining) of \(spec.parameterCount) parameters are there")
        }
    }
}
