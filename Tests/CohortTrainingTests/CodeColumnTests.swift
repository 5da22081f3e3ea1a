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

    @Test func `numbers with zeros in front are categories, unless somebody says that they are a quantity`() throws {
        let found = try infer(zips)
        let zip = try column("zip", found)
        #expect(zip.kind == .categorical && zip.categories == ["00501", "02116", "10001", "60601"])
        #expect(found.warnings.contains { $0.contains("column 'zip' is codes") && $0.contains("--number zip") }, "\(found.warnings)")
        #expect(try column("zip", infer(zips, target: nil, DataOptions(number: ["zip"]))).kind == .numeric)
        // Nothing else changes: a decimal below 1 and a plain 0 are numbers.
        let plain = try infer("a,b,y\n" + (0..<60).map { "0.\($0),\($0 % 3 == 0 ? 0 : 10),\($0 % 2 == 0 ? "a" : "b")\n" }.joined())
        #expect(try column("a", plain).kind == .numeric && column("b", plain).kind == .numeric)
    }

    @Test func `whole numbers are categories when somebody says so`() throws {
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
}
