/// Scalings of numbers to features of similar size: `(x − shift) / scale`.
public enum Scaling: String, Codable, Sendable, CaseIterable {
    /// Told for each column, or for a group of columns with one range.
    case auto
    /// Mean and standard deviation.
    case standard
    /// The range: the smallest value becomes 0, the largest 1.
    case range
    /// Median and interquartile range, which outliers hardly affect.
    case robust
    /// No scaling.
    case none
}

/// Options for reading the columns of a CSV; the rest is inferred.
public struct DataOptions: Codable, Hashable, Sendable {
    /// The first line names the columns; nil: inferred.
    public var header: Bool?
    /// Columns that are features although they would be ignored, such as an id.
    public var use: [String]
    /// Columns that are no features.
    public var ignore: [String]
    /// Columns of numbers that are codes: each value is a category. Absent: none but those written as codes.
    private var categoryColumns: [String]?
    /// Columns that are quantities although they are written as codes. Absent: none.
    private var numberColumns: [String]?
    /// Rows of one value of this column stay on one side of the split.
    public var group: String?
    public var scaling: Scaling
    /// Numbers that are the same in all rows are features as well: a module takes its inputs by their places. Absent: they are not.
    public var keepsConstant: Bool?
    /// Numbers that look like an id are features as well. Absent: they are not.
    public var keepsIds: Bool?

    public init(
        header: Bool? = nil, use: [String] = [], ignore: [String] = [], category: [String] = [], number: [String] = [],
        group: String? = nil, scaling: Scaling = .auto
    ) {
        (categoryColumns, numberColumns) = (category.isEmpty ? nil : category, number.isEmpty ? nil : number)
        self.header = header
        self.use = use
        self.ignore = ignore
        self.group = group
        self.scaling = scaling
    }

    /// Columns of numbers whose values are categories.
    public var category: [String] {
        get { categoryColumns ?? [] }
        set { categoryColumns = newValue.isEmpty ? nil : newValue }
    }

    /// Columns that are quantities although they are written as codes.
    public var number: [String] {
        get { numberColumns ?? [] }
        set { numberColumns = newValue.isEmpty ? nil : newValue }
    }

    /// Sets the defaults for tensors: each number is a feature as it is, unless an option differs.
    public mutating func takeTensors() {
        keepsConstant = true
        keepsIds = true
        header = true
        if scaling == .auto { scaling = .none }
    }

    /// - Throws: ``CohortError`` `invalid` for a column that is both used and ignored, or ignored and the target.
    public func check(target: String?) throws {
        if let both = use.first(where: ignore.contains) {
            throw CohortError(.invalid, "column '\(both)' is in both use and ignore: it can be one of them")
        }
        for (first, one, second, other) in [
            ("category", category, "number", number), ("category", category, "ignore", ignore), ("number", number, "ignore", ignore),
        ] {
            guard let both = one.first(where: other.contains) else { continue }
            throw CohortError(.invalid, "column '\(both)' is in both \(first) and \(second): it can be one of them")
        }
        if let target, let named = [("category", category), ("number", number)].first(where: { $0.1.contains(target) }) {
            let task = named.0 == "category" ? "classification" : "regression"
            throw CohortError(.invalid, "\(named.0) names '\(target)', which is the target: task \(task) says the same of it")
        }
        if let target, ignore.contains(target) {
            throw CohortError(.invalid, "ignore names '\(target)', which is the target")
        }
        if let target, group == target { throw CohortError(.invalid, "group names '\(target)', which is the target") }
    }
}
