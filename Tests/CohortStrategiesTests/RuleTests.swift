import CohortCore
import CohortSession
import Foundation
import Testing

@testable import CohortStrategies

/// Rules against what byzfl makes of the same changes (Resources/make_byzfl.py).
@Suite struct RuleTests {
    struct Case: Codable, Sendable {
        var malicious: Int
        var changes: [[Float]]
        var center: [Float]
        var median, trimmedMean, krum, multiKrum, geometricMedian, centeredClipping, nnmTrimmedMean, nnmMultiKrum,
            nnmGeometricMedian: [Double]
    }

    private static func cases() throws -> [Case] {
        let url = try #require(Bundle.module.url(forResource: "byzfl", withExtension: "json"))
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode([Case].self, from: Data(contentsOf: url))
    }

    private func gram(_ changes: [[Float]], pieces: Int = 1) -> Gram {
        let sum = GramSum(count: changes.count, values: changes[0].count)
        let zeros = [Float](repeating: 0, count: changes[0].count)
        let pointers = changes.map { change in
            let pointer = UnsafeMutableBufferPointer<Float>.allocate(capacity: change.count)
            _ = pointer.initialize(from: change)
            return pointer
        }
        defer { for pointer in pointers { pointer.deallocate() } }
        zeros.withUnsafeBufferPointer { zeros in
            for piece in 0..<pieces {
                let range = (zeros.count * piece / pieces)..<(zeros.count * (piece + 1) / pieces)
                sum.add(
                    pointers.map { (values: UnsafeBufferPointer(rebasing: $0[range]), isChange: false) },
                    start: UnsafeBufferPointer(rebasing: zeros[range]), scales: changes.map { _ in 1 })
            }
        }
        return sum.gram
    }

    private func mixed(_ changes: [[Float]], _ rows: [[Double]]) -> [[Float]] {
        rows.prefix(changes.count).map { row in
            changes[0].indices.map { index in Float(zip(row, changes).reduce(0) { $0 + $1.0 * Double($1.1[index]) }) }
        }
    }

    private func columns(_ rule: AggregationRule, _ changes: [[Float]]) throws -> [Double] {
        var reducer = try #require(ColumnReducer(rule, count: changes.count))
        var result = [Float](repeating: 0, count: changes[0].count)
        let pointers = changes.map { change in
            let pointer = UnsafeMutableBufferPointer<Float>.allocate(capacity: change.count)
            _ = pointer.initialize(from: change)
            return UnsafeBufferPointer(pointer)
        }
        defer { for pointer in pointers { pointer.deallocate() } }
        result.withUnsafeMutableBufferPointer { reducer.reduce(pointers, into: $0) }
        return result.map(Double.init)
    }

    /// Sums the changes up as the rule's weights have it.
    private func combined(_ rule: AggregationRule, _ changes: [[Float]], center: [Float]? = nil, mixing: Int? = nil) -> [Double] {
        let all = changes + (center.map { [$0] } ?? [])
        let gram = gram(all)
        let rows = mixing.map { NearestNeighborMixing.rows(gram, count: changes.count, malicious: $0) }
        let combination = rule.combination(
            rows.map { gram.mixed($0) } ?? gram, weights: changes.map { _ in 1 / Double(changes.count) })
        var weights = combination.weights
        if let rows { weights = changes.indices.map { column in changes.indices.reduce(0) { $0 + weights[$1] * rows[$1][column] } } }
        return changes[0].indices.map { index in
            zip(weights, changes).reduce(0) { $0 + $1.0 * Double($1.1[index]) } + combination.center * Double(center?[index] ?? 0)
        }
    }

    private func agree(_ found: [Double], _ expected: [Double], tolerance: Double = 1e-6) -> Bool {
        found.count == expected.count && zip(found, expected).allSatisfy { abs($0 - $1) <= tolerance * max(1, abs($1)) }
    }

    @Test func `each rule gives byzfl's numbers`() throws {
        let cases = try Self.cases()
        #expect(cases.count == 4)
        for each in cases {
            let (changes, malicious) = (each.changes, each.malicious)
            let krum = AggregationRule.krum(malicious: malicious, keep: 1)
            let multi = AggregationRule.krum(malicious: malicious, keep: changes.count - malicious)
            #expect(agree(try columns(.median, changes), each.median))
            #expect(agree(try columns(.trimmedMean(malicious), changes), each.trimmedMean))
            #expect(agree(combined(krum, changes), each.krum))
            #expect(agree(combined(multi, changes), each.multiKrum))
            #expect(agree(combined(.geometricMedian, changes), each.geometricMedian))
            #expect(agree(combined(.centeredClipping, changes, center: each.center), each.centeredClipping))
            #expect(agree(combined(multi, changes, mixing: malicious), each.nnmMultiKrum))
            #expect(agree(combined(.geometricMedian, changes, mixing: malicious), each.nnmGeometricMedian))
            let rows = NearestNeighborMixing.rows(gram(changes), count: changes.count, malicious: malicious)
            #expect(agree(try columns(.trimmedMean(malicious), mixed(changes, rows)), each.nnmTrimmedMean))
        }
    }

    @Test func `the products are those of the numbers, in whatever pieces they come`() throws {
        let changes = try Self.cases()[2].changes
        for pieces in [1, 3, 7] {
            let gram = gram(changes, pieces: pieces)
            for row in changes.indices {
                for column in changes.indices {
                    let expected = zip(changes[row], changes[column]).reduce(0) { $0 + Double($1.0) * Double($1.1) }
                    #expect(abs(gram[row, column] - expected) < 1e-9 * max(1, abs(expected)))
                }
            }
        }
    }

    @Test(arguments: 1...40) func `a network of so many places sorts`(count: Int) throws {
        var generator = SeededGenerator(seed: UInt64(count))
        let changes = (0..<count).map { _ in (0..<37).map { _ in Float(generator.next() % 23) - 11 } }
        for cut in 0...((count - 1) / 2) {
            let found = try columns(.trimmedMean(cut), changes)
            for index in 0..<37 {
                let kept = changes.map { Double($0[index]) }.sorted().dropFirst(cut).dropLast(cut)
                #expect(found[index] == Double(Float(kept.reduce(0, +) / Double(kept.count))))
            }
        }
    }

    @Test func `changes that are all zero, or one, give numbers`() {
        let zeros = [[Float]](repeating: [0, 0, 0], count: 5)
        for rule in [AggregationRule.krum(malicious: 1, keep: 1), .geometricMedian, .centeredClipping] {
            #expect(combined(rule, zeros) == [0, 0, 0])
            #expect(combined(rule, [[1, 2, 3]]) == [1, 2, 3])
            #expect(combined(rule, [[1, 2, 3]], mixing: 0) == [1, 2, 3])
            #expect(combined(rule, [[1, 2, 3], [3, 2, 1]]).allSatisfy { $0.isFinite })
        }
    }

    @Test func `a change's cosine is to what the others make together`() {
        func dots(_ x: [Float], _ all: [Float]) -> ChangeDots {
            var dots = ChangeDots()
            let zeros = x.map { _ in Float(0) }
            x.withUnsafeBufferPointer { x in
                zeros.withUnsafeBufferPointer { start in all.withUnsafeBufferPointer { dots.add(x, start: start, combined: $0) } }
            }
            return dots
        }
        // (1, 0) and (0, 1) by halves.
        let all: [Float] = [0.5, 0.5]
        #expect(abs(dots([1, 0], all).cosine(all: dots(all, all), weight: 0.5) ?? 9) < 1e-12)
        #expect(abs((dots([1, 0], [0.75, 0]).cosine(all: dots([0.75, 0], [0.75, 0]), weight: 0.5) ?? 9) - 1) < 1e-12)
        #expect(dots([0, 0], all).cosine(all: dots(all, all), weight: 0.5) == nil)
        // Alone it has no others.
        #expect(dots([1, 2], [1, 2]).cosine(all: dots([1, 2], [1, 2]), weight: 1) == nil)
    }
}
