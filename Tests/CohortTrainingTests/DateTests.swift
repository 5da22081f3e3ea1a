import CohortCore
import FoundationEssentials
import TestSupport
import Testing

@testable import CohortTraining

@Suite struct CalendarDates {
    private func date(_ text: String, _ format: DateFormat) -> CalendarDate? {
        Array(text.utf8).withUnsafeBufferPointer { CalendarDate($0, format) }
    }

    @Test(arguments: [
        ("1970-01-01", 4), ("2000-02-29", 2), ("2024-02-29", 4), ("2024-03-01", 5), ("1999-12-31", 5), ("1900-03-01", 4), ("2023-10-29", 7),
        ("2024-01-01", 1), ("1582-10-15", 5),
    ]) func `weekdays are those of the calendar`(text: String, weekday: Int) throws {
        #expect(try #require(date(text, .ymd)).weekday == weekday)
    }

    @Test func `a week follows a week for four hundred years`() throws {
        var last = 0
        var days = 0
        for year in 1601...2000 {
            for month in 1...12 {
                for day in 1...31 {
                    guard let date = date("\(year)-\(month)-\(day)", .ymd) else { continue }
                    if days > 0 { #expect(date.weekday == last % 7 + 1, "\(date)") }
                    last = date.weekday
                    days += 1
                }
            }
        }
        #expect(days == 146_097)
    }

    @Test(arguments: [
        ("31.12.2024", DateFormat.dmy, true), ("1.2.2024", .dmy, true), ("31/12/2024", .dmy, true), ("31-12-2024", .dmy, true),
        ("12/31/2024", .mdy, true), ("2024/12/31", .ymd, true), ("2024-12-31T23:59:59.123+01:00", .ymd, true),
        ("2024-12-31 08:00", .ymd, true),
        ("2024-12-31T23:59Z", .ymd, true), ("31/12/2024", .mdy, false), ("12/31/2024", .dmy, false), ("2023-02-29", .ymd, false),
        ("1900-02-29", .ymd, false), ("2024-13-01", .ymd, false), ("2024-00-10", .ymd, false), ("2024-12/31", .ymd, false),
        ("24-12-31", .ymd, false), ("2024-12-31x", .ymd, false), ("2024-12-31 at noon", .ymd, false),
        ("2024-12", .ymd, false), ("", .ymd, false),
        ("31.04.2024", .dmy, false), ("12-31-2024", .mdy, false), ("20241231", .ymd, false),
    ]) func `only days that there are`(text: String, format: DateFormat, isDate: Bool) {
        #expect((date(text, format) != nil) == isDate)
    }
}

@Suite struct DatesAsTheyAreWritten {
    private func date(_ text: String, _ format: DateFormat) -> [Int]? {
        Array(text.utf8).withUnsafeBufferPointer { CalendarDate($0, format) }.map { [$0.year, $0.month, $0.day, $0.hour, $0.minute] }
    }

    @Test(arguments: [
        ("Jan 1 2000", DateFormat.nameDayYear, [2000, 1, 1, 0, 0]), ("January 31, 2000", .nameDayYear, [2000, 1, 31, 0, 0]),
        ("Jan-1-1995", .nameDayYear, [1995, 1, 1, 0, 0]), ("1 Sept 1999", .dayNameYear, [1999, 9, 1, 0, 0]),
        ("25/11/63", .dmy, [2063, 11, 25, 0, 0]), ("1/1/85", .mdy, [1985, 1, 1, 0, 0]), ("02-Dec-70", .dayNameYear, [1970, 12, 2, 0, 0]),
        ("1991 Jul", .yearName, [1991, 7, 1, 0, 0]), ("1977-December", .yearName, [1977, 12, 1, 0, 0]),
        ("1974Q1", .yearQuarter, [1974, 1, 1, 0, 0]), ("1960q4", .yearQuarter, [1960, 10, 1, 0, 0]),
        ("1950:3", .yearQuarter, [1950, 7, 1, 0, 0]),
        ("1950:12", .yearMonth, [1950, 12, 1, 0, 0]), ("2001-07", .yearMonth, [2001, 7, 1, 0, 0]),
        ("Feb 2004", .nameYear, [2004, 2, 1, 0, 0]),
        ("20240229", .compact, [2024, 2, 29, 0, 0]), ("850131", .yymmdd, [1985, 1, 31, 0, 0]), ("50131", .yymmdd, [2005, 1, 31, 0, 0]),
        ("0", .epochSeconds, [1970, 1, 1, 0, 0]), ("1709210096", .epochSeconds, [2024, 2, 29, 12, 34]),
        ("-1", .epochSeconds, [1969, 12, 31, 23, 59]),
        ("1709210096000", .epochMilliseconds, [2024, 2, 29, 12, 34]), ("23:05", .time, [1970, 1, 1, 23, 5]),
        ("12:05 AM", .time, [1970, 1, 1, 0, 5]),
        ("2024-02-29 1:30 PM", .ymd, [2024, 2, 29, 13, 30]), ("2024-02-29T13:30:15.5+01:00", .ymd, [2024, 2, 29, 13, 30]),
    ]) func `are read`(text: String, format: DateFormat, expected: [Int]) { #expect(date(text, format) == expected) }

    @Test(arguments: [
        ("Feb 30 2000", DateFormat.nameDayYear), ("Janus 1 2000", .nameDayYear), ("Mayor 5 2000", .nameDayYear), ("1950:5", .yearQuarter),
        ("1950:13", .yearMonth), ("20241301", .compact), ("2024123", .compact), ("24:61", .time), ("13:05 PM", .time),
        ("nan", .epochSeconds), ("1e300", .epochSeconds), ("1974Q5", .yearQuarter), ("12", .time), ("", .nameYear),
    ]) func `what is none is none`(text: String, format: DateFormat) { #expect(date(text, format) == nil) }

    @Test func `every day is the same by seconds, by name and by number`() {
        for day in stride(from: -25_000, to: 45_000, by: 37) {
            guard let epoch = Array("\(day * 86_400 + 3_661)".utf8).withUnsafeBufferPointer({ CalendarDate($0, .epochSeconds) }) else {
                Issue.record("day \(day)")
                continue
            }
            let written = "\(epoch.year)-\(epoch.month)-\(epoch.day) 01:01"
            #expect(date(written, .ymd) == [epoch.year, epoch.month, epoch.day, epoch.hour, epoch.minute])
            #expect(epoch.weekday == ((day % 7 + 7) % 7 + 3) % 7 + 1)
        }
    }
}

@Suite struct DateColumns {
    private func withFile<Result>(_ text: String, _ body: (String) throws -> Result) throws -> Result {
        let path = "\(FileManager.default.temporaryDirectory.path)/cohort-dates-\(newIdentifier())"
        try Data(text.utf8).write(to: URL(filePath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        return try body(path)
    }

    private func infer(_ text: String, validation: Double = 0) throws -> SchemaInference.Finding {
        try withFile(text) { try SchemaInference.infer(csvAt: $0, target: "y", task: nil, validation: validation, seed: 1) }
    }

    /// 60 days from 2024-01-01 on, each written by `form` from year, month and day; every seventh is missing.
    private func table(_ form: (Int, Int, Int) -> String) -> String {
        "when,x,y\n"
            + (0..<60).map { index in
                let (month, day) = index < 31 ? (1, index + 1) : (2, index - 30)
                return "\(index % 7 == 3 ? "" : form(2_024, month, day)),\(index % 5),\(index % 2 == 0 ? "a" : "b")"
            }.joined(separator: "\n")
    }

    private func padded(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }

    @Test func `a date becomes what of it varies, standardized by the training rows`() throws {
        let text = table { "\($0)-\(padded($1))-\(padded($2))" }
        let finding = try infer(text)
        let column = finding.schema.columns[0]
        #expect(column.kind == .date && column.dateFormat == .ymd)
        #expect(column.parts?.map(\.part) == [.month, .weekday, .yearDaySin, .yearDayCos], "all are of one year")
        #expect(finding.warnings.contains { $0.contains("'when' is taken as dates") })
        let months = (0..<60).filter { $0 % 7 != 3 }.map { $0 < 31 ? 1.0 : 2 }
        let mean = months.reduce(0, +) / Double(months.count)
        #expect(abs(try #require(column.parts?.first).mean - mean) < 1e-12)
        try withFile(text) { path in
            defer { try? FileManager.default.removeItem(atPath: "\(path).table") }
            try TableLoader.build(csvAt: path, schema: finding.schema, cacheAt: "\(path).table")
            let table = try TableLoader.open(cacheAt: "\(path).table")
            let transform = RowTransform(schema: finding.schema)
            // 2024-01-01 was a Monday; row 3 has no date.
            let first = try transform.features(of: ["when": "2024-01-01", "x": "0"])
            #expect(first == (0..<5).map { table.features[$0] })
            let monday = zip(try #require(column.parts), [1.0, 1, 0, 1]).map { Float(($1 - $0.mean) / $0.std) }
            #expect(Array(first.prefix(4)) == monday)
            #expect((15..<19).allSatisfy { table.features[$0] == 0 })
            #expect(try transform.features(of: ["when": nil, "x": "0"]).prefix(4) == [0, 0, 0, 0])
        }
    }

    @Test func `a text that is no date is reported where numbers would be`() throws {
        let schema = try infer(table { "\(padded($2)).\(padded($1)).\($0)" }).schema
        #expect(schema.columns[0].dateFormat == .dmy)
        let error = #expect(throws: CohortError.self) { try RowTransform(schema: schema).features(of: ["when": "30.02.2024"]) }
        #expect(error?.message.contains("'30.02.2024' in 'when' is not a date (day.month.year)") == true, "\(error?.message ?? "")")
    }

    @Test func `slashes are resolved by a day past twelve, and otherwise not guessed`() throws {
        #expect(try infer(table { "\($1)/\($2)/\($0)" }).schema.columns[0].dateFormat == .mdy)
        #expect(try infer(table { "\($2)/\($1)/\($0)" }).schema.columns[0].dateFormat == .dmy)
        let finding = try infer(table { "\($1)/\($2 % 12 + 1)/\($0)" })
        #expect(finding.schema.columns[0].kind != .date)
        #expect(finding.schema.columns[0].note?.contains("day/month or month/day") == true, "\(finding.schema.columns[0].note ?? "")")
    }

    @Test func `a column of dates and other text is text`() throws {
        let finding = try infer(table { year, month, day in day == 9 ? "soon" : "\(year)-\(month)-\(day)" })
        #expect(finding.schema.columns[0].kind != .date)
    }

    @Test func `the schema goes over the wire, and invalid dates in it are reported`() throws {
        var schema = try infer(table { "\($0)-\($1)-\($2)" }).schema
        #expect(try CohortJSON.decode(TableSchema.self, from: CohortJSON.encode(schema)) == schema)
        try schema.check()
        schema.columns[0].parts?[0].std = 0
        #expect(throws: CohortError.self) { try schema.check() }
    }

    @Test func `the time of day, and dates written as numbers, are features`() throws {
        func column(_ name: String, _ cell: (Int) -> String) throws -> TableSchema.Column {
            try infer("\(name),x,y\n" + (0..<80).map { "\(cell($0)),\($0 % 5),\($0 % 2 == 0 ? "a" : "b")" }.joined(separator: "\n")).schema
                .columns[0]
        }
        let hours = try column("when") { "2024-05-06 \(padded($0 % 24)):00:00" }
        #expect(hours.kind == .date && hours.parts?.map(\.part) == [.hour])
        let compact = try column("day") { "2024\(padded($0 % 12 + 1))\(padded($0 % 28 + 1))" }
        #expect(compact.kind == .date && compact.dateFormat == .compact && compact.note?.contains("YYYYMMDD") == true)
        #expect(try column("amount") { $0 == 79 ? "20241399" : "2024\(padded($0 % 12 + 1))\(padded($0 % 28 + 1))" }.kind == .numeric)
        #expect(try column("timestamp") { "\(1_700_000_000 + $0 * 90_061)" }.dateFormat == .epochSeconds)
        #expect(try column("amount") { "\(1_700_000_000 + $0 * 90_061)" }.kind == .numeric)
        #expect(try column("q") { "19\(50 + $0 / 4):\($0 % 4 + 1)" }.dateFormat == .yearQuarter)
        #expect(try column("m") { "19\(50 + $0 / 12):\($0 % 12 + 1)" }.dateFormat == .yearMonth)
        #expect(try column("m") { "\(["Jan", "Feb", "Mar"][$0 % 3]) \($0 % 28 + 1) 2000" }.dateFormat == .nameDayYear)
    }

    @Test func `percent and currency are reported, not guessed`() throws {
        for text in ["12%", "$12", "12 €"] {
            let rows = (0..<40).map { "\($0 % 3 == 0 ? text : "7\(text)"),\($0 % 5),\($0 % 2)" }
            let finding = try infer("p,x,y\n" + rows.joined(separator: "\n"))
            #expect(finding.warnings.contains { $0.contains("has a sign beside its number") }, "\(finding.warnings)")
        }
    }

    @Test func `rare classes and similar names are reported`() throws {
        let rows = (0..<200).map { "\($0 % 9),\($0 % 40 == 0 ? "True" : $0 % 3 == 0 ? "true" : "false")" }
        let warnings = try infer("x,y\n" + rows.joined(separator: "\n"), validation: 0.2).warnings
        #expect(warnings.contains { $0.contains("'true'") && $0.contains("'True'") && $0.contains("case of letters") }, "\(warnings)")
        #expect(warnings.contains { $0.contains("'false'") && $0.contains("'True' ") && $0.contains("--class-weight") }, "\(warnings)")
    }
}
