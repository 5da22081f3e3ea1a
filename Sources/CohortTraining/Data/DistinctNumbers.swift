import CKernels

/// The different numbers of each column, for as long as they are few. All columns together take 64 MiB at most, whatever is in the file.
final class DistinctNumbers {
    /// Numbers of one column, at most: as many as there are codes of two bytes.
    static let most = 1 << 16
    /// Numbers of all columns, at most. A number takes up to four slots of 8 bytes.
    private static let mostInAll = 1 << 21
    /// From so many different numbers on it is known whether they repeat.
    private static let judged = 1 << 11
    /// Columns that may have fewer than this are not worth it.
    private static let fewest = 256

    private let tables: UnsafeMutableBufferPointer<cohort_distinct>

    init(columns: Int) {
        tables = .allocate(capacity: columns)
        var empty = cohort_distinct()
        empty.limit = min(Self.most, Self.mostInAll / max(columns, 1))
        if empty.limit >= Self.fewest {
            tables.initialize(repeating: empty)
            for index in tables.indices { Self.grow(&tables[index], to: 16) }
        } else {
            tables.initialize(repeating: cohort_distinct())
        }
    }

    deinit {
        for table in tables { table.slots?.deallocate() }
        tables.deallocate()
    }

    func pointer(_ column: Int) -> UnsafeMutablePointer<cohort_distinct>? { tables.baseAddress?.advanced(by: column) }

    /// - Returns: nil when there were too many.
    subscript(column: Int) -> [Double]? {
        let table = tables[column]
        guard let slots = table.slots, table.count <= table.limit else { return nil }
        let words = [table.small.0, table.small.1, table.small.2, table.small.3]
        let small = (0..<256).filter { words[$0 / 64] >> UInt64($0 % 64) & 1 == 1 }.map(Double.init)
        return small + UnsafeBufferPointer(start: slots, count: table.capacity).filter { $0 != .max }.map { Double(bitPattern: $0) }
    }

    /// Makes room for another number, or gives the column up.
    /// - Parameter seen: the numbers that the column has had, equal ones included.
    static func makeRoom(in table: inout cohort_distinct, seen: Int) {
        guard table.slots != nil, table.count * 2 >= table.capacity else { return }
        // Codes for numbers of which most come once cost more than they save.
        let isMostlyOnce = table.count >= Self.judged && table.count * 2 > seen
        guard table.count <= table.limit, !isMostlyOnce else {
            table.slots.deallocate()
            table.slots = nil
            return
        }
        grow(&table, to: table.capacity * 2)
    }

    private static func grow(_ table: inout cohort_distinct, to capacity: Int) {
        let old = UnsafeBufferPointer(start: table.slots, count: table.slots == nil ? 0 : table.capacity)
        let slots = UnsafeMutablePointer<UInt64>.allocate(capacity: capacity)
        slots.initialize(repeating: .max, count: capacity)
        (table.slots, table.capacity, table.count, table.last) = (slots, capacity, 0, .max)
        for key in old where key != .max { cohort_distinct_add(&table, Double(bitPattern: key)) }
        old.baseAddress.map { UnsafeMutablePointer(mutating: $0) }?.deallocate()
    }
}
