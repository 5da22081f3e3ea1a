import CohortCore
import FoundationEssentials
import SystemPackage

/// An array as `numpy.save` writes it: `\x93NUMPY`, a version, the length of a header, the header (a Python dictionary as text), the numbers.
public struct NumPyFile {
    let path: String
    /// The type's name in safetensors.
    let type: String
    public let shape: [Int]
    private let start: Int

    /// - Throws: ``CohortError`` `invalid` for a file that is none, or of numbers that cannot be trained on.
    public init(path: String) throws {
        func problem(_ text: String) -> CohortError { CohortError(.invalid, "\(path): \(text)") }
        let head: [UInt8]
        do {
            let file = try FileDescriptor.open(path, .readOnly)
            head = try file.closeAfter { try file.bytes(1 << 16) }
        } catch {
            throw problem("it cannot be read: \(error)")
        }
        guard head.count >= 12, head.starts(with: [0x93] + Array("NUMPY".utf8)) else {
            throw problem("it is not what numpy.save writes")
        }
        let wide = head[6] >= 2
        let length = wide ? head[8..<12].reversed().reduce(0) { $0 << 8 | Int($1) } : Int(head[8]) | Int(head[9]) << 8
        start = (wide ? 12 : 10) + length
        guard start <= head.count else { throw problem("its header is too long") }
        let text = String(decoding: head[(wide ? 12 : 10)..<start], as: UTF8.self)
        guard let descr = text.firstMatch(of: /'descr': *'([<>|=])([fiub])([0-9])'/),
            let order = text.firstMatch(of: /'fortran_order': *(True|False)/),
            let shape = text.firstMatch(of: /'shape': *\(([0-9, ]*)\)/)
        else { throw problem("it holds no plain numbers, but \(text.printable(max: 80))") }
        guard order.1 == "False" else { throw problem("it is in Fortran's order: save numpy.ascontiguousarray(array)") }
        guard descr.1 != ">" else { throw problem("its numbers are big-endian: save array.astype('<f4')") }
        let types = [
            "f2": "F16", "f4": "F32", "f8": "F64", "i1": "I8", "i2": "I16", "i4": "I32", "i8": "I64", "u1": "U8", "u2": "U16", "u4": "U32",
            "u8": "U64", "b1": "BOOL",
        ]
        guard let type = types["\(descr.2)\(descr.3)"], let number = TensorFile.NumberType(rawValue: type) else {
            throw problem("its numbers are '\(descr.2)\(descr.3)', which cannot be trained on")
        }
        self.type = type
        self.shape = shape.1.split(whereSeparator: { $0 == "," || $0 == " " }).compactMap { Int($0) }
        var bytes = number.bytes
        for length in self.shape {
            let (product, overflow) = bytes.multipliedReportingOverflow(by: length)
            guard !overflow, product < 1 << 45 else { throw problem("the shape \(self.shape) is too large") }
            bytes = product
        }
        self.path = path
        self.bytes = bytes
        let size = try? FileManager.default.attributesOfItem(atPath: path)[.size] as? Int  // Unknown is not whole.
        guard size == start + bytes else {
            throw problem("it has \(size ?? 0) bytes where its header says \(start + bytes): it is not whole")
        }
    }

    private let bytes: Int

    /// Writes both as one data set of tensors, `inputs` and `targets`, which training takes in place of a CSV.
    /// - Parameter targets: nil: rows that are to be predicted.
    /// - Throws: ``CohortError`` `invalid` when they do not go together, `storageFull`.
    public static func pack(inputs: NumPyFile, targets: NumPyFile?, to path: String) throws {
        if let targets {
            guard let rows = inputs.shape.first, targets.shape == [rows] || targets.shape == [rows, 1] else {
                throw CohortError(
                    .invalid,
                    "\(inputs.path) has the shape \(inputs.shape) and \(targets.path) \(targets.shape): targets must be one number a row, [\(inputs.shape.first ?? 0)]"
                )
            }
        }
        var header = Safetensors.Header()
        header.entries[TensorFile.inputsName] = .init(dtype: inputs.type, shape: inputs.shape, dataOffsets: [0, inputs.bytes])
        if let targets {
            header.entries[TensorFile.targetsName] = .init(
                dtype: targets.type, shape: targets.shape, dataOffsets: [inputs.bytes, inputs.bytes + targets.bytes])
        }
        do {
            var json = [UInt8](try JSONEncoder().encode(header))
            while json.count % 8 != 0 { json.append(0x20) }
            let file = try FileDescriptor.open(
                FilePath(path), .writeOnly, options: [.create, .exclusiveCreate, .closeOnExec], permissions: [.ownerReadWrite])
            try file.closeAfter {
                try file.writeAll(withUnsafeBytes(of: UInt64(json.count).littleEndian) { Array($0) } + json)
                for part in [inputs] + (targets.map { [$0] } ?? []) { try part.copy(to: file) }
            }
        } catch let error as CohortError {
            throw error
        } catch {
            throw CohortError(.storageFull, "\(path) cannot be written: \(error)")
        }
    }

    private func copy(to other: FileDescriptor) throws {
        let file = try FileDescriptor.open(path, .readOnly)
        try file.closeAfter {
            var buffer = [UInt8](repeating: 0, count: 1 << 20)
            var place = Int64(start)
            while true {
                let count = try buffer.withUnsafeMutableBytes { try file.read(fromAbsoluteOffset: place, into: $0) }
                if count == 0 { return }
                place += Int64(count)
                try buffer.withUnsafeBytes { _ = try other.writeAll($0[..<count]) }
            }
        }
    }
}
