import CohortCore
import Synchronization
import TestSupport
import Testing

@testable import CohortTraining

/// A table of which only the shape matters, and what was asked to be read ahead.
private final class Shelf: Sendable {
    private let spans = Mutex<[Range<Int>]>([])

    func table(rows: Int, features: Int) -> FeatureTable {
        let memory = UnsafeMutablePointer<Float>.allocate(capacity: 1)
        nonisolated(unsafe) let owned = memory
        return FeatureTable(
            .dense(features: memory, targets: memory), rowCount: rows, featureCount: features, trainingRows: (0..<UInt32(rows)).map { $0 },
            validationRows: [], willNeed: { rows in self.spans.withLock { $0.append(rows) } }, release: { owned.deallocate() })
    }

    var read: [Range<Int>] { spans.withLock { $0 } }
}

@Suite struct OrderOfAnEpoch {
    /// 10 rows a block, 4 blocks a window.
    private let limits = EpochOrder.Limits(whole: 1_000, block: 80, window: 4)

    private func pieces(_ table: FeatureTable, rows: [UInt32], batch: Int, epoch: Int = 0) -> [[UInt32]] {
        var order = EpochOrder(rows, of: table, batchSize: batch, seed: 7, round: 2, epoch: epoch, limits: limits)
        var pieces: [[UInt32]] = []
        while let piece = order.next() { pieces.append(piece) }
        return pieces
    }

    @Test func `a small table is shuffled whole`() {
        let table = Shelf().table(rows: 100, features: 2)
        #expect(pieces(table, rows: table.trainingRows, batch: 8) == [shuffledRows(table.trainingRows, seed: 7, round: 2, epoch: 0)])
    }

    @Test(arguments: [1, 7, 10, 64, 333, 2_000]) func `a large one has every row once, in whole batches`(batch: Int) {
        let table = Shelf().table(rows: 1_003, features: 2)
        let rows = table.trainingRows.filter { $0 % 3 != 1 }
        let pieces = pieces(table, rows: rows, batch: batch)
        #expect(pieces.joined().sorted() == rows)
        #expect(pieces.dropLast().allSatisfy { $0.count % batch == 0 })
        #expect(Array(pieces.joined()) == Array(self.pieces(table, rows: rows, batch: batch).joined()))
        #expect(Array(pieces.joined()) != Array(self.pieces(table, rows: rows, batch: batch, epoch: 1).joined()))
    }

    @Test func `rows are mixed within a window, and windows are blocks from all over`() {
        let table = Shelf().table(rows: 1_000, features: 2)
        let order = Array(pieces(table, rows: table.trainingRows, batch: 1).joined())
        for start in stride(from: 0, to: 1_000, by: 40) {
            let window = order[start..<(start + 40)]
            #expect(Set(window.map { $0 / 10 }).count == 4)
            #expect(Array(window) != window.sorted())
        }
        let firsts = stride(from: 0, to: 1_000, by: 40).map { order[$0] / 10 }
        #expect(firsts != firsts.sorted())
    }

    @Test func `every block is read ahead once, before its rows are trained on`() {
        let shelf = Shelf()
        let table = shelf.table(rows: 995, features: 2)
        var order = EpochOrder(table.trainingRows, of: table, batchSize: 4, seed: 7, round: 0, epoch: 0, limits: limits)
        while let piece = order.next() {
            let read = shelf.read
            #expect(piece.allSatisfy { row in read.contains { $0.contains(Int(row)) } })
            // No further than a window and a bit beyond what is trained on.
            #expect(read.count <= 100)
        }
        #expect(shelf.read.count == 100)
        #expect(shelf.read.reduce(0) { $0 + $1.count } == 995)
    }

    @Test func `reading stays one window ahead`() {
        let shelf = Shelf()
        let table = shelf.table(rows: 1_000, features: 2)
        var order = EpochOrder(table.trainingRows, of: table, batchSize: 4, seed: 7, round: 0, epoch: 0, limits: limits)
        var trained = 0
        while let piece = order.next() {
            trained += piece.count
            #expect(shelf.read.reduce(0) { $0 + $1.count } <= trained + 2 * 40 + 10)
        }
    }
}
