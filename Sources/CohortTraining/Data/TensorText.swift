import CohortCore
import FoundationEssentials

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// A data set of tensors: a `.safetensors` file with `inputs` [rows, …] and `targets` [rows], each of any number type. A row's values become the
/// columns x0, x1, …, and its target the column `target`.
struct TensorFile {
    static let (inputsName, targetsName) = ("inputs", "targets")
    static let targetColumn = "target"

    enum NumberType: String {
        case f64 = "F64"
        case f32 = "F32"
        case f16 = "F16"
        case bf16 = "BF16"
        case i64 = "I64"
        case i32 = "I32"
        case i16 = "I16"
        case i8 = "I8"
        case u64 = "U64"
        case u32 = "U32"
        case u16 = "U16"
        case u8 = "U8"
        case bool = "BOOL"

        var bytes: Int {
            switch self {
            case .f64, .i64, .u64: 8
            case .f32, .i32, .u32: 4
            case .f16, .bf16, .i16, .u16: 2
            case .i8, .u8, .bool: 1
            }
        }
    }

    /// A tensor's position in the file, with its type and shape.
    struct Place {
        var type: NumberType
        var start: Int
    }

    let rows: Int
    /// The shape of one row.
    let shape: [Int]
    let inputs: Place
    /// nil: rows that are to be predicted.
    let targets: Place?
    var features: Int { shape.reduce(1, *) }

    /// Returns whether a file with this beginning may be a tensor file: no text begins with a length and a brace.
    static func isOne(_ head: [UInt8]) -> Bool { head.count > 9 && head[4..<8].allSatisfy { $0 == 0 } && head[8] == UInt8(ascii: "{") }

    /// - Throws: ``CohortError`` `invalid` for a file without these tensors, with what it has; for unequal numbers of rows; for one that is not whole.
    init(path: String) throws {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw CohortError(.invalid, "\(path) cannot be read: \(String(cString: strerror(errno)))") }
        defer { close(file) }
        var about = stat()
        guard fstat(file, &about) == 0 else { throw CohortError(.invalid, "\(path) cannot be read: \(String(cString: strerror(errno)))") }
        let size = Int(about.st_size)
        func bytes(_ count: Int) -> [UInt8] {
            [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
                while filled < count {
                    let more = pread(file, buffer.baseAddress.map { $0 + filled }, count - filled, off_t(filled))
                    if more <= 0 { break }
                    filled += more
                }
            }
        }
        let needed = try Safetensors.headerBytes(bytes(8), limit: Safetensors.maxHeaderBytes(tensors: Safetensors.maxTensors))
        let head = bytes(min(needed, size))
        guard head.count == needed else { throw CohortError(.invalid, "the .safetensors file ends within its header") }
        let header: Safetensors.Header
        do { header = try JSONDecoder().decode(Safetensors.Header.self, from: Data(head.dropFirst(8))) } catch {
            throw CohortError(.invalid, "the .safetensors header is not what it must be: \(error)")
        }
        func place(_ name: String) throws -> (Place, [Int]) {
            guard let entry = header.entries[name] else {
                let names = header.entries.keys.sorted().prefix(12).map { "'\($0.printable(max: 40))'" }.joined(separator: ", ")
                throw CohortError(
                    .invalid,
                    "the file has no tensor '\(name)' but \(names.isEmpty ? "none" : names): a data set has inputs [rows, …] and targets [rows]"
                )
            }
            guard let type = NumberType(rawValue: entry.dtype) else {
                throw CohortError(
                    .invalid,
                    "the tensor '\(name)' is \(entry.dtype.printable(max: 20)), which is no type of numbers that can be trained on")
            }
            var count = 1
            for length in entry.shape {
                let (product, overflow) = count.multipliedReportingOverflow(by: length)
                guard length > 0, !overflow, product < 1 << 40 else {
                    throw CohortError(.invalid, "the tensor '\(name)' has the shape \(entry.shape): there is nothing in it, or too much")
                }
                count = product
            }
            guard entry.dataOffsets.count == 2, entry.dataOffsets[0] >= 0, entry.dataOffsets[0] < 1 << 45,
                entry.dataOffsets[1] == entry.dataOffsets[0] + count * type.bytes, needed + entry.dataOffsets[1] <= size
            else {
                throw CohortError(
                    .invalid, "the tensor '\(name)' of shape \(entry.shape) reaches past the file's end: the file is not whole")
            }
            return (Place(type: type, start: needed + entry.dataOffsets[0]), entry.shape)
        }
        let (inputs, all) = try place(Self.inputsName)
        guard let rows = all.first else { throw CohortError(.invalid, "inputs is one number; it must be [rows, …]") }
        var targets: Place?
        if header.entries[Self.targetsName] != nil {
            let (found, labels) = try place(Self.targetsName)
            guard labels == [rows] || labels == [rows, 1] else {
                throw CohortError(
                    .invalid, "inputs has the shape \(all) and targets \(labels): targets must be one number a row, [\(rows)]")
            }
            targets = found
        }
        (self.rows, shape, self.inputs, self.targets) = (rows, all.count > 1 ? Array(all.dropFirst()) : [1], inputs, targets)
        guard features < CSVParser.maxFields else {
            throw CohortError(.invalid, "a row of inputs has \(features) numbers; at most \(CSVParser.maxFields - 1) are supported")
        }
    }
}

/// Properties of a tensor file, for starting sessions.
public enum TensorData {
    /// Returns whether a file with this beginning may be a tensor file.
    public static func isOne(_ head: [UInt8]) -> Bool { TensorFile.isOne(head) }

    /// The shape of one row of its inputs; nil: the file is no such data set.
    /// - Throws: ``CohortError`` `invalid` for one that cannot be trained on.
    public static func rowShape(at path: String) throws -> [Int]? {
        guard try CSVFormat(of: path).encoding == .safetensors else { return nil }
        return try TensorFile(path: path).shape
    }
}

/// Reads a file of tensors as the text of a CSV, rows as they are asked for.
final class TensorText {
    private static let blockBytes = 1 << 18
    /// The maximum width of a number with the comma before it: `-2.2250738585072014e-308`.
    private static let widest = 32

    private let file: TensorFile
    private let descriptor: Int32
    private var row = 0
    /// The header's; then of the rows that were written last, from `given` on not handed out yet.
    private var text: UnsafeMutableBufferPointer<UInt8>
    private var given = 0
    private var written = 0

    /// - Parameter descriptor: of the open file; it stays the caller's.
    init(path: String, descriptor: Int32) throws {
        file = try TensorFile(path: path)
        self.descriptor = descriptor
        var header = (0..<file.features).map { "x\($0)" }.joined(separator: ",")
        if file.targets != nil { header += ",\(TensorFile.targetColumn)" }
        header += "\n"
        let rows = max(1, Self.blockBytes / (file.features * file.inputs.type.bytes))
        text = .allocate(capacity: max(header.utf8.count, rows * (file.features + 1) * Self.widest))
        for byte in header.utf8 { put(byte) }
    }

    deinit { text.deallocate() }

    func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        if given == written {
            (given, written) = (0, 0)
            try write()
        }
        let count = min(buffer.count, written - given)
        buffer.copyMemory(from: UnsafeRawBufferPointer(UnsafeBufferPointer(rebasing: text[given..<(given + count)])))
        given += count
        return count
    }

    private func write() throws {
        let features = file.features
        let inputBytes = features * file.inputs.type.bytes
        let count = min(file.rows - row, max(1, Self.blockBytes / inputBytes))
        guard count > 0 else { return }
        let inputs = try bytes(file.inputs.start + row * inputBytes, count * inputBytes)
        let targetBytes = file.targets?.type.bytes ?? 0
        let targets = try file.targets.map { try bytes($0.start + row * targetBytes, count * targetBytes) } ?? []
        inputs.withUnsafeBytes { inputs in
            targets.withUnsafeBytes { targets in
                for index in 0..<count {
                    let values = UnsafeRawBufferPointer(rebasing: inputs[(index * inputBytes)..<((index + 1) * inputBytes)])
                    append(values, file.inputs.type)
                    if let place = file.targets {
                        append(UnsafeRawBufferPointer(rebasing: targets[(index * targetBytes)..<((index + 1) * targetBytes)]), place.type)
                    }
                    // In place of the last comma.
                    text[written - 1] = 0x0a
                }
            }
        }
        row += count
    }

    private func bytes(_ start: Int, _ count: Int) throws -> [UInt8] {
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            while filled < count {
                let more = pread(descriptor, buffer.baseAddress.map { $0 + filled }, count - filled, off_t(start + filled))
                if more < 0, errno == EINTR { continue }
                if more <= 0 { break }
                filled += more
            }
        }
        guard bytes.count == count else { throw CohortError(.invalid, "the file became shorter while it was read") }
        return bytes
    }

    // MARK: Numbers as text, each with a comma behind it

    private func append(_ bytes: UnsafeRawBufferPointer, _ type: TensorFile.NumberType) {
        func each<Value: BitwiseCopyable>(_ kind: Value.Type, _ body: (Value) -> Void) {
            for offset in stride(from: 0, to: bytes.count, by: MemoryLayout<Value>.size) {
                body(bytes.loadUnaligned(fromByteOffset: offset, as: kind))
            }
        }
        switch type {
        case .u8, .bool: each(UInt8.self) { whole(Int($0)) }
        case .i8: each(Int8.self) { whole(Int($0)) }
        case .i16: each(Int16.self) { whole(Int(Int16(littleEndian: $0))) }
        case .u16: each(UInt16.self) { whole(Int(UInt16(littleEndian: $0))) }
        case .i32: each(Int32.self) { whole(Int(Int32(littleEndian: $0))) }
        case .u32: each(UInt32.self) { whole(Int(UInt32(littleEndian: $0))) }
        case .i64: each(Int64.self) { whole(Int(Int64(littleEndian: $0))) }
        case .u64: each(UInt64.self) { words(UInt64(littleEndian: $0)) }
        case .bf16: each(UInt16.self) { number(Float(bitPattern: UInt32(UInt16(littleEndian: $0)) << 16)) }
        case .f16: each(UInt16.self) { number(Self.half(UInt16(littleEndian: $0))) }
        case .f32: each(UInt32.self) { number(Float(bitPattern: UInt32(littleEndian: $0))) }
        case .f64:
            each(UInt64.self) { bits in
                let value = Double(bitPattern: UInt64(littleEndian: bits))
                if let exact = Int(exactly: value), abs(exact) < 1 << 53 { whole(exact) } else { words(value) }
            }
        }
    }

    private func number(_ value: Float) {
        if value == 0 { return whole(0) }
        if abs(value) < 0x1p24, value == value.rounded(.towardZero) { whole(Int(value)) } else { words(value) }
    }

    private func whole(_ value: Int) {
        guard 0..<1_000 ~= value else { return words(value) }
        if value >= 100 { put(UInt8(0x30 + value / 100)) }
        if value >= 10 { put(UInt8(0x30 + value / 10 % 10)) }
        put(UInt8(0x30 + value % 10))
        put(0x2c)
    }

    private func words(_ value: some CustomStringConvertible) {
        for byte in value.description.utf8 { put(byte) }
        put(0x2c)
    }

    @inline(__always) private func put(_ byte: UInt8) {
        text[written] = byte
        written += 1
    }

    /// IEEE 754's 16 bits as a number.
    static func half(_ bits: UInt16) -> Float {
        let sign: Float = bits & 0x8000 == 0 ? 1 : -1
        let (exponent, fraction) = (Int(bits >> 10 & 0x1f), Float(bits & 0x3ff))
        switch exponent {
        case 0: return sign * fraction * 0x1p-24
        case 31: return fraction == 0 ? sign * .infinity : .nan
        default: return sign * Float(sign: .plus, exponent: exponent - 15, significand: 1 + fraction / 1_024)
        }
    }
}
