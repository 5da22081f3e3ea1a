import CKernels
import CohortCore
import Testing

@testable import CohortTraining

/// Updates in fewer bytes.
@Suite struct UpdateFileTests {
    /// More than a block of each tensor, and a last block that is not full.
    private static let model = ModelSpec(inputs: 40, hidden: [60], outputs: 3, task: .classification)
    private static let layout = WeightsLayout(model, streams: ["exp_avg", "exp_avg_sq"])

    /// Weights, first moments of either sign, squares over many orders of magnitude.
    private static func values(_ seed: UInt64) -> [Float] {
        var generator = SeededGenerator(seed: seed)
        let count = model.parameterCount
        func uniform() -> Float { Float(generator.next() >> 40) * 0x1p-24 }
        return (0..<layout.count).map { index in
            switch index / count {
            case 0: uniform() - 0.5
            case 1: (uniform() - 0.5) * 0.01
            default: index % 50 == 0 ? 0 : Float.pow2(-40 * uniform())
            }
        }
    }

    private static let start = initialParameters(model, seed: 9)

    private static let compressed: [UpdateCompression] = [.fp16, .bf16, .int8]

    @Test(arguments: compressed) func `what is read is what was sent, but for rounding, in the pieces that it comes in`(
        compression: UpdateCompression
    ) throws {
        let (layout, start, values) = (Self.layout, Self.start, Self.values(1))
        let count = layout.model.parameterCount
        var rest: [Float] = []
        let bytes = try UpdateFile.encode(layout, values: values, start: start, compression: compression, rest: &rest)
        let found = try UpdateFile.decode(bytes, layout, start: start)
        #expect(found.count == layout.count)
        let share: Float = compression == .fp16 ? 0x1p-11 : 0x1p-8
        for block in stride(from: 0, to: count, by: UpdateCompression.block) {
            let range = block..<min(count, block + UpdateCompression.block)
            let largest = range.map { abs(values[$0] - start[$0]) }.max() ?? 0
            let moment = range.map { abs(values[count + $0]) }.max() ?? 0
            for index in range {
                let change = values[index] - start[index]
                let quantum = compression == .int8 ? largest / 127 : abs(change) * share * 2 + 1e-7
                #expect(abs(found[index] - values[index]) <= quantum / 2 * 1.01 + 1e-7)
                #expect(abs(rest[index] - (values[index] - found[index])) < 1e-6, "what is left is what is missing")
                let first = values[count + index]
                #expect(abs(found[count + index] - first) <= (compression == .int8 ? moment / 254 * 1.01 : abs(first) * share + 1e-7))
                let (square, read) = (values[2 * count + index], found[2 * count + index])
                // An eighth of an octave at most; what is above 0 stays above.
                #expect(square == 0 ? read == 0 : read > 0)
                if square > 0x1p-30 { #expect(abs(read / square - 1) < (compression == .int8 ? 0.045 : 0x1p-7)) }
            }
        }
        // A piece of odd length at a time.
        var pieces: [Float] = []
        var stream = WeightsStream(layout, allowsChange: true)
        for first in stride(from: 0, to: bytes.count, by: 613) {
            try stream.feed(Array(bytes[first..<min(bytes.count, first + 613)])) { pieces += $0 }
        }
        try stream.finish()
        #expect(stream.isChange)
        UpdateFile.add(start, to: &pieces, at: 0, upTo: count)
        #expect(pieces == found)
        var again: [Float] = []
        #expect(try UpdateFile.encode(layout, values: values, start: start, compression: compression, rest: &again) == bytes)
    }

    @Test func `int8 takes a quarter of the bytes, halves one half`() throws {
        let model = ModelSpec(inputs: 700, hidden: [300], outputs: 10, task: .classification)
        for streams in [[], ["momentum_buffer"], ["exp_avg", "exp_avg_sq"]] {
            let layout = WeightsLayout(model, streams: streams)
            let values = [Float](repeating: 0.25, count: layout.count)
            let plain = Double(try Weights.encode(layout, values).count)
            for (compression, most) in [(UpdateCompression.int8, 0.26), (.fp16, 0.505), (.bf16, 0.505)] {
                var rest: [Float] = []
                let bytes = try UpdateFile.encode(layout, values: values, start: values, compression: compression, rest: &rest)
                #expect(Double(bytes.count) / plain < most)
            }
        }
    }

    @Test func `a change as it is leaves nothing`() throws {
        let (layout, start, values) = (Self.layout, Self.start, Self.values(1))
        var rest: [Float] = []
        let bytes = try UpdateFile.encode(layout, values: values, start: start, compression: .fp32, rest: &rest)
        #expect(rest.isEmpty)
        let found = try UpdateFile.decode(bytes, layout, start: start)
        #expect(zip(found, values).allSatisfy { abs($0 - $1) <= 1e-6 * max(1, abs($1)) })
        // Added to other weights it is the same change.
        let elsewhere = try UpdateFile.decode(bytes, layout, start: start.map { $0 + 1 })
        for index in 0..<layout.model.parameterCount { #expect(abs(elsewhere[index] - found[index] - 1) < 1e-5) }
    }

    /// Error feedback: rounding is put off, never lost.
    @Test(arguments: compressed) func `what rounds leave is sent by the next ones`(compression: UpdateCompression) throws {
        let layout = WeightsLayout(Self.model)
        let start = [Float](repeating: 0, count: layout.count)
        var rest: [Float] = []
        var (sent, meant) = ([Double](repeating: 0, count: layout.count), [Double](repeating: 0, count: layout.count))
        var largest: Float = 0
        for round in 0..<20 as Range<UInt64> {
            // A large number in each block, beside which the others are rounded away.
            let change = Self.values(round).prefix(layout.count).enumerated().map { $0 % 1_024 == 0 ? 30 : abs($1) * 0.04 }
            let bytes = try UpdateFile.encode(layout, values: change, start: start, compression: compression, rest: &rest)
            let found = try UpdateFile.decode(bytes, layout, start: start)
            for index in change.indices {
                sent[index] += Double(found[index])
                meant[index] += Double(change[index])
            }
            largest = max(largest, rest.map(abs).max() ?? 0)
        }
        for index in sent.indices { #expect(abs(sent[index] + Double(rest[index]) - meant[index]) < 1e-3) }
        #expect(largest < 0.13, "a rest stays below half a step")
        if compression == .int8 { #expect(zip(sent, meant).contains { $0 != 0 && abs($1) < 1 }) }
    }

    @Test func `zeros, a single odd number and the largest ones`() throws {
        let layout = WeightsLayout(Self.model)
        let start = [Float](repeating: 0, count: layout.count)
        for compression in Self.compressed {
            for value in [0, Float.leastNonzeroMagnitude, 65_504, 1e30, Float.greatestFiniteMagnitude] {
                var values = start
                values[5] = value
                var rest: [Float] = []
                let bytes = try UpdateFile.encode(layout, values: values, start: start, compression: compression, rest: &rest)
                let found = try UpdateFile.decode(bytes, layout, start: start)
                #expect(found.allSatisfy { $0.isFinite } && rest.allSatisfy { $0.isFinite }, "\(compression) of \(value)")
                #expect(found.enumerated().allSatisfy { $0 == 5 || $1 == 0 })
            }
        }
    }

    @Test func `halves are IEEE's`() {
        for bits in 0...UInt16.max {
            var half = bits
            var (value, back): (Float, UInt16) = (0, 0)
            cohort_from_half(&value, &half, 1, 0)
            let expected = Float(Float16(bitPattern: bits))
            #expect(value == expected || value.isNaN && expected.isNaN)
            guard value.isFinite else { continue }
            cohort_to_half(&back, &value, nil, 1, 0)
            #expect(back == bits)
        }
        var generator = SeededGenerator(seed: 3)
        for _ in 0..<20_000 {
            var value = Float(bitPattern: UInt32(truncatingIfNeeded: generator.next()))
            guard value.isFinite, abs(value) < 65_504 else { continue }
            var half: UInt16 = 0
            cohort_to_half(&half, &value, nil, 1, 0)
            #expect(half == Float16(value).bitPattern)
        }
    }

    @Test func `a compressed file that is cut, too long, of another model or another kind is refused`() throws {
        let (layout, start) = (Self.layout, Self.start)
        var rest: [Float] = []
        let good = try UpdateFile.encode(layout, values: Self.values(2), start: start, compression: .int8, rest: &rest)
        func refusal(_ bytes: [UInt8], _ layout: WeightsLayout = layout) -> String {
            do {
                _ = try UpdateFile.decode(bytes, layout, start: start)
                return "accepted"
            } catch let error as CohortError { return error.message } catch { return "\(error)" }
        }
        #expect(refusal(good) == "accepted")
        #expect(refusal(Array(good.dropLast())).contains("end early"))
        #expect(refusal(good + [0]).contains("more bytes"))
        let other = ModelSpec(inputs: 40, hidden: [61], outputs: 3, task: .classification)
        #expect(refusal(good, WeightsLayout(other, streams: layout.streams)).contains("'0.weight' is I8 of shape [60, 40]"))
        #expect(refusal(good, WeightsLayout(Self.model)).contains("'scales' is F32"))
        func edited(_ from: String, _ to: String) -> [UInt8] {
            let length = Int(good[0]) | Int(good[1]) << 8
            let header = String(decoding: good[8..<(8 + length)], as: UTF8.self).replacing(from, with: to)
            return Array(good[..<8]) + Array(header.utf8) + Array(good[(8 + length)...])
        }
        #expect(refusal(edited("\"I8\"", "\"U8\"")).contains("it must be F32, F16, BF16 or I8"))
        #expect(refusal(edited("\"U8\"", "\"I8\"")).contains("U8 of"))
        // Where weights are wanted, a change is none.
        #expect(throws: CohortError.self) { try Weights.decode(good, layout) }
    }
}

extension Float {
    fileprivate static func pow2(_ exponent: Float) -> Float {
        let whole = exponent.rounded(.down)
        return Float(sign: .plus, exponent: Int(whole), significand: 1 + (exponent - whole))
    }
}
