import CohortCore

/// A day of the Gregorian calendar, as a cell of a table writes it.
struct CalendarDate: Equatable {
    let year: Int
    /// 1 … 12.
    let month: Int
    /// 1 … 31.
    let day: Int

    /// `2024-03-01` or `2024/03/01` (``DateFormat/ymd``); `1.3.2024`, `01-03-2024` or `01/03/2024` (``DateFormat/dmy``); `3/1/2024`
    /// (``DateFormat/mdy``). A time of day may follow after a space or a T, and is left aside.
    /// - Returns: nil when it is none, or the day does not exist.
    init?(_ bytes: CellBytes, _ format: DateFormat) {
        var rest = bytes[...]
        func separator(_ rest: inout Slice<CellBytes>, _ allowed: StaticString) -> UInt8? {
            guard let byte = rest.first, (0..<allowed.utf8CodeUnitCount).contains(where: { allowed.utf8Start[$0] == byte }) else {
                return nil
            }
            rest.removeFirst()
            return byte
        }
        let separators: StaticString =
            switch format {
            case .ymd: "-/"
            case .dmy: "./-"
            case .mdy: "/"
            }
        let isYearFirst = format == .ymd
        guard let first = Self.number(&rest, digits: isYearFirst ? 4...4 : 1...2), let between = separator(&rest, separators),
            let second = Self.number(&rest, digits: 1...2), separator(&rest, separators) == between,
            let third = Self.number(&rest, digits: isYearFirst ? 1...2 : 4...4), Self.isTime(rest)
        else { return nil }
        (year, month, day) =
            switch format {
            case .ymd: (first, second, third)
            case .dmy: (third, second, first)
            case .mdy: (third, first, second)
            }
        guard 1...12 ~= month, 1...Self.days(month, of: year) ~= day else { return nil }
    }

    /// Monday is 1, Sunday 7 (ISO 8601).
    // Day 0 is a Thursday; 719,540 leaves 3 when divided by 7 and keeps the sum from being negative.
    var weekday: Int { (daysSinceEpoch + 719_540) % 7 + 1 }

    func part(_ part: DatePart) -> Double {
        switch part {
        case .year: Double(year)
        case .month: Double(month)
        case .weekday: Double(weekday)
        }
    }

    /// Since 1970-01-01, a Thursday. Years are counted from March: then the leap day is the last.
    private var daysSinceEpoch: Int {
        let shifted = month > 2 ? year : year - 1
        let dayOfYear = (153 * ((month + 9) % 12) + 2) / 5 + day - 1
        return 365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 + dayOfYear - 719_468
    }

    private static func days(_ month: Int, of year: Int) -> Int {
        switch month {
        case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }

    private static func number(_ rest: inout Slice<CellBytes>, digits: ClosedRange<Int>) -> Int? {
        let text = rest.prefix { $0 &- 0x30 < 10 }
        guard digits ~= text.count else { return nil }
        rest = rest[text.endIndex...]
        return text.reduce(0) { $0 * 10 + Int($1 - 0x30) }
    }

    /// Nothing, or `T12:30…` or ` 12:30…`.
    private static func isTime(_ rest: Slice<CellBytes>) -> Bool {
        guard let first = rest.first else { return true }
        let time = rest.dropFirst()
        guard first == 0x20 || first == 0x54, time.count >= 4, time.first.map({ $0 &- 0x30 < 10 }) == true, time.prefix(3).contains(0x3a)
        else { return false }
        return time.allSatisfy { $0 &- 0x30 < 10 || ":.+-Z ".utf8.contains($0) }
    }
}

/// Which formats all texts of a column can be dates of.
struct DateFormats {
    private(set) var possible = DateFormat.allCases

    mutating func add(_ bytes: CellBytes) {
        guard !possible.isEmpty else { return }
        // Most texts are told from their first byte.
        guard let first = bytes.first, first &- 0x30 < 10 else {
            possible = []
            return
        }
        possible.removeAll { CalendarDate(bytes, $0) == nil }
    }
}

extension DateFormat {
    /// For people.
    var example: String {
        switch self {
        case .ymd: "year-month-day"
        case .dmy: "day.month.year"
        case .mdy: "month/day/year"
        }
    }
}
