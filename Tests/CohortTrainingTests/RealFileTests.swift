import CKernels
import CohortCore
import FoundationEssentials
import Testing

@testable import CohortTraining

private func infer(_ bytes: [UInt8], target: String? = nil, validation: Double = 0.2, options: DataOptions = DataOptions()) throws
    -> SchemaInference.Finding
{
    let path = "\(FileManager.default.temporaryDirectory.path)/cohort-real-\(newIdentifier())"
    try Data(bytes).write(to: URL(filePath: path))
    defer { try? FileManager.default.removeItem(atPath: path) }
    return try SchemaInference.infer(csvAt: path, target: target, task: nil, validation: validation, seed: 1, options: options)
}

private func infer(_ text: String, target: String? = nil, validation: Double = 0.2, options: DataOptions = DataOptions()) throws
    -> SchemaInference.Finding
{
    try infer([UInt8](text.utf8), target: target, validation: validation, options: options)
}

private func refusal(_ text: String, target: String? = nil, options: DataOptions = DataOptions()) -> String {
    let error = #expect(throws: CohortError.self) { try infer(text, target: target, options: options) }
    return error?.message ?? ""
}

/// Rows of numbers that follow no order.
private func scattered(_ index: Int, _ salt: Int = 0) -> Int { (index * 7_919 + salt * 104_729 + index * index * 31) % 1_009 }

/// Files as people have them: from R, pandas, Excel, the World Bank.
@Suite struct Headers {
    private func names(_ text: String, options: DataOptions = DataOptions()) throws -> [String] {
        try infer(text, options: options).schema.columns.map(\.name)
    }

    @Test func `years on top of a table are names`() throws {
        let rows = (0..<30).map { "Land \($0),L\($0),\(scattered($0)),\(scattered($0, 1)),\(scattered($0, 2)).5" }.joined(separator: "\n")
        #expect(try names("Country Name,Country Code,1960,1961,1962\n" + rows) == ["Country Name", "Country Code", "1960", "1961", "1962"])
        let small =
            "\"\",\"1940\",\"1945\",\"1950\"\nFood,22.2,44.5,59.6\nHouse,10.5,15.5,29.0\nMedical,3.53,5.76,9.71\nCare,1.04,1.98,2.45\n"
        #expect(try names(small) == ["column_1", "1940", "1945", "1950"])
        #expect(try names("\"\",16.5,16.75,17.25\n71,0,1,0\n70,0,2,0\n69,3,1,1\n68,1,5,1\n") == ["column_1", "16.5", "16.75", "17.25"])
    }

    @Test func `text above dates is a name, and dates without a name are no names of rows`() throws {
        let rows = (0..<40).map { "20\(10 + $0 / 12)-\($0 % 12 + 1)-01,\(scattered($0)).5" }.joined(separator: "\n")
        #expect(try names("Month,0\n" + rows) == ["Month", "0"])
        #expect(try infer(",sales\n" + rows).schema.columns[0].kind == .date)
    }

    @Test func `numbers alone have no header, which is reported, and an option may differ`() throws {
        let rows = (1..<41).map { "\(scattered($0)),\(scattered($0, 1)),\(scattered($0, 2)),\($0 % 2)" }.joined(separator: "\n")
        let finding = try infer(rows)
        #expect(!finding.schema.hasHeader && finding.schema.trainingRows + finding.schema.validationRows == 40)
        #expect(finding.warnings.contains { $0.contains("no header was found") && $0.contains("--header yes") })
        let said = try infer(rows, options: DataOptions(header: true))
        #expect(said.schema.hasHeader && said.schema.trainingRows + said.schema.validationRows == 39)
        let counting = (0..<40).map { "\($0),\($0 + 1),\($0 + 2),\($0 + 3),\($0 % 2)" }.joined(separator: "\n")
        #expect(try !infer(counting).schema.hasHeader, "a step that all rows have is no header")
    }

    @Test func `a header that lacks the name of the row names is completed`() throws {
        let text =
            "\"a\" \"y\"\n" + (0..<30).map { "\"\($0 * 3 + 2)\"  \(scattered($0)) \($0 % 2 == 0 ? "p" : "q")" }.joined(separator: "\n")
        let schema = try infer(text).schema
        #expect(schema.columns.map(\.name) == ["column_1", "a", "y"] && schema.columns[0].kind == .ignored)
    }
}

@Suite struct ReadingAnything {
    @Test func `spaces between fields are taken for one separator`() throws {
        let text = "  size   kind\n" + (0..<30).map { "  \(scattered($0))    \($0 % 2 == 0 ? "\"a b\"" : "c") " }.joined(separator: "\r\n")
        let finding = try infer(text)
        #expect(
            finding.schema.delimiter == " " && finding.schema.classes == ["a b", "c"] && finding.warnings.contains { $0.contains("spaces") }
        )
    }

    @Test(arguments: [TextEncoding.utf16le, .utf16be]) func `what Excel calls Unicode text is read`(encoding: TextEncoding) throws {
        let text = "größe\tklasse\r\n" + (0..<300).map { "\(scattered($0))\t\($0 % 2 == 0 ? "schön" : "𝔉rei")\r\n" }.joined()
        let units = [0xfeff] + Array(text.utf16)
        let bytes = units.flatMap { encoding == .utf16le ? [UInt8($0 & 0xff), UInt8($0 >> 8)] : [UInt8($0 >> 8), UInt8($0 & 0xff)] }
        let schema = try infer(bytes).schema
        #expect(schema.encoding == encoding && schema.columns.map(\.name) == ["größe", "klasse"] && schema.classes == ["schön", "𝔉rei"])
        #expect(schema.trainingRows + schema.validationRows == 300)
    }

    @Test func `what is no UTF-8 is read as Windows-1252, which is reported with the place`() throws {
        var bytes = [UInt8]("a,y\n".utf8)
        for index in 0..<40_000 { bytes += [UInt8]("\(scattered(index)),x\n".utf8) }
        bytes += [UInt8]("2,caf".utf8) + [0xe9, 0x0a] + [UInt8]("3,10 ".utf8) + [0x80, 0x0a]
        let finding = try infer(bytes)
        #expect(finding.schema.encoding == .windows1252 && finding.schema.classes == ["10 €", "café", "x"])
        #expect(
            finding.warnings.contains { $0.contains("line 40002") && $0.contains("'café'") && $0.contains("Windows-1252") },
            "\(finding.warnings)")
    }

    @Test func `a Ctrl-Z at the end is not part of the text`() throws {
        let text = "a,y\n" + (0..<60).map { "\(scattered($0)),\(scattered($0, 1)).5" }.joined(separator: "\n")
        #expect(try infer([UInt8](text.utf8) + [0x1a]).schema.task == .regression)
    }

    @Test func `every chunk of bytes is UTF-8 or not as Swift has it`() {
        var generator = SeededGenerator(seed: 5)
        let pieces: [[UInt8]] = [
            [UInt8]("abc".utf8), [UInt8]("é".utf8), [UInt8]("€".utf8), [UInt8]("𝔉".utf8), [0xe9], [0xc0, 0x80], [0xed, 0xa0, 0x80],
            [0xf4, 0x90, 0x80, 0x80], [0x80], [UInt8](repeating: 0x41, count: 64), [0xe2, 0x82],
        ]
        for _ in 0..<20_000 {
            let bytes = (0..<generator.next(below: 8)).flatMap { _ in pieces[generator.next(below: pieces.count)] }
            let prefix = bytes.withUnsafeBufferPointer { cohort_utf8_prefix($0.baseAddress, $0.count) }
            #expect(String(validating: bytes[..<prefix], as: UTF8.self) != nil)
            if prefix < bytes.count {
                let next = bytes[prefix...].prefix(4)
                #expect(!(1...next.count).contains { String(validating: next.prefix($0), as: UTF8.self) != nil }, "\(bytes), \(prefix)")
            }
        }
    }
}

@Suite struct Ids {
    private func kinds(_ header: String, options: DataOptions = DataOptions(), _ row: (Int) -> String) throws -> [TableSchema.ColumnKind] {
        try infer(header + "\n" + (0..<60).map(row).joined(separator: "\n"), options: options).schema.columns.map(\.kind)
    }

    @Test func `row names are no feature, in whatever order they are`() throws {
        let row = { (index: Int) in "\(scattered(index) * 3 + index),\(scattered(index, 1)),\(index % 2)" }
        #expect(try kinds(",a,y", row) == [.ignored, .numeric, .target])
        #expect(try kinds("PassengerId,a,y", row) == [.ignored, .numeric, .target])
        #expect(try kinds("weight,a,y", row) == [.numeric, .numeric, .target], "all different, but no id by its name")
        #expect(try kinds(",a,y", options: DataOptions(use: ["column_1"]), row) == [.numeric, .numeric, .target])
        #expect(
            try kinds("seqno,a,y", options: DataOptions(ignore: ["a"]), { "\($0 % 9),\(scattered($0)),\($0 % 2)" }) == [
                .numeric, .ignored, .target,
            ])
    }

    @Test func `an id that comes again is warned of, and groups keep together`() throws {
        let text = "patient,dose,y\n" + (0..<300).map { "\($0 / 5),\(scattered($0)),\($0 % 2 == 0 ? "a" : "b")" }.joined(separator: "\n")
        let named = text.replacing("patient,", with: "patient_id,")
        #expect(try infer(named).warnings.contains { $0.contains("--group patient_id") })
        let schema = try infer(text, options: DataOptions(group: "patient")).schema
        #expect(schema.columns[0].kind == .ignored && schema.validationRows % 5 == 0)
        #expect(abs(schema.validationRows - 60) <= 5, "\(schema.validationRows) of 300 rows")
        var rows = try UsableRows(schema: schema)
        var sides: [String: Set<Bool>] = [:]
        for line in text.split(separator: "\n").dropFirst() {
            var parser = CSVParser(delimiter: 0x2c)
            try [UInt8]((line + "\n").utf8).withUnsafeBufferPointer { _ = try parser.feed($0) }
            try parser.withRecord { record in
                if let row = try rows.next(record) { sides[record.text(0), default: []].insert(row.isValidation) }
            }
        }
        #expect(sides.count == 60 && sides.values.allSatisfy { $0.count == 1 })
        for near in ["patients", "paitent", "Patient"] {
            #expect(refusal(text, options: DataOptions(group: near)).contains("did you mean 'patient'?"), "\(near)")
        }
        #expect(!refusal(text, options: DataOptions(group: "weight")).contains("did you mean"))
    }
}

@Suite struct Targets {
    @Test func `a class for nearly every row is none`() {
        let rows = (0..<60).map { "\(scattered($0)),name \($0)" }.joined(separator: "\n")
        let message = refusal("a,make\n" + rows)
        #expect(message.contains("60 different values in 60 rows: is it an id?") && message.contains("--target"), "\(message)")
        #expect(!refusal("a,make\n" + rows, target: "make").contains("--target"))
    }

    @Test func `numbers but for a few cells are reported as spoilt`() {
        func message(_ spoilt: String) -> String {
            refusal("a,y\n" + (0..<60).map { "\(scattered($0)),\($0 == 7 ? spoilt : "\($0).5")" }.joined(separator: "\n"))
        }
        #expect(message("\"11,867\"").contains("'11,867' on line 9") && message("\"11,867\"").contains("thousands separator"))
        #expect(message("\u{2013}0.18").contains("no minus sign"))
        #expect(message("6.2\u{1a}").contains("control character"))
    }

    @Test func `the default target is the last column that is left and has values`() throws {
        let text =
            "a,kind,note,grp,e1\n"
            + (0..<60).map { "\(scattered($0)),\($0 % 2 == 0 ? "p" : "q"),n\($0 % 3),\($0 / 6)," }.joined(separator: "\n")
        #expect(try infer(text).schema.target == "grp")
        #expect(try infer(text, options: DataOptions(group: "grp")).schema.target == "note")
        #expect(try infer(text, options: DataOptions(ignore: ["note"], group: "grp")).schema.target == "kind")
        #expect(refusal("a,b,c,d\n1,,,\n2,,,\n").contains("name the column to predict with --target"))
    }

    @Test func `None is a word among words, and no value among numbers`() throws {
        let rows = (0..<90).map { "\($0 % 3 == 0 ? "None" : "\(scattered($0))"),\(["None", "Some", "Marked"][$0 % 3])" }
        let schema = try infer("a,improved\n" + rows.joined(separator: "\n")).schema
        #expect(schema.classes == ["Marked", "None", "Some"] && schema.droppedRows == 0)
        #expect(schema.columns[0].kind == .numeric && schema.columns[0].missing == 30)
    }

    @Test(arguments: ["25-34", "1920-21", "002-001"]) func `a range has no thousands separator`(text: String) {
        #expect(NumberHint.of(text, line: 2) == nil)
    }

    @Test func `the share held out is exact, and each class keeps a row`() throws {
        #expect(Split.quotas([7, 7, 7], share: 0.2) == [2, 1, 1] || Split.quotas([7, 7, 7], share: 0.2).reduce(0, +) == 4)
        #expect(Split.quotas([100, 1, 1], share: 0.5) == [50, 0, 0] || Split.quotas([100, 1, 1], share: 0.5).reduce(0, +) == 51)
        #expect(Split.quotas([1, 1, 1], share: 0.9) == [0, 0, 0])
        for count in [2, 3, 10, 37, 101] {
            for share in [0.1, 0.2, 0.25, 0.5, 0.9] {
                let quotas = Split.quotas([count, 2 * count, 5], share: share)
                #expect(quotas.reduce(0, +) == min(Int((Double(3 * count + 5) * share).rounded()), 3 * count + 2))
                #expect(quotas[0] < count && quotas[1] < 2 * count && quotas[2] < 5)
            }
        }
        let text = "a,y\n" + (0..<53).map { "\(scattered($0)),\($0 < 3 ? "rare" : "often")" }.joined(separator: "\n")
        let schema = try infer(text).schema
        #expect(schema.validationRows == 11 && schema.trainingRows == 42 && schema.classCounts?.allSatisfy { $0 >= 1 } == true)
    }
}

@Suite struct Scales {
    private func columns(_ text: String, _ scaling: Scaling = .auto) throws -> [TableSchema.Column] {
        try infer(text, options: DataOptions(scaling: scaling)).schema.columns
    }

    private func table(_ rows: Int = 400, _ cell: (Int) -> String) -> String {
        "a,b,y\n" + (0..<rows).map { "\(cell($0)),\(scattered($0)),\(["p", "q"][scattered($0, 3) % 2])" }.joined(separator: "\n")
    }

    @Test func `columns as they are asked for`() throws {
        let text = table { "\($0 % 5 * 10)" }
        let standard = try columns(text, .standard)[0]
        #expect(standard.scale == nil && standard.std != nil)
        let range = try columns(text, .range)[0]
        #expect(range.scale == 40 && range.shift == 0 && range.scaling == .range)
        let robust = try columns(text, .robust)[0]
        #expect(robust.shift == 20 && robust.scale == 20)
        let none = try columns(text, .none)[0]
        #expect(none.shift == 0 && none.scale == 1)
        let missing = try infer(text, options: DataOptions(scaling: .none)).schema
        let features = try RowTransform(schema: missing).features(of: ["a": nil, "b": "7"])
        #expect(abs(Double(features[0]) - (none.mean ?? 0)) < 1e-4 && features[1] == 7, "what is missing counts as the mean")
    }

    @Test func `a column that is nearly always one value does not become hundreds of deviations`() throws {
        let rare = try columns(table { $0 == 100 || $0 == 300 ? "1" : "0" })
        #expect(rare[0].scaling == .range && rare[0].scale == 1 && rare[1].scaling == nil)
        #expect(try columns(table { "\($0 % 2)" })[0].scaling == nil)
        #expect(try columns(table { "\(scattered($0) * scattered($0))" })[0].scaling == nil, "a long tail is no constant")
    }

    @Test func `columns of one range are scaled by it together`() throws {
        let width = 12
        let rows = (0..<400).map { row in
            (0..<width).map { $0 < 4 ? (row == 7 * $0 + 3 ? "255" : "0") : row % (40 + $0) == 0 ? "255" : "\(scattered(row, $0) % 255)" }
                .joined(separator: ",") + ",\(["p", "q"][row % 2])"
        }
        let header = (0..<width).map { "p\($0)" }.joined(separator: ",") + ",y\n"
        let finding = try infer(header + rows.joined(separator: "\n"))
        let scaled = finding.schema.columns.filter { $0.scaling == .auto }
        #expect(scaled.count >= 8 && Set(scaled.map(\.scale)).count == 1 && scaled.allSatisfy { $0.shift == $0.mean })
        #expect(scaled.allSatisfy { (20...255).contains($0.scale ?? 0) })
        #expect(finding.warnings.contains { $0.contains("one range, 0 to 255") })
    }
}

/// What a file can make the server remember is bounded, however it is made.
@Suite struct Bounds {
    private func bytes(_ text: String, _ body: (CellBytes) -> Void) { text.withBytes(body) }

    @Test func `many columns named like ids share what is remembered`() {
        var scan = DistinctScan(columns: 10_000)
        for index in 0..<5_000 { bytes("\(index)") { scan.add($0) } }
        #expect(scan.different == scan.limit && scan.limit * 10_000 <= 10 * DistinctScan.most && scan.allDiffer)
    }

    @Test func `long groups are counted, and not remembered`() {
        var groups = GroupScan(seed: 1)
        let long = String(repeating: "x", count: 10_000)
        for index in 0..<10 { bytes("\(long)\(index % 2)") { groups.add($0) } }
        bytes("short") { groups.add($0) }
        #expect(groups.groups == 3 && groups.known.count == 1)
    }

    @Test func `columns whose numbers are together too large to square have no common deviation`() throws {
        // Each alone is just not too large: 1.3e154 squared is 1.7e308.
        let width = 1_000
        let rows = (0..<150).map { row in
            (0..<width).map { $0 % 150 == row ? "1.3e154" : "0" }.joined(separator: ",") + ",\(["p", "q"][row % 2])"
        }
        let schema = try infer((0..<width).map { "p\($0)" }.joined(separator: ",") + ",y\n" + rows.joined(separator: "\n")).schema
        #expect(schema.columns.count { $0.kind == .numeric } > 500)
        try schema.check()
        #expect(throws: Never.self) { try CohortJSON.encode(schema) }
    }
}

@Suite struct TellTales {
    private func warnings(_ header: String, target: String? = nil, rows: Int = 200, _ row: (Int) -> String) throws -> [String] {
        try infer(header + "\n" + (0..<rows).map(row).joined(separator: "\n"), target: target).warnings
    }

    private func isLeak(_ warnings: [String]) -> Bool { warnings.contains { $0.contains("alone tells") } }

    @Test func `a column that predicts the target alone is reported`() throws {
        let label = { (index: Int) in ["no", "yes"][scattered(index, 2) % 2] }
        #expect(isLeak(try warnings("copy,x,y") { "\(label($0) == "yes" ? "b" : "a"),\(scattered($0)),\(label($0))" }))
        #expect(isLeak(try warnings("score,x,y") { "\(label($0) == "yes" ? 50 + $0 % 7 : 10 + $0 % 7),\(scattered($0)),\(label($0))" }))
        #expect(isLeak(try warnings("cents,x,y", rows: 600) { "\(scattered($0) * 100),\(scattered($0, 1)),\(scattered($0)).5" }))
        #expect(!isLeak(try warnings("x,z,y") { "\(scattered($0)),\(scattered($0, 1)),\(label($0))" }))
        #expect(!isLeak(try warnings("near,x,y") { "\(scattered($0, 9) % 10 == 0 ? "a" : label($0)),\(scattered($0)),\(label($0))" }))
    }

    @Test func `a number that stands for no value is asked about`() throws {
        let said = try warnings("pressure,x,y") { "\($0 % 20 == 0 ? -999 : 60 + scattered($0) % 40),\(scattered($0)),\($0 % 2)" }
        #expect(said.contains { $0.contains("-999 in 'pressure'") })
        #expect(try !warnings("year,x,y") { "\(1 + $0 % 99),\(scattered($0)),\($0 % 2)" }.contains { $0.contains("no value?") })
    }

    @Test func `of many frequent texts the most frequent are categories, and the others one`() throws {
        let schema = try infer(
            "city,x,y\n" + (0..<3_000).map { "town \($0 % 2 == 0 ? $0 % 50 : $0 % 300),\(scattered($0)),\($0 % 2)" }.joined(separator: "\n")
        ).schema
        let city = schema.columns[0]
        #expect(city.kind == .categorical && city.categories?.count == 100 && city.hasOther == true && city.featureCount == 101)
        let transform = RowTransform(schema: schema)
        let known = try #require(city.categories?.first)
        #expect(try transform.features(of: ["city": known])[0] == 1)
        #expect(try transform.features(of: ["city": "elsewhere"])[100] == 1)
        #expect(try transform.features(of: ["city": nil]).prefix(101).allSatisfy { $0 == 0 })
    }
}
