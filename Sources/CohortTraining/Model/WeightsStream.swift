public import CohortCore
import FoundationEssentials

/// Reads weights, or an update, as their bytes arrive, so that a sum needs no second model in memory.
public struct WeightsStream {
    /// nil: the bytes are numbers and nothing else.
    private let layout: WeightsLayout?
    private let allowsChange: Bool
    private let total: Int
    /// The received bytes that were not read yet, from `used` on.
    private var bytes: [UInt8] = []
    private var used = 0
    private var isHeaderRead = false
    /// Parts that are not read to their end yet.
    private var parts: ArraySlice<UpdateFile.Part> = []
    /// Numbers of the first part that were read.
    private var done = 0
    private var scales: [Float] = []
    private var remaining: Int
    /// The model's numbers are the change of the weights that the round began with, not weights. Known once the first numbers have come.
    public private(set) var isChange = false

    /// - Parameter allowsChange: whether an update that is compressed is taken as well.
    public init(_ layout: WeightsLayout, allowsChange: Bool = false) {
        self.layout = layout
        self.allowsChange = allowsChange
        total = layout.count
        remaining = total
    }

    /// A stream of numbers of 4 bytes, without a header.
    public init(numbers: Int) {
        layout = nil
        allowsChange = false
        total = numbers
        remaining = numbers
        parts = [UpdateFile.Part(kind: .plain, count: numbers)]
        isHeaderRead = true
    }

    /// The next bytes, for ``read(into:)``.
    public mutating func append(_ chunk: [UInt8]) {
        if used == bytes.count {
            bytes = chunk
        } else {
            var rest = Array(bytes[used...])
            rest += chunk
            bytes = rest
        }
        used = 0
    }

    /// Reads what has come, in the order of the flat parameter vector.
    /// - Returns: how many numbers; fewer than there is room for when more bytes have to come first.
    /// - Throws: ``CohortError`` `invalid` as soon as the bytes do not fit the model.
    public mutating func read(into floats: UnsafeMutableBufferPointer<Float>) throws -> Int {
        var filled = 0
        while filled < floats.count {
            let count = min(try available(), floats.count - filled)
            guard count > 0, let part = parts.first else { break }
            let end = used + count * part.width
            bytes.withUnsafeBytes { bytes in
                part.write(
                    UnsafeRawBufferPointer(rebasing: bytes[used..<end]), from: done, scales: scales,
                    to: UnsafeMutableBufferPointer(rebasing: floats[filled..<(filled + count)]))
            }
            filled += count
            remaining -= count
            pass(count, to: end)
        }
        return filled
    }

    /// Reads a whole file.
    /// - Throws: ``CohortError`` `invalid` when the bytes do not fit the model.
    public mutating func whole(_ file: [UInt8]) throws -> [Float] {
        append(file)
        let values = try [Float](unsafeUninitializedCapacity: total) { values, initialized in
            initialized = try read(into: UnsafeMutableBufferPointer(rebasing: values[..<total]))
        }
        try finish()
        return values
    }

    /// Passes over what has come.
    public mutating func skip() throws {
        while case let count = try available(), count > 0, let part = parts.first {
            remaining -= count
            pass(count, to: used + count * part.width)
        }
    }

    /// Hands out the floats in the order of the flat parameter vector.
    /// - Throws: ``CohortError`` `invalid` as soon as the bytes do not fit the model.
    public mutating func feed(_ chunk: [UInt8], _ take: ([Float]) throws -> Void) throws {
        append(chunk)
        while true {
            let count = try available()
            guard count > 0 else { return }
            try take(
                try [Float](unsafeUninitializedCapacity: count) { floats, initialized in
                    initialized = try read(into: UnsafeMutableBufferPointer(rebasing: floats[..<count]))
                })
        }
    }

    /// - Throws: ``CohortError`` `invalid` when bytes are missing, or too many.
    public mutating func finish() throws {
        _ = try available()
        guard isHeaderRead, remaining == 0, used == bytes.count else {
            throw CohortError(.invalid, "the weights end early: \(total - remaining) of \(total) parameters are there")
        }
    }

    /// Returns the count of numbers of the first part that can be read now, past those already read.
    private mutating func available() throws -> Int {
        if !isHeaderRead, try !readHeader() { return 0 }
        while let part = parts.first {
            let count = min(part.count - done, (bytes.count - used) / part.width)
            guard part.kind == .scales, count > 0 else { return count }
            let end = used + count * part.width
            scales += bytes.withUnsafeBytes { part.floats(UnsafeRawBufferPointer(rebasing: $0[used..<end]), from: done, scales: []) }
            pass(count, to: end)
        }
        guard used == bytes.count else {
            throw CohortError(.invalid, "the weights hold more bytes than the \(total) numbers that belong there")
        }
        return 0
    }

    private mutating func pass(_ count: Int, to end: Int) {
        used = end
        done += count
        guard done == parts.first?.count else { return }
        parts.removeFirst()
        done = 0
    }

    /// - Returns: whether it is all there.
    private mutating func readHeader() throws -> Bool {
        guard let layout, bytes.count - used >= 8 else { return false }
        let given = bytes[used...]
        let needed = try Safetensors.headerBytes(given, limit: Weights.maxHeaderBytes(layout))
        guard given.count >= needed else { return false }
        var compression = UpdateCompression.none
        if try !given.starts(with: Weights.header(layout)) {
            if allowsChange, let found = try UpdateFile.compression(header: given.prefix(needed), layout) {
                compression = found
                isChange = true
            } else {
                try Safetensors(header: given.prefix(needed)).check(layout)
            }
        }
        parts = UpdateFile.parts(layout, compression)[...]
        used += needed
        isHeaderRead = true
        return true
    }
}
