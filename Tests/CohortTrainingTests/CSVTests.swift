import CohortCore
import FoundationEssentials
import Testing

@testable import CohortTraining

private func withFile<Result>(_ bytes: some Collection<UInt8>, _ body: (String) throws -> Result) throws -> Result {
    let path = "\(FileManager.default.temporaryDirectory.path)/cohort-csv-\(newIdentifier())"
    try Data(bytes).write(to: URL(filePath: path))
    defer { try? FileManager.default.removeItem(atPath: path) }
    return try body(path)
}

private func infer(_ bytes: some Collection<UInt8>, target: String? = nil, task: LearningTask? = nil, threads: Int? = nil) throws
    -> SchemaInference.Finding
{
    try withFile(bytes) { try SchemaInference.infer(csvAt: $0, target: target, task: task, validation: 0.2, seed: 1, threads: threads) }
}

private func infer(_ text: String, target: String? = nil, task: LearningTask? = nil) throws -> SchemaInference.Finding {
    try infer(text.utf8, target: target, task: task)
}

/// The sentence that `infer` refuses a file with.
private func refusal(_ bytes: some Collection<UInt8>, target: String? = nil, task: LearningTask? = nil) -> String {
    let error = #expect(throws: CohortError.self) { try infer(bytes, target: target, task: task) }
    #expect(error?.code == .invalid)
    return error?.message ?? ""
}

private func refusal(_ text: String, target: String? = nil, task: LearningTask? = nil) -> String {
    refusal(text.utf8, target: target, task: task)
}

private func table(_ bytes: some Collection<UInt8>, _ schema: TableSchema, threads: Int) throws -> Data {
    try withFile(bytes) { path in
        let cache = "\(path).table"
        defer { try? FileManager.default.removeItem(atPath: cache) }
        try TableLoader.build(csvAt: path, schema: schema, cacheAt: cache, threads: threads)
        return try Data(contentsOf: URL(filePath: cache))
    }
}

/// `count` rows under a header.
private func rows(_ count: Int, header: String = "a,b,y", _ row: (Int) -> String) -> String {
    header + "\n" + (0..<count).map(row).joined(separator: "\n") + "\n"
}

@Suite struct FastAndSlowWays {
    /// Records as bytes, each after its line, and the error at the end.
    private struct Outcome: Equatable {
        var records: [UInt8] = []
        var error: String?

        mutating func add(_ record: CSVRecord) {
            records.append(contentsOf: [0xfe, UInt8(truncatingIfNeeded: record.line)])
            for index in 0..<record.count {
                records.append(contentsOf: record.trimmed(index))
                records.append(0xff)
            }
        }
    }

    /// Byte by byte, as RFC 4180 has it.
    private func slowly(_ text: [UInt8]) -> Outcome {
        var outcome = Outcome()
        var parser = CSVParser(delimiter: UInt8(ascii: ","))
        do {
            try text.withUnsafeBufferPointer { text in
                var rest = text[...]
                while !rest.isEmpty {
                    rest = rest.dropFirst(try parser.feed(UnsafeBufferPointer(rebasing: rest)))
                    parser.withRecord { outcome.add($0) }
                }
            }
            try parser.finish()
            parser.withRecord { outcome.add($0) }
        } catch {
            outcome.error = "\(error)"
        }
        return outcome
    }

    /// Through a small buffer that fills by a few bytes at a time.
    private func fast(_ text: [UInt8], _ generator: inout SeededGenerator) -> Outcome {
        var outcome = Outcome()
        var position = 0
        let most = 1 + generator.next(below: 40)
        do {
            try CSVBatches(delimiter: UInt8(ascii: ","), capacity: 1 + generator.next(below: 80)).forEach { buffer in
                let count = min(most, buffer.count, text.count - position)
                text.withUnsafeBytes { buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[position..<(position + count)])) }
                position += count
                return count
            } _: { records in
                for record in records { outcome.add(record) }
                return true
            }
        } catch {
            outcome.error = "\(error)"
        }
        return outcome
    }

    #if DEBUG
        private static let cases = 10_000
    #else
        private static let cases = 125_000
    #endif

    @Test(arguments: 0..<8) func `are the same for any bytes and any chunks`(seed: Int) {
        var generator = SeededGenerator(seed: UInt64(seed))
        let pieces =
            [",", ",", ",", "\n", "\n", "\r\n", "\r", "\"", " ", "0", "1", "9", ".", "e", "-", "x", ";", "\u{0}", "é", "🙂"]
            .map { [UInt8]($0.utf8) } + [[0xef, 0xbb, 0xbf], [0xc3], [0x0a]]
        for index in 0..<Self.cases {
            // The rarer half of the pieces would leave no text plain: a third of the cases does without them.
            let variety = index % 3 == 0 ? 6 : index % 3 == 1 ? 13 : pieces.count
            var text: [UInt8] = []
            for _ in 0..<generator.next(below: index % 50 == 0 ? 300 : 24) { text += pieces[generator.next(below: variety)] }
            let (slow, fast) = (slowly(text), fast(text, &generator))
            if slow != fast {
                Issue.record("\(text): \(slow) and \(fast)")
                return
            }
        }
    }

    @Test func `a number is the same double by either`() throws {
        var generator = SeededGenerator(seed: 4)
        let alphabet = [UInt8]("00123456789.-+e ,".utf8)
        for delimiter in [",", ";"] {
            let schema = TableSchema(
                hasHeader: false, delimiter: delimiter, columns: [.init(name: "x", kind: .numeric, mean: 0.1, std: 0.3, missing: 0)],
                target: "y", task: .regression, classes: [], validation: 0, splitSeed: 0, trainingRows: 1, validationRows: 0, droppedRows: 0
            )
            let transform = RowTransform(schema: schema)
            for index in 0..<20_000 {
                // Half are whole numbers, as most are.
                let letters = index % 2 == 0 ? 11 : alphabet.count
                let text = (0..<generator.next(below: 22)).map { _ in alphabet[generator.next(below: letters)] }
                var feature: Float?
                var expected: Float?
                (text + [0x0a]).withUnsafeBufferPointer { bytes in
                    let cell = CellBytes(rebasing: bytes.dropLast()).trimmed
                    let number = Cell.number(cell, comma: delimiter == ";").map { Float(($0 - 0.1) / 0.3) }
                    expected = number ?? (Cell.isMissing(cell) ? 0 : nil)
                    [0, UInt32(bytes.count)].withUnsafeBufferPointer { starts in
                        let record = CSVRecord(bytes: bytes.baseAddress, starts: starts.baseAddress, count: 1, gap: 1, line: 1)
                        var features: [Float] = [0]
                        feature = (try? features.withUnsafeMutableBufferPointer { try transform.encode(record, into: $0) }).map {
                            features[0]
                        }
                    }
                }
                // Too large a number for a feature is refused like text.
                if let number = expected, !number.isFinite { expected = nil }
                #expect(feature == expected, "\(String(decoding: text, as: UTF8.self))")
            }
        }
    }

    @Test func `schema and table do not depend on the number of threads`() throws {
        var generator = SeededGenerator(seed: 6)
        let text = rows(3_000, header: "id,a,b,c,d,y") { row in
            let odd = ["", "NA", "\"7\"", "1e3", " 12 ", "-0.25", "ü"]
            let number = "\(generator.next(below: 1_000))"
            return
                "\(row),\(generator.next(below: 2)),\(number).\(number),\(row % 100 == 7 ? odd[row / 100 % 6] : number),\(odd[row % 7]),\(row % 3)"
        }.utf8
        let one = try infer(text, threads: 1).schema
        #expect(one.featureCount > 4)
        let whole = try table(text, one, threads: 1)
        for threads in [2, 3, 16] {
            #expect(try infer(text, threads: threads).schema == one)
            #expect(try table(text, one, threads: threads) == whole)
        }
    }

    @Test func `of several errors the first in the file is reported, by any number of threads`() throws {
        let good = rows(2_000) { "\($0 % 7),\($0 % 5),\($0 % 2 == 0 ? "p" : "q")" }
        let schema = try infer(good).schema
        var lines = good.split(separator: "\n").map(String.init)
        lines[1_900] = "1,2"
        lines[1_200] = "1,wide,p"
        lines[700] = "long,1,p"
        for threads in [1, 2, 5] {
            let error = #expect(throws: CohortError.self) { try table(lines.joined(separator: "\n").utf8, schema, threads: threads) }
            #expect(error?.message == "line 701: 'long' in 'a' is not a number")
        }
    }
}

@Suite struct BadFiles {
    @Test(arguments: [
        ("", "the file is empty"), ("\n\n", "the file is empty"), ("a,b,y\n", "a header and no rows"),
        ("a,b,y\n1,2,x\n1,2\n3,4,z\n", "line 3: 2 fields where the header has 3"),
        ("a,b,y\n1,2,x\n1,2,3,4\n", "line 3: 4 fields where the header has 3"),
        ("a,b,y\n1,2,x\n3,4,z\n1,2,x\n3,", "line 5: 2 fields where the header has 3"),
        ("a,b,y\n1,\"2,x\n3,4,z\n", "line 2, column 2: a quote that opens there is never closed"),
        ("a,b,y\n1,\"2\"x,x\n", "line 2, column 2: text after a closing quote"),
        ("a,b,y\n1,2,x\n3,\u{0},z\n", "line 3: a zero byte"), ("a,b,a\n1,2,x\n", "line 1: columns 1 and 3 are both named 'a'"),
        ("a,column_1,y\n1,2,x\n3,4,z\n,2,x\n,2,z\n", ""), ("y\n1\n2\n", "the file has one column, 'y'"),
        ("a,b,y\n1,2,x\n", "one value 'x'"), ("a,b,y\n1,2,x\n2,3,x\n", "the target column 'y' has the one value 'x'"),
        ("a,b,y\n1,2,7\n2,3,7\n", "the target column 'y' has the one value '7'"),
        ("a,y\nk,p\nk,q\nk,p\nk,q\nk,p\nk,q\n", "no column is left to predict 'y' from: 'a' has the one value 'k'"),
    ]) func `are refused with the place and the reason`(text: String, sentence: String) {
        guard !sentence.isEmpty else {
            #expect(throws: Never.self) { try infer(text) }
            return
        }
        let message = refusal(text)
        #expect(message.contains(sentence), "\(message)")
    }

    @Test func `that are no text are named as such`() {
        #expect(refusal([0x50, 0x4b, 3, 4, 0x14, 0, 6]).contains("spreadsheet"))
        var generator = SeededGenerator(seed: 3)
        #expect(refusal((0..<4_096).map { _ in UInt8(generator.next(below: 256)) }).contains("UTF-8"))
    }

    @Test func `past the first pages are refused with their line, too`() {
        let good = rows(40_000) { "\($0 % 7),\($0 % 5),\($0 % 2 == 0 ? "p" : "q")" }
        #expect(refusal(good + "1,\u{0},p\n").contains("line 40002, column 2: a zero byte"))
        #expect(refusal(good + "1,\"2,p\n1,2,q\n").contains("line 40002, column 2: a quote that opens there is never closed"))
        #expect(refusal(good + "1,2").contains("line 40002: 2 fields where the header has 3"))
    }

    @Test func `with a line of 100 MB are refused at its first megabytes`() {
        let head = [UInt8]("a,b,y\n1,2,x\n".utf8)
        let digits = refusal(head + [UInt8](repeating: 0x31, count: 100 << 20))
        #expect(digits == "line 3, column 1: a field is longer than 1 MiB", "\(digits)")
        let fields = refusal(head + [UInt8](repeating: 0x2c, count: 100 << 20))
        #expect(fields == "line 3: more than 65536 fields", "\(fields)")
        let quote = refusal(head + [0x22] + [UInt8](repeating: 0x0a, count: 2 << 20))
        #expect(quote == "line 3, column 1: a field is longer than 1 MiB; was a quote never closed?", "\(quote)")
    }
}

@Suite struct OddColumns {
    @Test func `an empty name becomes a number, and a column without values is ignored`() throws {
        let schema = try infer(rows(40, header: ",b,y") { "\($0 % 7),NA,\($0 % 2 == 0 ? "p" : "q")" }).schema
        #expect(schema.columns.map(\.name) == ["column_1", "b", "y"])
        #expect(schema.columns[1].kind == .ignored && schema.columns[1].missing == 40 && schema.columns[1].note == "has no values")
    }

    @Test func `a target that is missing, or unique in each row, is no class`() throws {
        #expect(refusal("a,b,y\n1,2,\n3,4,\n", target: "y").contains("the target column 'y' has no values"))
        let some = try infer(rows(60) { "\($0 % 7),\($0 % 5),\($0 % 3 == 0 ? "" : $0 % 2 == 0 ? "p" : "q")" })
        #expect(some.schema.droppedRows == 20 && some.warnings.contains { $0.contains("20 rows have no 'y'") })
        let unique = refusal(rows(1_001) { "\($0 % 7),\($0 % 5),name\($0)" })
        #expect(unique.contains("more than 1000 different values"), "\(unique)")
        #expect(try infer(rows(1_000) { "\($0 % 7),\($0 % 5),\(Double($0) * 1.5)" }).schema.task == .regression)
        let text = refusal(rows(50) { "\($0 % 7),\($0 % 5),\($0 == 20 ? "many" : "\($0)")" }, task: .regression)
        #expect(text.contains("line 22: 'many' in the target column 'y' is not a number"), "\(text)")
    }

    @Test func `NaN and infinities are missing, and 1e999 is reported as text`() throws {
        let schema = try infer(
            rows(90, header: "a,b,c,y") {
                "\($0 % 9 == 0 ? ["NaN", "inf", "-Infinity"][$0 % 3] : "\($0 % 7)"),\($0 == 5 ? "1e999" : "\($0 % 4)"),\($0 % 7),\($0 % 2)"
            }
        ).schema
        #expect(schema.columns[0].kind == .numeric && schema.columns[0].missing == 10)
        #expect(schema.columns[1].kind == .categorical && schema.columns[1].note?.contains("'1e999' on line 7") == true)
    }

    @Test(arguments: [("\"1,234.5\"", ","), ("1 234", ","), ("\"3,5\"", ","), ("1.234,5", ";"), ("1'234", ",")])
    func `thousands separators and decimal commas are reported, not guessed`(text: String, delimiter: String) throws {
        let odd = rows(60, header: ["a", "b", "y"].joined(separator: delimiter)) {
            ["\($0 == 10 ? text : "\($0)5")", "\($0 % 7)", $0 % 2 == 0 ? "p" : "q"].joined(separator: delimiter)
        }
        let finding = try infer(odd)
        let note = finding.schema.columns[0].note ?? ""
        #expect(note.contains("on line 12 has a thousands separator or a decimal comma"), "\(note)")
        #expect(finding.warnings.contains { $0.contains("decimal comma") })
        let refused = refusal(odd, target: "a", task: .regression)
        #expect(refused.contains("line 12") && refused.contains("1234.5"), "\(refused)")
    }

    @Test func `a decimal comma is a number where fields are parted by semicolons`() throws {
        let schema = try infer(rows(60, header: "a;y") { "\($0 % 7),5;\($0 % 2 == 0 ? "p" : "q")" }).schema
        #expect(schema.columns[0].kind == .numeric && abs((schema.columns[0].mean ?? 0) - 3.5) < 0.5)
    }

    @Test func `a thousand classes and ten thousand columns are taken`() throws {
        let classes = try infer(rows(3_000) { "\($0 % 7),\($0 % 5),class\($0 % 1_000)" }).schema
        #expect(classes.classes.count == 1_000)
        let names = (0..<10_000).map { "c\($0)" }.joined(separator: ",")
        let wide = try infer(
            rows(20, header: names + ",y") { row in
                (0..<10_000).map { "\(($0 + row * row) % 10)" }.joined(separator: ",") + ",\(row % 2 == 0 ? "p" : "q")"
            }
        ).schema
        #expect(wide.columns.count == 10_001 && wide.featureCount > 9_000)
    }
}
