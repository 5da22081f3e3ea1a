public import CohortCore
import FoundationEssentials
import Synchronization

/// The `.safetensors` format: eight bytes, little-endian: the header's length; the header: JSON, tensor name → dtype, shape, offsets, and
/// `__metadata__`: text → text; then the tensors' bytes. Here every tensor is F32, but for bytes (U8) that a module's file has behind them.
public struct Safetensors: Hashable, Sendable {
    /// The most tensors of a module's file.
    static let maxTensors = 65_536

    /// The most bytes of a header of so many tensors, without a model's schema: a name of 200 bytes, a shape, offsets.
    public static func maxHeaderBytes(tensors: Int) -> Int { (64 << 10) + 400 * min(max(tensors, 0), maxTensors) }

    /// The most bytes of a model file's header, which has the schema with all categories.
    static let maxModelHeader = 64 << 20

    /// The tensors, in the order of their bytes.
    public var tensors: [TensorSpec]
    public var metadata: [String: String]
    /// Name → bytes of the file; they are behind all tensors.
    var bytes: [String: Range<Int>] = [:]
    /// Bytes before the first tensor.
    var dataStart: Int
    /// The size of the whole file.
    var fileBytes = 0

    struct Entry: Codable, Hashable {
        var dtype: String
        var shape: [Int]
        var dataOffsets: [Int]

        enum CodingKeys: String, CodingKey {
            case dtype, shape
            case dataOffsets = "data_offsets"
        }
    }

    /// One JSON object whose values differ in shape: tensors, and the metadata.
    struct Header: Codable {
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
    /// - Parameter bytes: the bytes after the tensors, and their name.
    static func encode(
        _ tensors: [TensorSpec], _ parameters: [Float], metadata: [String: String] = [:], bytes: (name: String, value: [UInt8])? = nil
    ) throws -> [UInt8] {
        let header = try header(tensors, metadata: metadata, bytes: bytes.map { ($0.name, $0.value.count) })
        var file = try file(header: header, parameters, of: tensors)
        if let bytes { file += bytes.value }
        return file
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
    fileprivate static func header(
        _ tensors: [TensorSpec], metadata: [String: String] = [:], bytes: (name: String, count: Int)? = nil
    ) throws -> [UInt8] {
        var header = Header()
        header.metadata = metadata
        var offset = 0
        for tensor in tensors {
            header.entries[tensor.name] = Entry(dtype: "F32", shape: tensor.shape, dataOffsets: [offset, offset + tensor.count * 4])
            offset += tensor.count * 4
        }
        if let bytes {
            header.entries[bytes.name] = Entry(dtype: "U8", shape: [bytes.count], dataOffsets: [offset, offset + bytes.count])
        }
        return try Self.header(header)
    }

    static func header(_ header: Header) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        var json = [UInt8](try encoder.encode(header))
        // Padded, so that the tensors begin on a multiple of eight.
        while json.count % 8 != 0 { json.append(0x20) }
        return withUnsafeBytes(of: UInt64(json.count).littleEndian) { Array($0) } + json
    }

    /// The number of bytes of the header, length included.
    /// - Parameter limit: the most bytes of JSON that the header may have.
    /// - Throws: ``CohortError`` `invalid` for a length that is not a header's.
    static func headerBytes(_ start: some Collection<UInt8>, limit: Int) throws -> Int {
        let length = start.prefix(8).enumerated().reduce(UInt64(0)) { $0 | UInt64($1.element) << (8 * UInt64($1.offset)) }
        guard start.count >= 8, length >= 2, length <= 1 << 40 else {
            throw CohortError(.invalid, "this is not a .safetensors file: its first eight bytes are no header's length")
        }
        guard length <= UInt64(limit) else {
            throw CohortError(.invalid, "the .safetensors header has \(length) bytes; it must have at most \(limit)")
        }
        return 8 + Int(length)
    }

    /// The JSON of a header, the length in front included.
    static func decodeHeader(_ bytes: ArraySlice<UInt8>) throws -> Header {
        guard bytes.count == (try headerBytes(bytes, limit: maxModelHeader)) else {
            throw CohortError(.invalid, "the .safetensors file ends within its header")
        }
        do {
            return try JSONDecoder().decode(Header.self, from: Data(bytes.dropFirst(8)))
        } catch {
            throw CohortError(.invalid, "the .safetensors header is not what it must be: \(error)")
        }
    }

    /// Reads and checks a header, the length in front included.
    /// - Parameter allowsBytes: whether U8 may stand behind the tensors.
    init(header bytes: ArraySlice<UInt8>, allowsBytes: Bool = false) throws {
        dataStart = try Self.headerBytes(bytes, limit: Self.maxModelHeader)
        let header = try Self.decodeHeader(bytes)
        metadata = header.metadata
        tensors = []
        var offset = 0
        for (name, entry) in header.entries.sorted(by: {
            ($0.value.dataOffsets.first ?? 0, $0.key) < ($1.value.dataOffsets.first ?? 0, $1.key)
        }) {
            let width = entry.dtype == "U8" && allowsBytes ? 1 : 4
            guard width == 1 || entry.dtype == "F32" else {
                throw CohortError(.invalid, "tensor '\(name)' is \(entry.dtype); it must be F32")
            }
            guard width == 1 || self.bytes.isEmpty else { throw CohortError(.invalid, "tensor '\(name)' stands behind bytes (U8)") }
            var count = 1
            for dimension in entry.shape {
                let (product, overflow) = count.multipliedReportingOverflow(by: dimension)
                guard dimension >= 0, !overflow, product < 1 << 40 else {
                    throw CohortError(.invalid, "tensor '\(name)' has the impossible shape \(entry.shape)")
                }
                count = product
            }
            let (size, isTooLarge) = count.multipliedReportingOverflow(by: width)
            let (end, isTooFar) = offset.addingReportingOverflow(size)
            guard !isTooLarge, !isTooFar, end < 1 << 50 else {
                throw CohortError(.invalid, "the tensors up to '\(name.printable(max: 60))' have more bytes than a file can have")
            }
            guard entry.dataOffsets.count == 2, entry.dataOffsets[0] == offset, entry.dataOffsets[1] == end else {
                throw CohortError(
                    .invalid,
                    "tensor '\(name)' of shape \(entry.shape) has the offsets \(entry.dataOffsets); \(offset) to \(end) was expected"
                )
            }
            if width == 1 {
                self.bytes[name] = (dataStart + offset)..<(dataStart + end)
            } else {
                tensors.append(TensorSpec(name: name, shape: entry.shape))
            }
            offset = end
        }
        fileBytes = dataStart + offset
    }

    /// The floats of `wanted`, one behind the other, wherever they are in the file.
    /// - Throws: ``CohortError`` `invalid`, naming a tensor that is not there, or has another shape.
    func floats(_ wanted: [TensorSpec], in file: [UInt8]) throws -> [Float] {
        var places: [String: (tensor: TensorSpec, start: Int)] = [:]
        var offset = dataStart
        for tensor in tensors {
            places[tensor.name] = (tensor, offset)
            offset += tensor.count * 4
        }
        return try [Float](unsafeUninitializedCapacity: wanted.reduce(0) { $0 + $1.count }) { floats, initialized in
            try file.withUnsafeBytes { file in
                for tensor in wanted {
                    guard let place = places[tensor.name], place.tensor.shape == tensor.shape, place.start + tensor.count * 4 <= file.count
                    else {
                        throw CohortError(
                            .invalid,
                            "the file has no tensor '\(tensor.name.printable(max: 60))' of shape \(tensor.shape), as its metadata says it has"
                        )
                    }
                    let part = UnsafeMutableRawBufferPointer(
                        UnsafeMutableBufferPointer(rebasing: floats[initialized..<(initialized + tensor.count)]))
                    part.copyMemory(from: UnsafeRawBufferPointer(rebasing: file[place.start..<(place.start + tensor.count * 4)]))
                    initialized += tensor.count
                }
            }
        }
    }

    /// - Throws: ``CohortError`` `invalid` naming the first tensor that differs.
    func check(_ layout: WeightsLayout) throws {
        let expected = layout.tensors
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
    /// The most bytes that such a file has: a header and 4 a number.
    public static func maxBytes(_ layout: WeightsLayout) -> Int {
        maxHeaderBytes(layout) + 8 + 4 * layout.count
    }

    /// The most bytes of its header, and of an update's.
    static func maxHeaderBytes(_ layout: WeightsLayout) -> Int {
        Safetensors.maxHeaderBytes(tensors: 1 + layout.model.tensors.count * (1 + layout.streams.count))
    }

    public static func encode(_ spec: ModelSpec, _ parameters: [Float]) throws -> [UInt8] { try encode(WeightsLayout(spec), parameters) }

    public static func encode(_ layout: WeightsLayout, _ values: [Float]) throws -> [UInt8] {
        try Safetensors.file(header: header(layout), values, of: layout.tensors)
    }

    /// The header that ``encode(_:_:)`` writes. The last one is remembered: the files of a session all begin with the same bytes.
    public static func header(_ layout: WeightsLayout) throws -> [UInt8] {
        if let last = lastHeader.withLock({ $0 }), last.layout == layout { return last.bytes }
        let bytes = try Safetensors.header(layout.tensors)
        lastHeader.withLock { $0 = (layout, bytes) }
        return bytes
    }

    private static let lastHeader = Mutex<(layout: WeightsLayout, bytes: [UInt8])?>(nil)

    /// - Throws: ``CohortError`` `invalid` when the bytes are not whole, or of another model.
    public static func decode(_ bytes: [UInt8], spec: ModelSpec) throws -> [Float] { try decode(bytes, WeightsLayout(spec)) }

    /// A file that has the model alone is taken as well: what the optimizer remembers is zeros then.
    public static func decode(_ bytes: [UInt8], _ layout: WeightsLayout) throws -> [Float] {
        var given = layout
        if !layout.streams.isEmpty,
            try Safetensors(header: bytes.prefix(Safetensors.headerBytes(bytes, limit: maxHeaderBytes(layout)))).tensors
                == layout.model.tensors
        {
            given.streams = []
        }
        var stream = WeightsStream(given)
        let values = try stream.whole(bytes)
        return given == layout ? values : layout.values(values, nil)
    }
}

/// The state of the outer optimizer as a `.safetensors` file: one number per parameter for each slot.
public enum SlotsFile {
    private static func tensors(_ model: ModelSpec, _ names: [String]) -> [TensorSpec] {
        names.flatMap { slot in model.tensors.map { TensorSpec(name: "\(slot)/\($0.name)", shape: $0.shape) } }
    }

    /// All before the numbers, which follow slot by slot.
    public static func header(_ model: ModelSpec, _ names: [String]) throws -> [UInt8] { try Safetensors.header(tensors(model, names)) }

    /// - Throws: ``CohortError`` `invalid` when the bytes are not whole, or of another model or optimizer.
    public static func decode(_ bytes: [UInt8], model: ModelSpec, names: [String]) throws -> [[Float]] {
        let tensors = tensors(model, names)
        let limit = Safetensors.maxHeaderBytes(tensors: tensors.count)
        let header = try Safetensors(header: bytes.prefix(Safetensors.headerBytes(bytes, limit: limit)))
        let values = try header.floats(tensors, in: bytes)
        let count = model.parameterCount
        return names.indices.map { Array(values[($0 * count)..<(($0 + 1) * count)]) }
    }
}
