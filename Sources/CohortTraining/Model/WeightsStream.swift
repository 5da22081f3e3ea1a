public import CohortCore
import FoundationEssentials

/// Reads weights, or an update, as their bytes arrive, so that whoever sums them never holds a second model.
public struct WeightsStream {
    private let layout: WeightsLayout
    private let allowsChange: Bool
    private var pending: [UInt8] = []
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
        remaining = layout.count
    }

    /// Hands out the floats in the order of the flat parameter vector.
    /// - Throws: ``CohortError`` `invalid` as soon as the bytes cannot be this model's.
    public mutating func feed(_ chunk: [UInt8], _ take: ([Float]) throws -> Void) throws {
        var pending = chunk
        if !self.pending.isEmpty {
            pending = self.pending + chunk
            self.pending = []
        }
        var used = 0
        defer { if used < pending.count { self.pending = Array(pending[used...]) } }
        if !isHeaderRead {
            guard pending.count >= 8 else { return }
            let needed = try Safetensors.headerBytes(pending)
            guard pending.count >= needed else { return }
            var compression = UpdateCompression.none
            if try !pending.starts(with: Weights.header(layout)) {
                if allowsChange, let found = try UpdateFile.compression(header: pending[..<needed], layout) {
                    compression = found
                    isChange = true
                } else {
                    try Safetensors(header: pending[..<needed]).check(layout)
                }
            }
            parts = UpdateFile.parts(layout, compression)[...]
            used = needed
            isHeaderRead = true
        }
        while let part = parts.first {
            let count = min(part.count - done, (pending.count - used) / part.width)
            guard count > 0 else { break }
            let floats = pending.withUnsafeBytes {
                part.floats(UnsafeRawBufferPointer(rebasing: $0[used..<(used + count * part.width)]), from: done, scales: scales)
            }
            used += count * part.width
            done += count
            if part.kind == .scales {
                scales += floats
            } else {
                remaining -= floats.count
                try take(floats)
            }
            if done == part.count {
                parts.removeFirst()
                done = 0
            }
        }
        guard !parts.isEmpty || used == pending.count else {
            throw CohortError(.invalid, "the weights hold more bytes than the \(layout.count) numbers that belong there")
        }
    }

    /// - Throws: ``CohortError`` `invalid` when bytes are missing.
    public func finish() throws {
        guard isHeaderRead, remaining == 0, pending.isEmpty else {
            throw CohortError(
                .invalid, "the weights end early: \(layout.count - remaining) of \(layout.count) parameters are there")
        }
    }
}
