import CohortCore

/// Which rows are held out for validation: told row by row, reproducible in any language.
///
/// Of each class (regression: of all rows as one class `""`) as many rows as ``quotas(_:share:)`` says, every choice of so many alike: with `n` of
/// the class's rows left and `h` to hold out, the next one is held out when the integer below `n` that ``SeededGenerator`` draws (the split's
/// seed, the purpose `split/CLASS`) is less than `h`. Rows are taken in the file's order (Knuth, TAOCP 3.4.2, algorithm S).
///
/// With groups, those rows are held out whose group's number is below the threshold: the high 32 bits of the first output of the stream
/// `group/TEXT`.
struct Split {
    /// Groups whose numbers are remembered, and bytes of one: a cell may be a megabyte.
    static let (mostRemembered, longestRemembered) = (1 << 16, 64)

    private struct Progress {
        var left: Int
        var heldOut: Int
        var generator: SeededGenerator
    }

    private var classes: [Progress]

    /// - Parameters:
    ///   - labels: of the classes; `[""]` for a regression.
    ///   - rows: usable ones of each class.
    ///   - heldOut: how many of them are to be held out.
    init(labels: [String], rows: [Int], heldOut: [Int], seed: UInt64) {
        classes = zip(labels, zip(rows, heldOut)).map { label, counts in
            Progress(left: counts.0, heldOut: counts.1, generator: SeededGenerator(seed: seed, purpose: "split/\(label)"))
        }
    }

    /// Returns whether the next usable row, of this class, is held out.
    mutating func isValidation(_ index: Int) -> Bool {
        guard index < classes.count, classes[index].heldOut > 0 else { return false }
        let isHeldOut = classes[index].generator.next(below: max(1, classes[index].left)) < classes[index].heldOut
        classes[index].left -= 1
        if isHeldOut { classes[index].heldOut -= 1 }
        return isHeldOut
    }

    /// The number of held-out rows of each class: `share` of all, to the row, dealt to the classes by largest remainder; each class keeps a row to
    /// train on.
    static func quotas(_ rows: [Int], share: Double) -> [Int] {
        let all = rows.reduce(0, +)
        let most = rows.map { max(0, $0 - 1) }
        var quotas = zip(rows, most).map { min(Int((Double($0) * share).rounded(.down)), $1) }
        var left = min(Int((Double(all) * share).rounded()), most.reduce(0, +)) - quotas.reduce(0, +)
        let byRemainder = rows.indices.sorted { a, b in
            func remainder(_ index: Int) -> Double { Double(rows[index]) * share - Double(quotas[index]) }
            return (remainder(b), a) < (remainder(a), b)
        }
        while left > 0 {
            for index in byRemainder where left > 0 && quotas[index] < most[index] {
                quotas[index] += 1
                left -= 1
            }
        }
        return quotas
    }

    /// A group's number, 0 ..< 2³².
    static func number(ofGroup text: String, seed: UInt64) -> UInt64 {
        var generator = SeededGenerator(seed: seed, purpose: "group/\(text)")
        return generator.next() >> 32
    }
}

/// The rows of each group, to choose a threshold by which about the share wanted is held out.
struct GroupScan {
    /// Groups that are counted; of more, each is a small part of all.
    private static let most = 1 << 20

    private let seed: UInt64
    /// The rows by the group's number.
    private var rows: [UInt64: Int] = [:]
    /// Numbers of short texts.
    private(set) var known: [String: UInt64] = [:]

    init(seed: UInt64) { self.seed = seed }

    mutating func add(_ bytes: CellBytes) {
        let text = String(decoding: bytes, as: UTF8.self)
        let number = known[text] ?? Split.number(ofGroup: text, seed: seed)
        if bytes.count <= Split.longestRemembered, known.count < Split.mostRemembered { known[text] = number }
        if rows.count < Self.most || rows[number] != nil { rows[number, default: 0] += 1 }
    }

    var groups: Int { rows.count }

    /// - Returns: by which the share held out is nearest to `share`, with a group at least on either side where there are two.
    func threshold(share: Double) -> UInt64 {
        guard share > 0, rows.count > 1, rows.count < Self.most else { return share > 0 && rows.count > 1 ? UInt64(share * 0x1p32) : 0 }
        let sorted = rows.sorted { $0.key < $1.key }
        let wanted = share * Double(rows.values.reduce(0, +))
        var heldOut = 0.0
        var best = (distance: Double.infinity, threshold: UInt64(0))
        for (number, count) in sorted.dropLast() {
            heldOut += Double(count)
            if abs(heldOut - wanted) < best.distance { best = (abs(heldOut - wanted), number + 1) }
        }
        return best.threshold
    }
}
