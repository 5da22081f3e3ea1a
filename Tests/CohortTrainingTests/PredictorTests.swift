import CohortCore
import FoundationEssentials
import Testing

@testable import CohortTraining

/// Predicting files that are not quite the one that was trained on.
@Suite struct PredictingFiles {
    private func withFile<Result>(_ text: String, _ body: (String) throws -> Result) throws -> Result {
        let path = "\(FileManager.default.temporaryDirectory.path)/cohort-predict-\(newIdentifier())"
        try Data(text.utf8).write(to: URL(filePath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        return try body(path)
    }

    private func model(of text: String) throws -> Predictor {
        let schema = try withFile(text) {
            try SchemaInference.infer(csvAt: $0, target: nil, task: nil, validation: 0.2, seed: 1).schema
        }
        let spec = ModelSpec(
            inputs: schema.featureCount, hidden: [4], outputs: schema.outputCount, activation: .relu, dropout: 0, task: schema.task)
        let parameters = (0..<spec.parameterCount).map { Float($0 % 7) / 7 - 0.4 }
        return try Predictor(ModelFile(spec: spec, schema: schema, metrics: nil, sessionId: nil, parameters: parameters))
    }

    private func table(header: String = ",size,width,kind", rows: Range<Int> = 0..<400, _ row: (Int) -> String) -> String {
        header + "\n" + rows.map(row).joined(separator: "\n")
    }

    private func row(_ index: Int) -> String { "\(index * 3 + 5),\(index % 13).5,\(index % 7),\(index % 2 == 0 ? "a" : "b")" }

    private func predict(
        _ predictor: Predictor, _ text: String, _ options: Predictor.Options = .init()
    ) throws -> (rows: [(Predictor.Prediction, Predictor.Row)], columns: [String], notes: [String]) {
        var rows: [(Predictor.Prediction, Predictor.Row)] = []
        var (columns, notes): ([String], [String]) = ([], [])
        try withFile(text) { path in
            try predictor.predict(csvAt: path, options: options, begin: { (columns, notes) = ($0, $1) }) {
                rows.append(($0, $1))
                return true
            }
        }
        return (rows, columns, notes)
    }

    private func refusal(_ predictor: Predictor, of text: String, options: Predictor.Options = .init()) -> String {
        let error = #expect(throws: CohortError.self) { try predict(predictor, text, options) }
        return error?.message ?? ""
    }

    @Test func `the file that was trained on is predicted, unnamed column and all`() throws {
        let text = table(row)
        let predictor = try model(of: text)
        let all = try predict(predictor, text, .init(keepsFields: true))
        #expect(all.rows.count == 400 && all.columns == ["column_1", "size", "width", "kind"] && all.notes.isEmpty)
        #expect(all.rows[300].1.fields == ["905", "1.5", "6", "a"] && all.rows[300].1.line == 302 && all.rows[300].1.target == "a")
        let byName = try predictor.predict([["size": "1.5", "width": "6"]])
        #expect(byName == [all.rows[300].0])
        // Reordered, without the target and the ignored column, and with `;` and decimal commas.
        let others = table(header: "width;size") { "\($0 % 7);\($0 % 13),5" }
        #expect(try predict(predictor, others).rows.map(\.0) == all.rows.map(\.0))
    }

    @Test func `columns that are missing are an error unless allowed; additional ones are ignored`() throws {
        let predictor = try model(of: table(row))
        let fewer = table(header: "size") { "\($0 % 13).5" }
        #expect(refusal(predictor, of: fewer).contains("missing that the model predicts from: width (--allow-missing"))
        let allowed = try predict(predictor, fewer, .init(allowMissing: true))
        #expect(allowed.rows.count == 400 && allowed.notes.contains { $0.contains("count as missing: width") })
        #expect(refusal(predictor, of: "kind\na\n", options: .init(allowMissing: true)).contains("no column that the model predicts from"))
        #expect(refusal(predictor, of: "Size,width\n1,2\n").contains("it knows no 'Size'"))
        let more = table(header: "size,note,width") { "\($0 % 13).5,x,\($0 % 7)" }
        #expect(try predict(predictor, more).notes.contains { $0.contains("were ignored: note") })
        #expect(refusal(predictor, of: "size,size,width\n1,2,3\n").contains("both named 'size'"))
    }

    @Test func `a bad cell is named by its line, and nothing is reported before the first rows are good`() throws {
        let predictor = try model(of: table(row))
        let bad = table { $0 == 299 ? "1,oops,2,a" : row($0) }
        #expect(refusal(predictor, of: bad).contains("line 301: 'oops' in 'size' is not a number"))
        var begun = false
        #expect(throws: CohortError.self) {
            try withFile(table { $0 == 3 ? "1,oops,2,a" : row($0) }) { path in
                try predictor.predict(csvAt: path, begin: { _, _ in begun = true }) { _, _ in true }
            }
        }
        #expect(!begun)
        #expect(refusal(predictor, of: "size,width\n1,2\n1,2,3\n").contains("line 3: 3 fields where the header has 2"))
    }

    @Test func `a file without a header may lack the target`() throws {
        let text = (0..<300).map { "\($0 % 13).5,\($0 * $0 % 17),\($0 % 2)" }.joined(separator: "\n")
        let predictor = try model(of: text)
        #expect(!predictor.file.schema.hasHeader)
        let all = try predict(predictor, text).rows.map(\.0)
        let without = try predict(predictor, (0..<300).map { "\($0 % 13).5,\($0 * $0 % 17)" }.joined(separator: "\n"))
        #expect(without.rows.map(\.0) == all && without.rows.allSatisfy { $0.1.target == nil })
        #expect(refusal(predictor, of: "1.5\n2.5\n").contains("line 1: 1 fields"))
    }

    @Test func `a file with the target is measured, row by row as it is predicted`() throws {
        let text = table(row)
        let predictor = try model(of: text)
        let predictions = try predict(predictor, text).rows
        let (evaluation, notes) = try withFile(text) { try predictor.evaluate(csvAt: $0) }
        let right = predictions.count { $0.0.label == $0.1.target }
        #expect(evaluation.samples == 400 && evaluation.accuracy == Double(right) / 400 && notes.isEmpty)
        let gaps = table { $0 % 4 == 0 ? "1,2.5,3," : row($0) }
        #expect(try withFile(gaps) { try predictor.evaluate(csvAt: $0) }.notes.contains { $0.contains("100 rows have no 'kind'") })
        func message(_ text: String) -> String {
            let error = #expect(throws: CohortError.self) { try withFile(text) { try predictor.evaluate(csvAt: $0) } }
            return error?.message ?? ""
        }
        #expect(message("size,width\n1,2\n").contains("no column 'kind' to compare with"))
        #expect(message("size,width,kind\n1,2,a\n1,2,z\n").contains("line 3: 'z' in 'kind' is not a class of the model"))
        #expect(message("size,width,kind\n1,2,\n").contains("no row of the file has a 'kind'"))
    }
}
