import CohortCore
import FoundationEssentials

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// A day of the Gregorian calendar and a time of it, as a cell of a table writes them.
struct CalendarDate: Hashable {
    var year = 1970
    /// 1 … 12.
    var month = 1
    /// 1 … 31.
    var day = 1
    var hour = 0
    var minute = 0

    /// Two-digit years from here on are of the last century.
    private static let pivot = 69

    /// - Returns: nil when it is no date in this format, or the day does not exist.
    init?(_ bytes: CellBytes, _ format: DateFormat) {
        var rest = Scanner(bytes)
        let isRead =
            switch format {
            case .ymd: readYMD(&rest)
            case .dmy: readDMY(&rest, "./-", monthFirst: false)
            case .mdy: readDMY(&rest, "/", monthFirst: true)
            case .dayNameYear: readDayNameYear(&rest)
            case .nameDayYear: readNameDayYear(&rest)
            case .nameYear: readNameYear(&rest)
            case .yearName: readYearName(&rest)
            case .yearQuarter: readYearQuarter(&rest)
            case .yearMonth: readYearMonth(&rest)
            case .time: readTime(&rest) && rest.isAtEnd
            case .compact, .yymmdd: readCompact(&rest, yearDigits: format == .compact ? 4 : 2)
            case .epochSeconds: readEpoch(bytes, unit: 1)
            case .epochMilliseconds: readEpoch(bytes, unit: 1_000)
            }
        guard isRead, rest.isAtEnd || format == .epochSeconds || format == .epochMilliseconds, 1...12 ~= month,
            1...Self.days(month, of: year) ~= day
        else { return nil }
    }

    func part(_ part: DatePart) -> Double {
        switch part {
        case .year: Double(year)
        case .month: Double(month)
        case .weekday: Double(weekday)
        case .yearDaySin: sin(yearAngle)
        case .yearDayCos: cos(yearAngle)
        case .hour: Double(hour)
        case .minute: Double(minute)
        }
    }

    /// Monday is 1, Sunday 7 (ISO 8601).
    // Day 0 is a Thursday; 719,540 leaves 3 when divided by 7 and keeps the sum from being negative.
    var weekday: Int { (daysSinceEpoch + 719_540) % 7 + 1 }

    private var yearAngle: Double {
        let newYear = CalendarDate.firstDay(of: year)
        return 2 * .pi * Double(daysSinceEpoch - newYear) / 365.25
    }

    private static func firstDay(of year: Int) -> Int { days(year: year, month: 1, day: 1) }

    private var daysSinceEpoch: Int { Self.days(year: year, month: month, day: day) }

    /// Since 1970-01-01, a Thursday. Years are counted from March: then the leap day is the last.
    private static func days(year: Int, month: Int, day: Int) -> Int {
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

    // MARK: Formats

    private mutating func readYMD(_ rest: inout Scanner) -> Bool {
        guard let year = rest.number(4...4), let between = rest.one(of: "-/"), let month = rest.number(1...2),
            rest.one(of: "-/") == between,
            let day = rest.number(1...2)
        else { return false }
        (self.year, self.month, self.day) = (year, month, day)
        return readTimeAfterDate(&rest)
    }

    private mutating func readDMY(_ rest: inout Scanner, _ separators: StaticString, monthFirst: Bool) -> Bool {
        guard let first = rest.number(1...2), let between = rest.one(of: separators), let second = rest.number(1...2),
            rest.one(of: separators) == between, let year = readYear(&rest)
        else { return false }
        (self.year, month, day) = monthFirst ? (year, first, second) : (year, second, first)
        return readTimeAfterDate(&rest)
    }

    private mutating func readDayNameYear(_ rest: inout Scanner) -> Bool {
        guard let day = rest.number(1...2) else { return false }
        rest.skip(" -./")
        guard let month = rest.month() else { return false }
        rest.skip(" -./,")
        guard let year = readYear(&rest) else { return false }
        (self.year, self.month, self.day) = (year, month, day)
        return readTimeAfterDate(&rest)
    }

    private mutating func readNameDayYear(_ rest: inout Scanner) -> Bool {
        guard let month = rest.month(), rest.skip(" -./"), let day = rest.number(1...2), rest.skip(" -./,"), let year = readYear(&rest)
        else {
            return false
        }
        (self.year, self.month, self.day) = (year, month, day)
        return readTimeAfterDate(&rest)
    }

    private mutating func readNameYear(_ rest: inout Scanner) -> Bool {
        guard let month = rest.month(), rest.skip(" -./,"), let year = rest.number(4...4) else { return false }
        (self.year, self.month) = (year, month)
        return true
    }

    private mutating func readYearName(_ rest: inout Scanner) -> Bool {
        guard let year = rest.number(4...4), rest.skip(" -./"), let month = rest.month() else { return false }
        (self.year, self.month) = (year, month)
        return true
    }

    private mutating func readYearQuarter(_ rest: inout Scanner) -> Bool {
        guard let year = rest.number(4...4) else { return false }
        let isSeparated = rest.skip(" -:")
        let isNamed = rest.one(of: "Qq") != nil
        guard isNamed || isSeparated, let quarter = rest.number(1...1), 1...4 ~= quarter else { return false }
        (self.year, month) = (year, 3 * quarter - 2)
        return true
    }

    private mutating func readYearMonth(_ rest: inout Scanner) -> Bool {
        guard let year = rest.number(4...4), rest.one(of: "-/:Mm") != nil, let month = rest.number(1...2) else { return false }
        (self.year, self.month) = (year, month)
        return true
    }

    private mutating func readCompact(_ rest: inout Scanner, yearDigits: Int) -> Bool {
        guard let number = rest.number((yearDigits + 2)...(yearDigits + 4)) else { return false }
        let year = number / 10_000
        self.year = yearDigits == 4 ? year : Self.century(year)
        (month, day) = (number / 100 % 100, number % 100)
        return yearDigits == 2 || 1_600...2_400 ~= year
    }

    private mutating func readEpoch(_ bytes: CellBytes, unit: Double) -> Bool {
        // From 1900 to 2200.
        guard let number = Cell.number(bytes), case let seconds = number / unit, -2.3e9...7.3e9 ~= seconds else { return false }
        let whole = Int(seconds.rounded(.down))
        let days = (whole - (whole % 86_400 + 86_400) % 86_400) / 86_400
        let second = whole - days * 86_400
        // From days to a date: Hinnant, "chrono-compatible low-level date algorithms".
        let shifted = days + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        day = dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
        month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        (hour, minute) = (second / 3_600, second / 60 % 60)
        return true
    }

    private func readYear(_ rest: inout Scanner) -> Int? {
        if let year = rest.number(4...4) { return year }
        return rest.number(2...2).map(Self.century)
    }

    private static func century(_ year: Int) -> Int { year >= pivot ? 1_900 + year : 2_000 + year }

    /// Nothing, or `T12:30…`, or ` 12:30…`.
    private mutating func readTimeAfterDate(_ rest: inout Scanner) -> Bool {
        guard !rest.isAtEnd else { return true }
        return rest.one(of: " T") != nil && readTime(&rest) && rest.isAtEnd
    }

    /// `12:30`, `12:30:05`, `12:30:05.123+01:00`, `12:30Z`, `2:30 PM`.
    private mutating func readTime(_ rest: inout Scanner) -> Bool {
        guard let hour = rest.number(1...2), rest.one(of: ":") != nil, let minute = rest.number(2...2), hour <= 24, minute < 60 else {
            return false
        }
        (self.hour, self.minute) = (hour, minute)
        if rest.one(of: ":") != nil {
            guard let second = rest.number(2...2), second <= 60 else { return false }
            if rest.one(of: ".,") != nil { _ = rest.number(1...12) }
        }
        rest.skip(" ")
        if let half = rest.one(of: "AaPp") {
            guard rest.one(of: "Mm") != nil, 1...12 ~= hour else { return false }
            self.hour = hour % 12 + (half | 0x20 == 0x70 ? 12 : 0)
        } else if rest.one(of: "+-") != nil {
            guard rest.number(1...4) != nil else { return false }
            if rest.one(of: ":") != nil { guard rest.number(2...2) != nil else { return false } }
        } else {
            _ = rest.one(of: "Zz")
        }
        return true
    }

    /// Goes through a cell's bytes.
    private struct Scanner {
        private var rest: Slice<CellBytes>

        init(_ bytes: CellBytes) { rest = bytes[...] }

        var isAtEnd: Bool { rest.isEmpty }

        /// Takes digits, as many as there are; nil, and nothing is taken, when they are fewer or more.
        mutating func number(_ digits: ClosedRange<Int>) -> Int? {
            let text = rest.prefix { $0 &- 0x30 < 10 }
            guard digits ~= text.count else { return nil }
            rest = rest[text.endIndex...]
            return text.reduce(0) { $0 * 10 + Int($1 - 0x30) }
        }

        mutating func one(of allowed: StaticString) -> UInt8? {
            guard let byte = rest.first, Self.contains(allowed, byte) else { return nil }
            rest.removeFirst()
            return byte
        }

        /// - Returns: whether there was one.
        @discardableResult mutating func skip(_ allowed: StaticString) -> Bool {
            var count = 0
            while count < 3, one(of: allowed) != nil { count += 1 }
            return count > 0
        }

        /// An English month's name, whole or its first three letters (and Sept).
        mutating func month() -> Int? {
            let word = rest.prefix { $0 | 0x20 >= 0x61 && $0 | 0x20 <= 0x7a }
            guard 3...9 ~= word.count else { return nil }
            let text = String(decoding: word.map { $0 | 0x20 }, as: UTF8.self)
            guard let index = Self.months.firstIndex(where: { text == $0 || text == $0.prefix(3) || text == "sept" && $0 == "september" })
            else {
                return nil
            }
            rest = rest[word.endIndex...]
            return index + 1
        }

        private static let months = [
            "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december",
        ]

        private static func contains(_ allowed: StaticString, _ byte: UInt8) -> Bool {
            (0..<allowed.utf8CodeUnitCount).contains { allowed.utf8Start[$0] == byte }
        }
    }
}
