/// The conversion of a CSV's columns to features and a target: made once by the server from the training rows, sent to every peer, kept
/// in the model file, so that a raw row is transformed alike everywhere.
public struct TableSchema: Codable, Hashable, Sendable {
    public enum ColumnKind: String, Codable, Sendable {
        /// One feature: (x − shift) / scale; a missing value counts as the mean.
        case numeric
        /// One feature a category, 1 for the row's own, and with ``Column/hasOther`` one for all others; a missing value is all zeros.
        case categorical
        /// A feature each of ``Column/parts``; a missing date is 0 in all.
        case date
        /// Not a feature; `note` says why (an id, constant, empty).
        case ignored
        case target
    }

    public struct Column: Codable, Hashable, Sendable {
        public var name: String
        public var kind: ColumnKind
        /// The mean of the training rows; numeric columns only (and a numeric target).
        public var mean: Double?
        /// Population standard deviation over the training rows, never 0; numeric columns only (and a numeric target).
        public var std: Double?
        /// The number that is subtracted from a value, and the divisor of the difference; absent: ``mean`` and ``std``. Numeric columns only.
        public var shift: Double?
        public var scale: Double?
        /// The scaling that they come from; absent: ``Scaling/standard``; ``Scaling/auto``: mean, and the common deviation of columns of one range.
        public var scaling: Scaling?
        /// Sorted; categorical columns only.
        public var categories: [String]?
        /// Values that are not among the categories have a separate feature, the last.
        public var hasOther: Bool?
        /// The format of dates; date columns only.
        public var dateFormat: DateFormat?
        /// The parts of the dates that vary in the training rows; date columns only.
        public var parts: [Part]?
        /// The number of rows without a value in this column, among all rows.
        public var missing: Int
        /// The reason for the column's kind, where it is not obvious.
        public var note: String?

        public init(
            name: String, kind: ColumnKind, mean: Double? = nil, std: Double? = nil, categories: [String]? = nil, missing: Int = 0,
            note: String? = nil
        ) {
            self.name = name
            self.kind = kind
            self.mean = mean
            self.std = std
            self.categories = categories
            self.missing = missing
            self.note = note
        }

        /// One feature of a date: (number − mean) / std.
        public struct Part: Codable, Hashable, Sendable {
            public var part: DatePart
            /// The mean of the training rows.
            public var mean: Double
            /// Population standard deviation over the training rows, never 0.
            public var std: Double

            public init(part: DatePart, mean: Double, std: Double) {
                self.part = part
                self.mean = mean
                self.std = std
            }
        }

        /// The number of features that the column becomes.
        public var featureCount: Int {
            switch kind {
            case .numeric: 1
            case .categorical: (categories?.count ?? 0) + (hasOther == true ? 1 : 0)
            case .date: parts?.count ?? 0
            case .ignored, .target: 0
            }
        }
    }

    /// The first record names the columns. Without a header, columns are `column_1`, `column_2`, …
    public var hasHeader: Bool
    /// One ASCII character; a space stands for one space or more.
    public var delimiter: String
    /// The text encoding of the file; nil: UTF-8.
    public var encoding: TextEncoding?
    /// All columns, in the file's order.
    public var columns: [Column]
    public var target: String
    public var task: LearningTask
    /// The class labels in the order of the model's outputs (sorted; numbers by value); empty for regression.
    public var classes: [String]
    /// Training rows of each class, in the order of ``classes``; nil for regression.
    public var classCounts: [Int]?
    /// Rows held out of each class, in the order of ``classes``; nil for regression.
    public var validationCounts: [Int]?
    /// The column whose values stay on one side of the split.
    public var group: String?
    /// Rows are held out whose group's number is below this one, 0 ... 2³².
    public var groupThreshold: UInt64?
    /// The share of usable rows held out for validation, 0 ..< 1.
    public var validation: Double
    /// Decides which rows are held out.
    public var splitSeed: UInt64
    /// Usable rows: those with a target.
    public var trainingRows: Int
    public var validationRows: Int
    /// Rows dropped because the target was missing.
    public var droppedRows: Int

    public init(
        hasHeader: Bool, delimiter: String, columns: [Column], target: String, task: LearningTask, classes: [String],
        validation: Double, splitSeed: UInt64, trainingRows: Int, validationRows: Int, droppedRows: Int,
        classCounts: [Int]? = nil
    ) {
        self.hasHeader = hasHeader
        self.delimiter = delimiter
        self.columns = columns
        self.target = target
        self.task = task
        self.classes = classes
        self.validation = validation
        self.splitSeed = splitSeed
        self.trainingRows = trainingRows
        self.validationRows = validationRows
        self.droppedRows = droppedRows
        self.classCounts = classCounts
    }

    /// Checks a schema that came in a message or a file, before a row is read by it.
    /// - Throws: ``CohortError`` `invalid`, naming the column.
    public func check() throws {
        func require(_ holds: Bool, _ what: @autoclosure () -> String) throws {
            if !holds { throw CohortError(.invalid, "the schema is invalid: \(what())") }
        }
        let rows = 0..<Int(UInt32.max)
        try require(rows ~= trainingRows && rows ~= validationRows && droppedRows >= 0, "its numbers of rows")
        try require(0..<1 ~= validation, "validation is \(validation)")
        try require(delimiter.utf8.count == 1, "the delimiter '\(delimiter.prefix(8))' is not one ASCII character")
        try require(columns.count { $0.kind == .target } == 1, "it has no target, or more than one")
        if task == .classification {
            for counts in [classCounts, validationCounts].compactMap({ $0 }) {
                try require(counts.count == classes.count && counts.allSatisfy { rows ~= $0 }, "its numbers of rows of each class")
            }
        }
        try require(group == nil || columns.contains { $0.name == group }, "there is no column '\(group?.prefix(60) ?? "")' to group by")
        try require(task == .regression || classes.count >= 2, "a classification has two classes or more")
        for column in columns {
            let parts = column.parts ?? []
            let numbers: [Double] =
                [column.mean ?? 0, column.std ?? 1, column.shift ?? 0, column.scale ?? 1] + parts.flatMap { [$0.mean, $0.std] }
            for number in numbers {
                try require(number.isFinite, "column '\(column.name)' has a mean or deviation that is not finite")
            }
            for std in [column.std ?? 1, column.scale ?? 1] + parts.map(\.std) {
                try require(std > 0, "column '\(column.name)' has the deviation \(std)")
            }
        }
    }

    public var featureCount: Int { columns.reduce(0) { $0 + $1.featureCount } }
    /// The number of outputs of a model for this table.
    public var outputCount: Int { task == .classification ? classes.count : 1 }
}
