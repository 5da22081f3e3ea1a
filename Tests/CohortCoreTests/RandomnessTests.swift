import CohortCore
import FoundationEssentials
import Testing

@Suite struct Randomness {
    /// The first outputs of SplitMix64 seeded with 0, as published with its reference implementation.
    @Test func `SplitMix64 gives the published outputs`() {
        var generator = SeededGenerator(seed: 0)
        #expect((0..<3).map { _ in generator.next() } == [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f])
    }

    @Test func `rows are dealt from one permutation, each once`() throws {
        let rows = (0..<100).map { UInt32($0 * 3) }
        let first = try RowAssignment(seed: 5, ranges: [RowRange(start: 0, end: 40)]).rows(of: rows)
        let second = try RowAssignment(seed: 5, ranges: [RowRange(start: 40, end: 100)]).rows(of: rows)
        #expect(Set(first).union(second) == Set(rows) && first.count == 40)
        #expect(first != Array(rows.prefix(40)), "shuffled")
        #expect(throws: CohortError.self) { try RowAssignment(seed: 5, ranges: [RowRange(start: 90, end: 101)]).rows(of: rows) }
    }
}
