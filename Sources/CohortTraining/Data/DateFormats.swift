import CohortCore
import FoundationEssentials

/// Which formats all texts of a column can be dates of.
struct DateFormats {
    private(set) var possible: [DateFormat] = [
        .ymd, .dmy, .mdy, .dayNameYear, .nameDayYear, .nameYear, .yearName, .yearQuarter, .yearMonth, .time,
    ]

    mutating func add(_ bytes: CellBytes) {
        guard !possible.isEmpty else { return }
        // The first byte rules most texts out: a digit, or the first letter of a month, is required.
        guard let first = bytes.first, first &- 0x30 < 10 || "jfmasondJFMASOND".utf8.contains(first) else {
            possible = []
            return
        }
        possible.removeAll { CalendarDate(bytes, $0) == nil }
    }

    /// The one that it is: `1950:1` … `1950:4` are quarters when no more come.
    var only: DateFormat? {
        possible.count == 1 ? possible[0] : possible == [.yearQuarter, .yearMonth] ? .yearQuarter : nil
    }

    /// Day and month are indistinguishable.
    var isAmbiguous: Bool { possible.contains(.dmy) && possible.contains(.mdy) }
}

extension DateFormat {
    /// The format for users.
    var example: String {
        switch self {
        case .ymd: "year-month-day"
        case .dmy: "day.month.year"
        case .mdy: "month/day/year"
        case .dayNameYear: "day, month's name, year"
        case .nameDayYear: "month's name, day, year"
        case .nameYear: "month's name, year"
        case .yearName: "year, month's name"
        case .yearQuarter: "year and quarter"
        case .yearMonth: "year and month"
        case .time: "hour:minute"
        case .compact: "YYYYMMDD"
        case .yymmdd: "YYMMDD"
        case .epochSeconds: "seconds since 1970"
        case .epochMilliseconds: "milliseconds since 1970"
        }
    }

    /// The date format that numbers may have, by the column's name and its first value; must be checked with all values.
    static func ofNumbers(named name: String, first text: String) -> DateFormat? {
        let name = name.lowercased()
        guard text.utf8.allSatisfy({ $0 &- 0x30 < 10 }) || text.utf8.contains(0x2e), let number = Cell.number(text) else { return nil }
        func isDate(_ format: DateFormat) -> Bool { text.withBytes { CalendarDate($0, format) != nil } }
        if text.utf8.count == 8, isDate(.compact) { return .compact }
        if 5...6 ~= text.utf8.count, name.contains("date") || name.contains("ymd") || name.contains("yymmdd"), isDate(.yymmdd) {
            return .yymmdd
        }
        guard ["epoch", "unix", "timestamp"].contains(where: name.contains) else { return nil }
        return 1e8...7e9 ~= number ? .epochSeconds : 1e11...7e12 ~= number ? .epochMilliseconds : nil
    }
}
