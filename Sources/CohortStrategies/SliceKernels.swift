import CKernels
import CohortCore
public import CohortSession
import FoundationEssentials

/// Sums up the inner products of changes, a slice of all of them at a time.
public final class GramSum {
    private let count: Int
    private let width: Int
    private var products: [Double]
    /// [count, width], of a slice.
    private var changes: [Double]
    private let threads: OpaquePointer?

    /// - Parameters:
    ///   - count: how many changes.
    ///   - values: of each, in all.
    public init(count: Int, values: Int) {
        self.count = count
        // A tile of all changes stays in the cache.
        width = max(1, min(values, (32 << 10) / max(count, 1)))
        products = [Double](repeating: 0, count: count * count)
        changes = [Double](repeating: 0, count: count * width)
        let isLarge = count >= 8 && count * count * values >= 1 << 26
        threads = isLarge ? cohort_threads_make(Int32(min(16, max(1, ProcessInfo.processInfo.activeProcessorCount)))) : nil
    }

    deinit { if let threads { cohort_threads_free(threads) } }

    /// The next values of all changes.
    /// - Parameters:
    ///   - rows: weights, or with `isChange` a change itself; all have `start`'s length.
    ///   - scales: by which each change is taken.
    public func add(_ rows: [(values: UnsafeBufferPointer<Float>, isChange: Bool)], start: UnsafeBufferPointer<Float>, scales: [Double]) {
        guard let begin = start.baseAddress else { return }
        let zeros = [Float](repeating: 0, count: rows.contains { $0.isChange } ? width : 0)
        var first = 0
        while first < start.count {
            let some = min(width, start.count - first)
            changes.withUnsafeMutableBufferPointer { changes in
                guard let base = changes.baseAddress else { return }
                for (index, row) in rows.enumerated() {
                    guard let values = row.values.baseAddress else { continue }
                    let to = base + index * width
                    if row.isChange {
                        zeros.withUnsafeBufferPointer { zeros in
                            if let zero = zeros.baseAddress { cohort_changes(to, values + first, zero, scales[index], some) }
                        }
                    } else {
                        cohort_changes(to, values + first, begin + first, scales[index], some)
                    }
                }
                products.withUnsafeMutableBufferPointer { products in
                    if let sums = products.baseAddress { cohort_gram(threads, sums, base, count, width, some) }
                }
            }
            first += some
        }
    }

    public var gram: Gram { Gram(count: count, products: products) }
}

/// Sums by weights, of one slice after the other.
public struct SliceSum: Sendable {
    private var sums: [Double]
    private var count = 0

    /// - Parameter most: values of a slice.
    public init(most: Int) { sums = [Double](repeating: 0, count: most) }

    public mutating func begin(_ count: Int) {
        self.count = count
        for index in 0..<count { sums[index] = 0 }
    }

    public mutating func add(_ values: UnsafeBufferPointer<Float>, weight: Double) {
        guard let from = values.baseAddress else { return }
        sums.withUnsafeMutableBufferPointer { sums in
            if let to = sums.baseAddress { cohort_accumulate(to, from, weight, min(count, values.count)) }
        }
    }

    /// Rounded to nearest.
    public func store(in result: UnsafeMutableBufferPointer<Float>) {
        guard let to = result.baseAddress else { return }
        sums.withUnsafeBufferPointer { sums in
            if let from = sums.baseAddress { cohort_narrow(to, from, min(count, result.count)) }
        }
    }
}

/// The inner products of a change with the combined one and with itself.
public struct ChangeDots: Hashable, Sendable {
    /// Its inner product with the combined change, and with itself.
    public private(set) var combined = 0.0
    public private(set) var own = 0.0

    public init() {}

    public init(combined: Double, own: Double) {
        self.combined = combined
        self.own = own
    }

    /// The next values of the weights that it led to.
    public mutating func add(
        _ values: UnsafeBufferPointer<Float>, start: UnsafeBufferPointer<Float>, combined result: UnsafeBufferPointer<Float>
    ) {
        guard let x = values.baseAddress, let begin = start.baseAddress, let end = result.baseAddress else { return }
        var dots = (combined, own)
        withUnsafeMutableBytes(of: &dots) { bytes in
            if let both = bytes.baseAddress?.assumingMemoryBound(to: Double.self) { cohort_dots(x, begin, end, start.count, both) }
        }
        (combined, own) = dots
    }

    /// Returns the cosine of the angle between a change and the combined change of the others.
    /// - Parameters:
    ///   - all: the combined change's own.
    ///   - weight: by which this one counts in it.
    /// - Returns: nil where one of them is zero.
    public func cosine(all: ChangeDots, weight: Double) -> Double? {
        let others = all.own - 2 * weight * combined + weight * weight * own
        // What is left of two equal numbers is rounding.
        guard own > 0, others > all.own * 1e-12 else { return nil }
        return max(-1, min(1, (combined - weight * own) / (own * others).squareRoot()))
    }
}

/// Each parameter by itself: the mean of its values from one rank to another.
public struct ColumnReducer {
    private let network: [UInt32]
    private let ranks: Range<Int>
    private var scratch: [Float]

    /// - Returns: nil for a rule on whole changes.
    public init?(_ rule: AggregationRule, count: Int) {
        guard count > 0 else { return nil }
        switch rule {
        case .median: ranks = ((count - 1) / 2)..<(count / 2 + 1)
        case .trimmedMean(let cut):
            let cut = max(0, min(cut, (count - 1) / 2))
            ranks = cut..<(count - cut)
        case .mean, .krum, .geometricMedian, .centeredClipping: return nil
        }
        network = Self.network(count)
        scratch = [Float](repeating: 0, count: 16 * count)
    }

    /// - Parameter rows: of the same parameters. Their order changes nothing.
    public mutating func reduce(_ rows: [UnsafeBufferPointer<Float>], into result: UnsafeMutableBufferPointer<Float>) {
        guard let out = result.baseAddress else { return }
        let pointers = rows.map(\.baseAddress)
        network.withUnsafeBufferPointer { network in
            scratch.withUnsafeMutableBufferPointer { scratch in
                cohort_middle(
                    pointers, rows.count, result.count, network.baseAddress, network.count / 2, ranks.lowerBound, ranks.upperBound,
                    scratch.baseAddress, out)
            }
        }
    }

    /// Batcher's odd-even merge sort (Knuth, The Art of Computer Programming 3, 5.2.2, Algorithm M): the pairs to compare, one after the other.
    static func network(_ count: Int) -> [UInt32] {
        guard count > 1 else { return [] }
        var pairs: [UInt32] = []
        var top = 1
        while top * 2 < count { top *= 2 }
        var p = top
        while p > 0 {
            var (q, r, d) = (top, 0, p)
            while true {
                for index in 0..<(count - d) where index & p == r { pairs += [UInt32(index), UInt32(index + d)] }
                guard q != p else { break }
                (d, q, r) = (q - p, q / 2, p)
            }
            p /= 2
        }
        return pairs
    }
}
