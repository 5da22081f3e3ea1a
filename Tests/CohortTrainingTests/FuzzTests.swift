import CohortCore
import FoundationEssentials
import TestSupport
import Testing

@testable import CohortTraining

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Damaged or invented files: an error with words, or all the way to predictions; never a crash, never a row lost.
/// `COHORT_FUZZ_SECONDS` makes it longer, `COHORT_FUZZ_SEED` another run.
@Suite struct GeneratedFiles {
    private static let seconds = getenv("COHORT_FUZZ_SECONDS").flatMap { Double(String(cString: $0)) }
    private static let seed = getenv("COHORT_FUZZ_SEED").flatMap { UInt64(String(cString: $0)) } ?? 1

    private static let files = [
        "a,b,y\n1,2.5,x\n2,3.5,z\n3,,x\n4,4.5,z\n5,1e3,x\n6,-7,z\n",
        ",when,place,y\n1,2024-01-31,Rome,1.5\n2,2024-02-01 12:30,Oslo,2.5\n4,,Rome,3.25\n7,2023-12-24 23:59:59,None,4\n",
        "\"size \"\"x\"\"\";kind\r\n\"1,5\";a\r\n2;\"b\r\nc\"\r\n3,25;a\r\n4;\"b\r\nc\"\r\n",
        "1\t2\t0\n3\t4\t1\n5\t6\t0\n7\t8\t1\n9\t1\t0\n2\t2\t1\n",
        "id  height   sex\n 12  1.80  m\n 7   1.71  w\n 3  NA   m\n 99 1.65 w\n",
        "Country,Code,1960,1961,1962\nA land,AL,1,2,3.5\nB land,BL,4,5,6.25\nC land,CL,7,8,9\n",
        "day,q,time,y\n20240131,1974Q1,10:30,no\n20240201,1974Q2,11:45,yes\n20240202,1974Q3,9:05,no\n20240203,1974Q4,23:00,yes\n",
    ].map { [UInt8]($0.utf8) }

    private static let pieces: [[UInt8]] =
        [
            "\"", "\"\"", ",", ";", "\t", "|", " ", "\n", "\r\n", "\r", "None", "NA", "nan", "inf", "-inf", "?", "1e308", "-1e-320",
            "1e999",
            "99999999999999999999", "0x1p3", "2024-02-30", "29.02.2023", "Jan 1 2000", "1950:1", "1709210096", "é", "\u{FEFF}",
            "\u{2212}1.5", "1,234.5",
            "a,a", "y", "1", "-999", ",,,,", "\u{0}", String(repeating: "9", count: 400), String(repeating: "x", count: 300),
        ].map { [UInt8]($0.utf8) } + [[0xff, 0xfe], [0xfe, 0xff], [0xe9], [0xc0, 0x80], [0x1a]]

    private static func damaged(_ generator: inout SeededGenerator) -> [UInt8] {
        var bytes = files[generator.next(below: files.count)]
        if generator.next(below: 3) == 0 {
            // More rows, so that shares, categories and samples are of some size.
            let lines = bytes.split(separator: 0x0a, omittingEmptySubsequences: false)
            for _ in 0..<generator.next(below: 40) { bytes += lines[generator.next(below: lines.count)] + [0x0a] }
        }
        for _ in 0..<generator.next(below: 6) {
            let place = generator.next(below: bytes.count + 1)
            switch generator.next(below: 5) {
            case 0 where place < bytes.count: bytes[place] = UInt8(generator.next(below: 256))
            case 1: bytes.insert(contentsOf: pieces[generator.next(below: pieces.count)], at: place)
            case 2: bytes.removeSubrange(place..<min(bytes.count, place + generator.next(below: 12)))
            case 3: bytes.insert(contentsOf: bytes[place..<min(bytes.count, place + generator.next(below: 30))], at: place)
            default: bytes.insert(contentsOf: files[generator.next(below: files.count)].prefix(generator.next(below: 60)), at: place)
            }
        }
        return bytes
    }

    private static func options(_ generator: inout SeededGenerator) -> DataOptions {
        DataOptions(
            header: [nil, nil, nil, true, false][generator.next(below: 5)],
            group: generator.next(below: 8) == 0 ? ["a", "id", "column_1", "q"][generator.next(below: 4)] : nil,
            scaling: Scaling.allCases[generator.next(below: Scaling.allCases.count)])
    }

    /// Runs `body` for so many cases, or as long as was asked for.
    private func cases(_ count: Int, _ body: (inout SeededGenerator) throws -> Void) throws {
        var generator = SeededGenerator(seed: Self.seed)
        let end = Self.seconds.map { ContinuousClock.now + .seconds($0) }
        var done = 0
        while end.map({ ContinuousClock.now < $0 }) ?? (done < count) {
            try body(&generator)
            done += 1
        }
        if end != nil { print("\(done) cases") }
    }

    @Test func `a CSV is an error with words, or is trained on and predicted to the last row`() throws {
        let path = "\(FileManager.default.temporaryDirectory.path)/cohort-fuzz-\(newIdentifier())"
        defer { for suffix in ["", ".table"] { unlink(path + suffix) } }
        try cases(1_500) { generator in
            let bytes = Self.damaged(&generator)
            let options = Self.options(&generator)
            try Data(bytes).write(to: URL(filePath: path))
            let shown = String(decoding: bytes.prefix(400), as: UTF8.self).debugDescription
            do {
                let schema = try SchemaInference.infer(
                    csvAt: path, target: nil, task: nil, validation: 0.25, seed: 1, options: options, threads: 1
                ).schema
                try schema.check()
                try TableLoader.build(csvAt: path, schema: schema, cacheAt: "\(path).table", threads: 1)
                let table = try TableLoader.open(cacheAt: "\(path).table")
                #expect(table.trainingRows.count == schema.trainingRows && table.validationRows.count == schema.validationRows, "\(shown)")
                if let feature = table.features.first(where: { !$0.isFinite }) { Issue.record("a feature is \(feature): \(shown)") }
                let spec = ModelSpec(
                    inputs: schema.featureCount, hidden: [], outputs: schema.outputCount, activation: .relu, dropout: 0, task: schema.task)
                let file = ModelFile(
                    spec: spec, schema: schema, metrics: nil, sessionId: nil,
                    parameters: [Float](repeating: 0.01, count: spec.parameterCount))
                let predictor = try Predictor(try ModelFile.decode(try file.encode()))
                var rows = 0
                do {
                    try predictor.predict(csvAt: path) { _, _ in
                        rows += 1
                        return true
                    }
                } catch {
                    // A row left out of training for want of a target may have anything in its other columns.
                    if schema.droppedRows == 0 { Issue.record("what was trained on is not predicted: \(error) \(shown) \(options)") }
                    return
                }
                #expect(rows == schema.trainingRows + schema.validationRows + schema.droppedRows, "\(shown)")
            } catch let error as CohortError {
                #expect(!error.message.isEmpty && error.code != .internal, "\(error) \(shown)")
            }
        }
    }

    @Test func `a model file is an error with words, or predicts`() throws {
        let schema = TableSchema(
            hasHeader: true, delimiter: ",",
            columns: [
                TableSchema.Column(name: "a", kind: .numeric, mean: 1, std: 2),
                TableSchema.Column(name: "c", kind: .categorical, categories: ["p", "q"]), TableSchema.Column(name: "y", kind: .target),
            ], target: "y", task: .classification, classes: ["n", "y"], validation: 0.2, splitSeed: 1, trainingRows: 8, validationRows: 2,
            droppedRows: 0, classCounts: [4, 4])
        let spec = ModelSpec(inputs: 3, hidden: [2], outputs: 2, activation: .tanh, dropout: 0, task: .classification)
        let honest = try ModelFile(
            spec: spec, schema: schema, metrics: nil, sessionId: "s", parameters: [Float](repeating: 0.1, count: spec.parameterCount)
        ).encode()
        try cases(3_000) { generator in
            var bytes = honest
            for _ in 0...generator.next(below: 4) {
                let place = generator.next(below: bytes.count)
                switch generator.next(below: 4) {
                case 0: bytes[place] = UInt8(generator.next(below: 256))
                case 1: bytes[generator.next(below: 8)] = UInt8(generator.next(below: 256))
                case 2: bytes.removeSubrange(place..<min(bytes.count, place + generator.next(below: 9)))
                default: bytes.insert(contentsOf: Self.pieces[generator.next(below: Self.pieces.count)], at: place)
                }
                if bytes.isEmpty { bytes = [0] }
            }
            do {
                let file = try ModelFile.decode(bytes)
                _ = try Predictor(file).predict([[file.schema.columns.first { $0.featureCount > 0 }?.name ?? "a": "1"]], allowMissing: true)
            } catch let error as CohortError {
                #expect(!error.message.isEmpty)
            }
        }
    }
}
