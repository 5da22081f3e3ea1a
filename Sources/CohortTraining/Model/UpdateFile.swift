import CKernels
public import CohortCore
import FoundationEssentials

/// An update as it travels: weights, or the change of the weights that the round began with in fewer bytes. A `.safetensors` file with the tensors of the layout; with
/// ``UpdateCompression/int8`` the blocks' scales stand before them, stream by stream.
public enum UpdateFile {
    static let scalesName = "scales"

    /// Numbers of one kind that stand one after the other.
    struct Part {
        enum Kind { case plain, scales, ieee, brain, int8, log8 }

        var kind: Kind
        var count: Int
        /// The index of its first scale.
        var firstScale = 0

        /// Bytes a number.
        var width: Int {
            switch kind {
            case .plain, .scales: 4
            case .ieee, .brain: 2
            case .int8, .log8: 1
            }
        }

        var dtype: String {
            switch kind {
            case .plain, .scales: "F32"
            case .ieee: "F16"
            case .brain: "BF16"
            case .int8: "I8"
            case .log8: "U8"
            }
        }

        /// - Parameter first: of the part's numbers.
        func floats(_ bytes: UnsafeRawBufferPointer, from first: Int, scales: [Float]) -> [Float] {
            let count = bytes.count / width
            return [Float](unsafeUninitializedCapacity: count) { floats, initialized in
                initialized = count
                write(bytes, from: first, scales: scales, to: UnsafeMutableBufferPointer(rebasing: floats[..<count]))
            }
        }

        /// - Parameters:
        ///   - first: of the part's numbers.
        ///   - floats: room for as many as `bytes` hold.
        func write(_ bytes: UnsafeRawBufferPointer, from first: Int, scales: [Float], to floats: UnsafeMutableBufferPointer<Float>) {
            let count = floats.count
            guard let to = floats.baseAddress, let from = bytes.baseAddress else { return }
            switch kind {
            case .plain, .scales: UnsafeMutableRawBufferPointer(floats).copyMemory(from: bytes)
            case .ieee, .brain:
                let halves = [UInt16](unsafeUninitializedCapacity: count) { halves, initialized in
                    UnsafeMutableRawBufferPointer(halves).copyMemory(from: bytes)
                    initialized = count
                }
                cohort_from_half(to, halves, count, kind == .brain ? 1 : 0)
            case .int8:
                scales.withUnsafeBufferPointer { scales in
                    guard let own = scales.baseAddress else { return }
                    cohort_from_int8(to, from.assumingMemoryBound(to: Int8.self), own + firstScale, first, count)
                }
            case .log8:
                scales.withUnsafeBufferPointer { scales in
                    guard let own = scales.baseAddress else { return }
                    cohort_from_log8(to, from.assumingMemoryBound(to: UInt8.self), own + firstScale, first, count)
                }
            }
        }
    }

    /// The sizes in bytes that an update of this layout can have, from one byte a number up to a whole file of weights.
    public static func sizes(_ layout: WeightsLayout) -> ClosedRange<Int> {
        layout.count...(Weights.maxBytes(layout) + 4 * blocks(layout.model.parameterCount) * (1 + layout.streams.count))
    }

    private static func blocks(_ count: Int) -> Int { (count + UpdateCompression.block - 1) / UpdateCompression.block }

    /// The parts, in the order of the file's bytes.
    static func parts(_ layout: WeightsLayout, _ compression: UpdateCompression) -> [Part] {
        let count = layout.model.parameterCount
        // Squares, whose root is divided by.
        let isSquare = [false] + layout.streams.map { $0 == "exp_avg_sq" }
        switch compression {
        case .none, .fp32: return [Part(kind: .plain, count: layout.count)]
        case .fp16: return isSquare.map { Part(kind: $0 ? .brain : .ieee, count: count) }
        case .bf16: return isSquare.map { _ in Part(kind: .brain, count: count) }
        case .int8:
            let each = blocks(count)
            return [Part(kind: .scales, count: each * isSquare.count)]
                + isSquare.enumerated().map { Part(kind: $1 ? .log8 : .int8, count: count, firstScale: $0 * each) }
        }
    }

    /// All before the first tensor, the length in front included.
    private static func header(_ layout: WeightsLayout, _ compression: UpdateCompression) throws -> [UInt8] {
        var header = Safetensors.Header()
        header.metadata = ["cohort_update": "change"]
        for entry in entries(layout, compression) { header.entries[entry.name] = entry.value }
        return try Safetensors.header(header)
    }

    private static func entries(_ layout: WeightsLayout, _ compression: UpdateCompression) -> [(name: String, value: Safetensors.Entry)] {
        var entries: [(name: String, value: Safetensors.Entry)] = []
        var offset = 0
        var tensors = layout.tensors[...]
        for part in parts(layout, compression) {
            var left = part.count
            if part.kind == .scales {
                entries.append((scalesName, .init(dtype: "F32", shape: [left], dataOffsets: [offset, offset + 4 * left])))
                offset += 4 * left
                continue
            }
            while left > 0, let tensor = tensors.popFirst() {
                let end = offset + tensor.count * part.width
                entries.append((tensor.name, .init(dtype: part.dtype, shape: tensor.shape, dataOffsets: [offset, end])))
                (offset, left) = (end, left - tensor.count)
            }
        }
        return entries
    }

    /// - Returns: nil for a file that is not compressed.
    /// - Throws: ``CohortError`` `invalid` for a compressed one of another model, naming the first tensor that differs.
    static func compression(header bytes: ArraySlice<UInt8>, _ layout: WeightsLayout) throws -> UpdateCompression? {
        let header = try Safetensors.decodeHeader(bytes)
        guard header.metadata["cohort_update"] == "change" else { return nil }
        let first = layout.tensors.first.flatMap { header.entries[$0.name]?.dtype } ?? ""
        let compression: UpdateCompression
        switch first {
        case "F32": compression = .fp32
        case "F16": compression = .fp16
        case "BF16": compression = .bf16
        case "I8": compression = .int8
        default: throw CohortError(.invalid, "a change's first tensor is '\(first.printable(max: 20))'; it must be F32, F16, BF16 or I8")
        }
        let expected = entries(layout, compression)
        for (name, entry) in expected {
            guard let found = header.entries[name] else { throw CohortError(.invalid, "the change has no tensor '\(name)'") }
            guard found == entry else {
                throw CohortError(
                    .invalid,
                    "tensor '\(name)' is \(found.dtype.printable(max: 20)) of shape \(found.shape) at \(found.dataOffsets); \(entry.dtype) of \(entry.shape) at \(entry.dataOffsets) was expected"
                )
            }
        }
        guard header.entries.count == expected.count else {
            throw CohortError(.invalid, "\(header.entries.count) tensors were given where the change has \(expected.count)")
        }
        return compression
    }

    /// - Parameters:
    ///   - values: in the layout's order: weights, and what the optimizer remembers.
    ///   - start: the weights that the round began with.
    ///   - rest: what rounding left of the changes before; becomes what it leaves now. Empty: nothing.
    public static func encode(
        _ layout: WeightsLayout, values: [Float], start: [Float], compression: UpdateCompression, rest: inout [Float]
    ) throws -> [UInt8] {
        let count = layout.model.parameterCount
        guard compression != .none else { return try Weights.encode(layout, values) }
        guard values.count == layout.count, start.count >= count else {
            throw CohortError(.internal, "\(values.count) numbers do not fill the update")
        }
        let keepsRest = compression != .fp32
        if keepsRest, rest.count != count { rest = [Float](repeating: 0, count: count) }
        var numbers = values
        for index in 0..<count { numbers[index] -= start[index] }
        var scales: [Float] = []
        var codes: [[UInt8]] = []
        var first = 0
        for part in parts(layout, compression) where part.kind != .scales {
            let bytes = numbers[first..<(first + part.count)].withUnsafeBufferPointer { numbers in
                first == 0 && part.kind != .plain
                    ? rest.withUnsafeMutableBufferPointer { part.bytes(numbers, rest: $0.baseAddress, &scales) }
                    : part.bytes(numbers, rest: nil, &scales)
            }
            codes.append(bytes)
            first += part.count
        }
        var file = try header(layout, compression)
        scales.withUnsafeBytes { file += $0 }
        for part in codes { file += part }
        return file
    }
}

extension UpdateFile {
    /// The whole of one.
    /// - Parameter start: the weights that the round began with.
    /// - Throws: ``CohortError`` `invalid` when the bytes are not whole, or of another model.
    public static func decode(_ bytes: [UInt8], _ layout: WeightsLayout, start: [Float]) throws -> [Float] {
        var stream = WeightsStream(layout, allowsChange: true)
        var values = try stream.whole(bytes)
        if stream.isChange { add(start, to: &values, at: 0, upTo: layout.model.parameterCount) }
        return values
    }

    /// Makes weights of a piece of a change.
    /// - Parameters:
    ///   - start: the weights that the round began with.
    ///   - position: of the piece's first number in the layout.
    ///   - count: the model's numbers: what is behind them is no change.
    public static func add(_ start: [Float], to values: inout [Float], at position: Int, upTo count: Int) {
        let some = min(values.count, count - position)
        guard some > 0 else { return }
        start[position..<(position + some)].withUnsafeBufferPointer { start in
            values.withUnsafeMutableBufferPointer { add(start, to: UnsafeMutableBufferPointer(rebasing: $0[..<some])) }
        }
    }

    public static func add(_ start: UnsafeBufferPointer<Float>, to values: UnsafeMutableBufferPointer<Float>) {
        if let to = values.baseAddress, let from = start.baseAddress { cohort_add(to, from, min(values.count, start.count)) }
    }
}

extension UpdateFile.Part {
    /// - Parameter scales: gets the blocks' own behind those that are there.
    fileprivate func bytes(_ numbers: UnsafeBufferPointer<Float>, rest: UnsafeMutablePointer<Float>?, _ scales: inout [Float]) -> [UInt8] {
        var own = [Float](repeating: 0, count: (numbers.count + UpdateCompression.block - 1) / UpdateCompression.block)
        let bytes = [UInt8](unsafeUninitializedCapacity: numbers.count * width) { bytes, initialized in
            initialized = numbers.count * width
            guard let from = numbers.baseAddress, let to = UnsafeMutableRawPointer(bytes.baseAddress) else { return }
            switch kind {
            case .plain, .scales: to.copyMemory(from: from, byteCount: initialized)
            case .ieee, .brain:
                var halves = [UInt16](repeating: 0, count: numbers.count)
                cohort_to_half(&halves, from, rest, numbers.count, kind == .brain ? 1 : 0)
                halves.withUnsafeBytes { to.copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(to), byteCount: $0.count) }
            case .int8: cohort_to_int8(to.assumingMemoryBound(to: Int8.self), &own, from, rest, numbers.count)
            case .log8: cohort_to_log8(to.assumingMemoryBound(to: UInt8.self), &own, from, numbers.count)
            }
        }
        if kind == .int8 || kind == .log8 { scales += own }
        return bytes
    }
}
