public import CohortCore

/// The rows of an epoch in the order that they are trained on, a piece at a time; every piece but the last is whole batches.
///
/// A small table is shuffled whole. A large one need not fit in memory, so it is read in blocks: the rows,
/// ascending, are cut into blocks; the blocks are shuffled; the rows of every `Limits.window` blocks that then follow one another are
/// shuffled together; all by the stream `epoch/ROUND/EPOCH`. What comes next is read ahead. Which way depends on the table's shape alone,
/// never on the machine.
public struct EpochOrder {
    /// The limits from which a table is read in blocks.
    struct Limits {
        /// Bytes of features, as they lie in memory, of the largest table that is shuffled whole.
        var whole = 1 << 29
        /// Bytes of a block; it is at least one row.
        var block = 1 << 18
        /// Blocks that are shuffled together.
        var window = 512

        func isLarge(_ table: FeatureTable) -> Bool { table.rowCount * table.rowFeatureBytes > whole }
    }

    private let table: FeatureTable
    /// Ascending, when the table is large.
    private let rows: [UInt32]
    private let batchSize: Int
    private let limits: Limits
    private let blockRows: Int
    private var generator: SeededGenerator
    /// The blocks in reading order.
    private var blocks: [UInt32]
    private var nextBlock = 0
    private var nextRead = 0
    private var window: [UInt32] = []
    private var taken = 0

    /// - Parameter rows: indices into `table`; `rows(at:in:)` gives them.
    public init(_ rows: [UInt32], of table: FeatureTable, batchSize: Int, seed: UInt64, round: Int, epoch: Int) {
        self.init(rows, of: table, batchSize: batchSize, seed: seed, round: round, epoch: epoch, limits: Limits())
    }

    init(_ rows: [UInt32], of table: FeatureTable, batchSize: Int, seed: UInt64, round: Int, epoch: Int, limits: Limits) {
        self.table = table
        self.rows = rows
        self.batchSize = max(batchSize, 1)
        self.limits = limits
        blockRows = max(1, limits.block / table.rowFeatureBytes)
        generator = SeededGenerator(seed: seed, purpose: "epoch/\(round)/\(epoch)")
        if limits.isLarge(table) {
            blocks = (0..<UInt32((rows.count + blockRows - 1) / blockRows)).map { $0 }
            generator.shuffle(&blocks)
        } else {
            blocks = []
            window = rows
            generator.shuffle(&window)
        }
    }

    /// The training rows at these places, as ``EpochOrder`` takes them.
    /// - Throws: ``CohortError`` `invalid` when a range reaches past the rows there are.
    public static func rows(at places: [RowRange], in table: FeatureTable) throws -> [UInt32] {
        let rows = table.trainingRows
        let assigned = try places.flatMap { range in
            guard range.isValid(among: rows.count) else {
                throw CohortError(
                    .invalid, "rows \(range.start) to \(range.end) were assigned, but there are \(rows.count) training rows")
            }
            return rows[range.start..<range.end]
        }
        return Limits().isLarge(table) ? assigned.sorted() : assigned
    }

    /// The next rows to train on; nil after the last.
    public mutating func next() -> [UInt32]? {
        if window.count - taken < batchSize { fill() }
        let left = window.count - taken
        guard left > 0 else { return nil }
        var count = left
        if !blocks.isEmpty {
            // A piece at a time, so that reading ahead is spread over the window.
            count = min(left, max(1, limits.window * blockRows / 16 / batchSize) * batchSize)
            if nextBlock < blocks.count || count < left { count -= count % batchSize }
            // One row alone is no batch for a module with batch normalization.
            if nextBlock >= blocks.count, left - count == 1 { count += 1 }
            readAhead()
        }
        defer { taken += count }
        return count == window.count ? window : Array(window[taken..<(taken + count)])
    }

    /// Adds windows behind what is left of the last, until there is a batch.
    private mutating func fill() {
        window.removeSubrange(..<taken)
        taken = 0
        while window.count < batchSize, nextBlock < blocks.count {
            let end = min(nextBlock + limits.window, blocks.count)
            var fresh: [UInt32] = []
            fresh.reserveCapacity((end - nextBlock) * blockRows)
            for block in blocks[nextBlock..<end] { fresh += rows[positions(of: block)] }
            generator.shuffle(&fresh)
            window += fresh
            nextBlock = end
        }
    }

    /// Keeps the reading one window ahead.
    private mutating func readAhead() {
        let share = window.isEmpty ? 1 : Double(taken) / Double(window.count) + 1.0 / 16
        let end = min(blocks.count, nextBlock + Int(Double(limits.window) * min(share, 1)))
        while nextRead < end {
            table.willNeed(rows[positions(of: blocks[nextRead])])
            nextRead += 1
        }
    }

    private func positions(of block: UInt32) -> Range<Int> {
        (Int(block) * blockRows)..<min(rows.count, (Int(block) + 1) * blockRows)
    }
}

extension FeatureTable {
    /// Bytes of a row's features in memory; of a packed row with its target.
    fileprivate var rowFeatureBytes: Int {
        switch rows {
        case .dense: featureCount * 4
        case .packed(let packed): packed.layout.recordBytes
        }
    }

    /// Says that these rows, ascending, will be read soon; those that lie close together as one span.
    fileprivate func willNeed(_ rows: ArraySlice<UInt32>) {
        guard var start = rows.first, var last = rows.first else { return }
        // Reading 64 KiB further costs no more than a new read.
        let close = UInt32(max(1, (1 << 16) / rowFeatureBytes))
        for row in rows {
            if row - last > close {
                willNeed(Int(start)..<(Int(last) + 1))
                start = row
            }
            last = row
        }
        willNeed(Int(start)..<(Int(last) + 1))
    }
}

extension TrainableModel {
    /// Evaluates like ``evaluate(on:rows:shouldContinue:)``, reading ahead where the table is large.
    /// - Parameter rows: ascending.
    public func evaluate(ahead rows: ArraySlice<UInt32>, of prepared: any PreparedTable, shouldContinue: () -> Bool) throws -> Counts {
        let table = prepared.table
        guard EpochOrder.Limits().isLarge(table) else { return try evaluate(on: prepared, rows: rows, shouldContinue: shouldContinue) }
        var counts = Counts()
        var piece = rows.prefix(4_096)
        table.willNeed(piece)
        while !piece.isEmpty, shouldContinue() {
            let next = rows[piece.endIndex...].prefix(4_096)
            table.willNeed(next)
            counts = try counts + evaluate(on: prepared, rows: piece, shouldContinue: shouldContinue)
            piece = next
        }
        return counts
    }
}
