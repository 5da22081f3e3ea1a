import CohortCore
import FoundationEssentials
import TestSupport
import Testing

@Suite struct Randomness {
    /// The first outputs of SplitMix64 seeded with 0, as published with its reference implementation.
    @Test func `SplitMix64 gives the published outputs`() {
        var generator = SeededGenerator(seed: 0)
        #expect((0..<3).map { _ in generator.next() } == [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f])
    }

    @Test func `a table's places are one permutation of the rows, as the seed deals them`() {
        let parts = TableParts(trainingRows: 100, validationRows: 20, recordBytes: 8)
        let places = parts.places(seed: 5)
        #expect(Set(places) == Set(0..<100) && places != Array(0..<100))
        for (place, rank) in dealt((0..<100).map { UInt32($0) }, seed: 5).enumerated() { #expect(places[Int(rank)] == place) }
        #expect(places != parts.places(seed: 6))
    }

    /// Compared with one bit for each of 40 rows.
    @Test func `a set of rows joins what touches, and names what is missing`() {
        var generator = SeededGenerator(seed: 1)
        for _ in 0..<200 {
            var (set, bits) = (RowSet(), [Bool](repeating: false, count: 40))
            for _ in 0..<Int.random(in: 0..<6, using: &generator) {
                let start = Int.random(in: 0...40, using: &generator)
                let range = RowRange(start: start, end: Int.random(in: start...40, using: &generator))
                set.insert(range)
                for row in range.start..<range.end { bits[row] = true }
            }
            #expect(set.ranges.flatMap { $0.start..<$0.end } == bits.indices.filter { bits[$0] } && set.count == bits.count { $0 })
            #expect(zip(set.ranges, set.ranges.dropFirst()).allSatisfy { $0.end < $1.start })
            let start = Int.random(in: 0...40, using: &generator)
            let range = RowRange(start: start, end: Int.random(in: start...40, using: &generator))
            let missing = (range.start..<range.end).filter { !bits[$0] }
            #expect(set.missing(of: range).flatMap { $0.start..<$0.end } == missing)
            #expect(set.contains(range) == missing.isEmpty)
        }
    }
}
