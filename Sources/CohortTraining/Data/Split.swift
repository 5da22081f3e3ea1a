import CohortCore

/// Which rows are held out for validation: told row by row, reproducible in any language, stratified by class.
///
/// The usable rows (those with a target) of each class (regression: of the one class `""`) are taken in the file's order in blocks of 20.
/// Of a block, `h` slots are held out: with `share` the validation share and `b` the block's index from 0,
/// `h = floor(20·share·(b+1) + ½) − floor(20·share·b + ½)`, so that no share is rounded away. Which: the first `h` of the slots 0 … 19 shuffled by
/// ``SeededGenerator`` with the split's seed and the purpose `split/CLASS/b`.
struct Split {
    static let block = 20

    private let share: Double
    private let seed: UInt64
    private var classes: [String: Progress] = [:]

    private struct Progress {
        var count = 0
        /// Bit i: slot i of the current block is held out.
        var heldOut: UInt32 = 0
    }

    init(share: Double, seed: UInt64) {
        self.share = share
        self.seed = seed
    }

    /// Whether the next usable row, of this class, is held out.
    mutating func isValidation(_ label: String) -> Bool {
        guard share > 0 else { return false }
        var progress = classes[label] ?? Progress()
        let slot = progress.count % Self.block
        if slot == 0 {
            let block = progress.count / Self.block
            let each = Double(Self.block) * share
            let held = Int((each * Double(block + 1) + 0.5).rounded(.down)) - Int((each * Double(block) + 0.5).rounded(.down))
            var slots = Array(0..<Self.block)
            var generator = SeededGenerator(seed: seed, purpose: "split/\(label)/\(block)")
            generator.shuffle(&slots)
            progress.heldOut = slots.prefix(held).reduce(0) { $0 | 1 << UInt32($1) }
        }
        progress.count += 1
        classes[label] = progress
        return progress.heldOut >> UInt32(slot) & 1 == 1
    }
}
