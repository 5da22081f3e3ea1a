import CohortCore

/// What the first pass learns of a column: a few numbers, however many rows there are.
struct ColumnScan {
    /// Bytes of a value that are kept to compare and to show.
    private static let shown = 256

    let name: String
    let comma: Bool
    private(set) var missing = 0
    private(set) var numbers = 0
    private(set) var texts = 0
    /// All numbers are whole.
    private(set) var isWhole = true
    /// Numbers rise by one from row to row.
    private(set) var isCounting = true
    /// Numbers rise from row to row.
    private(set) var isRising = true
    private(set) var varies = false
    private(set) var first: [UInt8] = []
    private(set) var firstNumber: Double?
    /// The first value that is no number, and its line.
    private(set) var example: (text: String, line: Int)?
    private var previous: Double?

    init(name: String, comma: Bool) {
        self.name = name
        self.comma = comma
    }

    var values: Int { numbers + texts }
    var isNumeric: Bool { numbers > 0 && texts == 0 }
    /// The first value, to show.
    var sample: String { String(decoding: first.prefix(40), as: UTF8.self) }

    mutating func add(_ bytes: ArraySlice<UInt8>, line: Int) {
        guard !Cell.isMissing(bytes) else {
            missing += 1
            return
        }
        if values == 0 {
            first = Array(bytes.prefix(Self.shown))
        } else if !varies, !bytes.prefix(Self.shown).elementsEqual(first) {
            varies = true
        }
        guard let number = Cell.number(bytes, comma: comma) else {
            texts += 1
            if example == nil { example = (String(decoding: bytes.prefix(40), as: UTF8.self), line) }
            return
        }
        numbers += 1
        if isWhole, number != number.rounded() { isWhole = false }
        if isRising {
            if let previous {
                if number != previous + 1 { isCounting = false }
                if number <= previous { isRising = false }
            } else {
                firstNumber = number
            }
            previous = number
        }
    }

    /// Whole numbers that run along with the rows: an index, no feature. Few rows may count by chance.
    var isIndex: Bool {
        guard isNumeric, isWhole, isRising, missing == 0, numbers >= 10 else { return false }
        return (isCounting && (firstNumber == 0 || firstNumber == 1)) || Self.namesIds(name)
    }

    private static func namesIds(_ name: String) -> Bool {
        let name = name.lowercased()
        return ["id", "index", "idx", "row", "rowid", "unnamed: 0", "#", "nr", "no"].contains(name) || name.hasSuffix("_id")
            || name.hasSuffix(" id")
    }
}

/// The different values of the target, up to as many as there may be classes.
struct LabelScan {
    /// nil past the bound.
    private(set) var labels: Set<String>? = []
    /// The line of a label that is too long for one.
    private(set) var longLine: Int?

    mutating func add(_ bytes: ArraySlice<UInt8>, line: Int) {
        guard labels != nil, !Cell.isMissing(bytes) else { return }
        guard bytes.count <= 256 else {
            longLine = line
            labels = nil
            return
        }
        labels?.insert(String(decoding: bytes, as: UTF8.self))
        if (labels?.count ?? 0) > SchemaInference.mostClasses { labels = nil }
    }
}

/// Mean and standard deviation in one pass (Welford 1962).
struct Moments {
    private(set) var count = 0.0
    private(set) var mean = 0.0
    private var squares = 0.0

    mutating func add(_ value: Double) {
        count += 1
        let delta = value - mean
        mean += delta / count
        squares += delta * (value - mean)
    }

    /// Of the population; 0 when the values do not vary, infinite when they are too large to square.
    var deviation: Double {
        guard count > 0, squares.isFinite else { return count > 0 ? .infinity : 0 }
        let deviation = (squares / count).squareRoot()
        // Equal numbers may differ from their own mean by a rounding.
        return deviation > abs(mean) * 1e-12 ? deviation : 0
    }
}
