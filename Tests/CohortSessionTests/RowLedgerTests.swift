import CohortCore
import CohortSession
import FoundationEssentials
import Testing

@Suite struct Ledger {
    @Test func `counts passes over ranges, however they overlap`() {
        var ledger = RowLedger(rows: 10)
        ledger.add(RowRange(start: 0, end: 4), epochs: 2)
        ledger.add(RowRange(start: 2, end: 10), epochs: 1)
        #expect(ledger.use == RowUse(rows: 10, least: 1, most: 3, mean: 1.6))
        ledger.add(RowRange(start: 4, end: 10), epochs: 1)
        #expect(ledger.runs.map(\.end) == [2, 4, 10] && ledger.runs.map(\.count) == [2, 3, 2])
    }

    @Test func `stays small when every row is used alike`() {
        var ledger = RowLedger(rows: 1_000)
        for start in stride(from: 0, to: 1_000, by: 10) { ledger.add(RowRange(start: start, end: start + 10), epochs: 3) }
        #expect(ledger.runs.count == 1 && ledger.use.least == 3)
    }
}
