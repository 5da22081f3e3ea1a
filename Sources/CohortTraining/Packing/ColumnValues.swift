import CohortCore

/// The different values of a file's columns, as far as they are few enough for codes: what choosing a ``RecordLayout`` needs to know.
public struct ColumnValues: Sendable {
    /// Of each column, in any order; nil: not numbers alone, or too many.
    private(set) var numbers: [[Double]?]
    /// Of the columns that have dates; those with too many are not here.
    private(set) var dates: [Int: Set<CalendarDate>] = [:]
    private var manyDates: Set<Int> = []
    /// A cell without a value is in the column.
    private(set) var hasMissing: [Bool]

    init(_ look: FirstLook) {
        numbers = look.numbers
        hasMissing = look.scans.map { $0.missing > 0 || $0.texts > 0 || $0.nones > 0 }
    }

    mutating func add(_ date: CalendarDate, column: Int) {
        guard !manyDates.contains(column) else { return }
        dates[column, default: []].insert(date)
        guard dates[column]?.count ?? 0 > DistinctNumbers.most else { return }
        dates[column] = nil
        manyDates.insert(column)
    }
}
