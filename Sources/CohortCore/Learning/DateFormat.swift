/// Formats of dates in a column. A time of day may follow whole dates after a space or a T: `14:30`, `14:30:05.5+01:00`, `2:30 PM`.
public enum DateFormat: String, Codable, Sendable, CaseIterable {
    /// `2024-12-31`, `2024/12/31`.
    case ymd
    /// `31.12.2024`, `31/12/2024`, `31-12-2024`, `31.12.24`.
    case dmy
    /// `12/31/2024`, `12/31/24`.
    case mdy
    /// `31 Dec 2024`, `31-Dec-24`, `1 January 2024`.
    case dayNameYear = "day-name-year"
    /// `Dec 31 2024`, `December 31, 2024`, `Dec-31-2024`.
    case nameDayYear = "name-day-year"
    /// `Dec 2024`, `December 2024`, `Dec-2024`.
    case nameYear = "name-year"
    /// `2024-Dec`, `2024 December`.
    case yearName = "year-name"
    /// `1974Q1`, `1974-Q1`, `1974:1`.
    case yearQuarter = "year-quarter"
    /// `2024-12`, `2024/12`, `1950:12`, `1950M12`.
    case yearMonth = "year-month"
    /// `14:30`, `14:30:05`, `2:30 PM`.
    case time
    /// `20241231`.
    case compact
    /// `241231`, in a column named so.
    case yymmdd
    /// Seconds since 1970-01-01 00:00 UTC, in a column named so.
    case epochSeconds = "epoch-seconds"
    /// Milliseconds since then, in a column named so.
    case epochMilliseconds = "epoch-milliseconds"

    /// Numbers that a date in this format has.
    public var parts: [DatePart] {
        switch self {
        case .ymd, .dmy, .mdy, .dayNameYear, .nameDayYear, .epochSeconds, .epochMilliseconds: DatePart.allCases
        case .compact, .yymmdd: [.year, .month, .weekday, .yearDaySin, .yearDayCos]
        case .nameYear, .yearName, .yearQuarter, .yearMonth: [.year, .month, .yearDaySin, .yearDayCos]
        case .time: [.hour, .minute]
        }
    }
}

/// A number that a date has.
public enum DatePart: String, Codable, Sendable, CaseIterable {
    case year
    /// 1 … 12; of a quarter its first.
    case month
    /// Monday 1 … Sunday 7.
    case weekday
    /// sin and cos of 2π (day of the year − 1) / 365.25, so that December is beside January.
    case yearDaySin = "year_day_sin"
    case yearDayCos = "year_day_cos"
    /// 0 … 23, as written, whatever the time zone.
    case hour
    /// 0 … 59.
    case minute
}
