import CohortCore
import FoundationEssentials
import Testing

@testable import CohortTraining

/// Columns of which the text counts, and cells that spoil a column.
@Suite struct CodeColumnTests {
    private func infer(_ text: String, target: String? = nil, _ options: DataOptions = DataOptions()) throws -> SchemaInference.Finding {
        let path = FileManager.default.temporaryDirectory.appending(path: "cohort-codes-\(newIdentifier()).csv").path
        try Data(text.utf8).write(to: URL(filePath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        return try SchemaInference.infer(csvAt: path, target: target, task: nil, validation: 0.2, seed: 1, options: options)
    }

    private func column(_ name: String, _ finding: SchemaInference.Finding) throws -> TableSchema.Column {
        try #require(finding.schema.columns.first { $0.name == name })
    }

    private let zips =
        "zip,x,y\n"
        + (0..<120).map { "\(["02116", "10001", "00501", "60601"][$0 % 4]),\($0 * 7 % 13),\($0 % 4 < 2 ? "a" : "b")\n" }.joined()

    @Test func `numbers with zeros in front are categories, unless an option makes them a quantity`() throws {
        let found = try infer(zips)
        let zip = try column("zip", found)
        #expect(zip.kind == .categorical && zip.categories == ["00501", "02116", "10001", "60601"])
        #expect(found.warnings.contains { $0.contains("column 'zip' is codes") && $0.contains("--number zip") }, "\(found.warnings)")
        #expect(try column("zip", infer(zips, target: nil, DataOptions(number: ["zip"]))).kind == .numeric)
        // Nothing else changes: a decimal below 1 and a plain 0 are numbers.
        let plain = try infer("a,b,y\n" + (0..<60).map { "0.\($0),\($0 % 3 == 0 ? 0 : 10),\($0 % 2 == 0 ? "a" : "b")\n" }.joined())
        #expect(try column("a", plain).kind == .numeric && column("b", plain).kind == .numeric)
    }

    @Test func `whole numbers are categories by an option`() throws {
        let text = "school,x,y\n" + (0..<90).map { "\(101 + $0 % 9),\($0 * 7 % 13),\($0 % 2 == 0 ? "a" : "b")\n" }.joined()
        #expect(try column("school", infer(text)).kind == .numeric)
        let school = try column("school", infer(text, DataOptions(category: ["school"])))
        #expect(school.kind == .categorical && school.categories?.count == 9)
        for (options, said) in [
            (DataOptions(category: ["shool"]), "did you mean 'school'"), (DataOptions(category: ["y"]), "which is the target"),
            (DataOptions(category: ["x"], number: ["x"]), "in both category and number"),
            (DataOptions(ignore: ["x"], number: ["x"]), "in both number and ignore"),
        ] {
            let error = #expect(throws: CohortError.self) { _ = try infer(text, target: "y", options) }
            #expect(error?.message.contains(said) == true, "\(error?.message ?? "")")
        }
    }

    @Test func `codes that are different in nearly every row stay a quantity`() throws {
        let text =
            "time,x,y\n"
            + (0..<200).map { row in
                let minutes = row * 7
                let time = "\(minutes / 60 < 10 ? "0" : "")\(minutes / 60)\(minutes % 60 < 10 ? "0" : "")\(minutes % 60)"
                return "\(time),\(row % 13),\(row % 2 == 0 ? "a" : "b")\n"
            }.joined()
        let time = try column("time", infer(text))
        #expect(time.kind == .numeric && time.mean != nil && time.note?.contains("too many different ones for categories") == true)
    }

    @Test func `labels stay what was written where that says more than their number`() throws {
        let codes = "x,y\n" + (0..<90).map { "\($0 * 7 % 13),\(["001", "01", "1"][$0 % 3])\n" }.joined()
        #expect(try infer(codes).schema.classes == ["001", "01", "1"])
        let same = "x,y\n" + (0..<90).map { "\($0 * 7 % 13),\(["1", "1.0", "2"][$0 % 3])\n" }.joined()
        #expect(try infer(same).schema.classes == ["1", "2"], "1 and 1.0 are one class")
    }

    @Test func `a separator behind each row shifts no name`() throws {
        let rows = (0..<40).map { "2024-01-01,\($0 % 2 == 0 ? "Nord" : "Sued"),\($0).5,\($0 * 3).25,\n" }.joined()
        let found = try infer("date,station,no2,o3\n" + rows, target: "no2")
        #expect(found.schema.columns.map(\.name) == ["date", "station", "no2", "o3", "column_5"])
        #expect(try column("station", found).kind == .categorical && column("o3", found).kind == .numeric)
        // Names of rows, as R writes them, are another thing.
        let named = try infer("x,y\n" + (0..<20).map { "r\($0),\($0),\($0 % 2 == 0 ? "a" : "b")\n" }.joined())
        #expect(named.schema.columns.map(\.name) == ["column_1", "x", "y"])
    }

    @Test func `the cell that spoils a column of dates is named`() throws {
        let dates = (1...28).flatMap { day in (1...12).map { "2024-\($0 < 10 ? "0" : "")\($0)-\(day < 10 ? "0" : "")\(day)" } }
        let text = "date,x,y\n" + dates.enumerated().map { "\($1),\($0 * 7 % 13),\($0 % 2 == 0 ? "a" : "b")\n" }.joined() + "Total,7,a\n"
        let found = try infer(text)
        #expect(
            found.warnings.contains { $0.contains("'Total' on line 338 is not a date, the 336 values before it are") },
            "\(found.warnings)")
    }

    @Test func `a word for no value among words is named`() throws {
        let text = "x,from,y\n" + (0..<80).map { "\($0 * 7 % 13),\(["NA", "ZA"][$0 % 2]),\(["NA", "ZA", "BW", "AO"][$0 % 4])\n" }.joined()
        let found = try infer(text)
        #expect(
            found.warnings.contains {
                $0 == "20 cells of 'y' say 'NA', which is taken for no value; if it is one, write it in another way, such as 'NA_'"
            },
            "\(found.warnings)")
    }

    @Test func `lines above the header, the header again, and a total below are named`() throws {
        let rows = (0..<40).map { "\($0 * 7 % 13),\($0 % 5).5,\($0 % 2 == 0 ? "a" : "b")\n" }.joined()
        for (above, said) in [
            ("Air quality export\nmade on 2024-01-02\n\n", "line 1 has 1 field, the lines from 4 on have 3: is the header on line 4?"),
            ("# a comment\n", "line 1 has 1 field, the lines from 2 on have 3"),
            ("Report,2024\nBy,us\n", "line 1 has 2 fields, the lines from 3 on have 3"),
        ] {
            let error = #expect(throws: CohortError.self) { _ = try infer(above + "p,q,y\n" + rows) }
            #expect(error?.message.contains(said) == true, "\(error?.message ?? "")")
        }
        let again = #expect(throws: CohortError.self) { _ = try infer("p,q,y\n" + rows + "p,q,y\n" + rows) }
        #expect(again?.message.contains("line 42 is the header again") == true, "\(again?.message ?? "")")
        let total = try infer("p,q,y\n" + rows + "Total,9.5,a\n")
        #expect(total.warnings.contains { $0.contains("line 42, the last, begins with 'Total'") }, "\(total.warnings)")
        #expect(try !infer("p,q,y\n" + rows).warnings.contains { $0.contains("the last") })
    }

    @Test func `far values are named, and decide over no other column`() throws {
        func houses(_ prices: [Int: String], rooms: [Int: String] = [:]) -> String {
            "m2,rooms,price\n"
                + (0..<400).map { row in
                    let (area, count) = (40 + row * 37 % 150, 1 + row * 7 % 6)
                    return "\(area),\(rooms[row] ?? "\(count)"),\(prices[row] ?? "\(area * 1_000 + count * 5_000 + row * 13 % 3_000)")\n"
                }.joined()
        }
        let far = try infer(houses([10: "1000000000", 95: "1000000000", 210: "1000000000"]), target: "price")
        let warning = try #require(far.warnings.first { $0.contains("far from all others") }, "\(far.warnings)")
        for line in [12, 97, 212] { #expect(warning.contains("1000000000 on line \(line)"), "\(warning)") }
        #expect(!far.warnings.contains { $0.contains("alone tells") }, "\(far.warnings)")
        let feature = try infer(houses([:], rooms: [7: "100000"]), target: "price")
        #expect(feature.warnings.contains { $0.contains("100000 in 'rooms' lies far from all other values") }, "\(feature.warnings)")
        #expect(try !infer(houses([:]), target: "price").warnings.contains { $0.contains("far from") })
        // Incomes spread over many sizes by themselves.
        var generator = SeededGenerator(seed: 4)
        let incomes =
            "x,income\n"
            + (0..<2_000).map { row -> String in
                let normal = (0..<12).reduce(Float(-6)) { sum, _ in sum + generator.nextFloat() }
                let doublings = Double(normal) * 2.2
                let income =
                    1_000
                    * Double(sign: .plus, exponent: Int(doublings.rounded(.down)), significand: 1 + doublings - doublings.rounded(.down))
                return "\(row % 13),\(Int(income) + 1)\n"
            }.joined()
        #expect(try !infer(incomes, target: "income").warnings.contains { $0.contains("far from") })
    }

    // MARK: Hints

    /// 40 schools, whose numbers tell nothing by their size.
    private func schools(_ target: (Int, Int) -> String) -> String {
        let effects = (0..<40).map { ($0 * 7_919 + 13) % 101 }
        return "school,x,y\n"
            + (0..<1_200).map { row in
                let school = row * 31 % 40
                return "\(100 + school),\(row * 37 % 53),\(target(effects[school], row))\n"
            }.joined()
    }

    @Test func `whole numbers that are codes are hinted at, and quantities are not`() throws {
        func hints(_ text: String) throws -> [String] { try infer(text).warnings.filter { $0.contains("if it is a code") } }
        let number = try hints(schools { effect, row in "\(Double(effect) + Double(row % 11) / 3)" })
        #expect(
            number.count == 1 && number[0].contains("'school' has 40 different whole numbers") && number[0].contains("--category school"))
        let label = try hints(schools { effect, row in (effect + row % 17) % 100 < 50 ? "pass" : "fail" })
        #expect(label.count == 1, "\(label)")
        // A quantity: its neighbours tell as much, whether the curve is straight or not; and noise tells nothing.
        #expect(try hints(schools { effect, row in "\(Double(row % 29))" }).isEmpty)
        let quantity =
            "age,x,y\n"
            + (0..<1_200).map { row in
                let age = 18 + row * 31 % 50
                let curve = Double((age - 40) * (age - 40))
                return "\(age),\(row * 37 % 53),\(curve + Double(row * 13 % 97))\n"
            }.joined()
        #expect(try hints(quantity).isEmpty)
        let steps = quantity.split(separator: "\n").map(String.init)
        let classes =
            ([steps[0]]
            + steps.dropFirst().map { line in
                let fields = line.split(separator: ",")
                return "\(fields[0]),\(fields[1]),\((Int(fields[0]) ?? 0) < 40 ? "young" : "old")"
            }).joined(separator: "\n")
        #expect(try hints(classes + "\n").isEmpty)
    }

    @Test func `cells of several words are reported, and names with a slash are not`() throws {
        let tags = ["toxic", "spam", "rude", "toxic|spam", "spam|rude", "toxic|rude", "toxic|spam|rude"]
        let several = try infer("x,tags\n" + (0..<140).map { "\($0 * 7 % 31),\(tags[$0 % 7])\n" }.joined())
        #expect(several.warnings.contains { $0.contains("cells of 'tags' hold several words ('spam|rude')") && $0.contains("7 of them") })
        let units = ["km/h", "m/s", "l/min", "kg/m", "n/a?"]
        let plain = try infer("unit,y\n" + (0..<100).map { "\(units[$0 % 5]),\($0 % 2 == 0 ? "a" : "b")\n" }.joined())
        #expect(!plain.warnings.contains { $0.contains("several words") }, "\(plain.warnings)")
    }

    @Test(arguments: [1, 512, 10_000]) func `zeros at the end of a file are left out, and told of`(count: Int) throws {
        let rows = "x,y\n" + (0..<60).map { "\($0 * 7 % 31),\($0 % 2 == 0 ? "a" : "b")\n" }.joined()
        let found = try infer(rows + String(repeating: "\0", count: count))
        #expect(found.schema.trainingRows + found.schema.validationRows == 60)
        #expect(found.warnings.contains { $0.contains("the file ends with \(count) zero bytes") })
        #expect(try infer(rows).warnings.allSatisfy { !$0.contains("zero bytes") })
        #expect(throws: CohortError.self) { _ = try infer(rows + "\0\0" + "1,a\n") }
    }

    @Test func `comments above the header are recognized, however many fields they have`() throws {
        let rows = "x,y\n" + (0..<60).map { "\($0 * 7 % 31),\($0 % 2 == 0 ? "a" : "b")\n" }.joined()
        let error = #expect(throws: CohortError.self) { _ = try infer("# made by a logger, in May\n# units: m, s\n" + rows) }
        #expect(error?.message.contains("lines 1 to 2 begin with '#'") == true && error?.message.contains("header on line 3") == true)
        // A header that begins so, and values that do.
        #expect(try column("#x", infer("#" + rows)).kind == .numeric)
        let tickets = try infer("ticket,y\n" + (0..<60).map { "#\($0 % 5),\($0 % 2 == 0 ? "a" : "b")\n" }.joined())
        #expect(try column("ticket", tickets).kind == .categorical)
    }
}
