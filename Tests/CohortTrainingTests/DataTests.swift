import CohortCore
import FoundationEssentials
import TestSupport
import Testing

@testable import CohortTraining

/// Writes `text`, runs `body` with its path, removes it.
private func withFile<Result>(_ bytes: [UInt8], _ body: (String) throws -> Result) throws -> Result {
    let path = "\(FileManager.default.temporaryDirectory.path)/cohort-training-\(newIdentifier())"
    try Data(bytes).write(to: URL(filePath: path))
    defer { try? FileManager.default.removeItem(atPath: path) }
    return try body(path)
}

private func infer(_ text: String, target: String? = nil, task: LearningTask? = nil, validation: Double = 0.2) throws
    -> SchemaInference.Finding
{
    try withFile([UInt8](text.utf8)) { try SchemaInference.infer(csvAt: $0, target: target, task: task, validation: validation, seed: 1) }
}

private func load(_ text: String, _ schema: TableSchema) throws -> FeatureTable {
    try withFile([UInt8](text.utf8)) { path in
        let cache = "\(path).table"
        defer { try? FileManager.default.removeItem(atPath: cache) }
        try TableLoader.build(csvAt: path, schema: schema, cacheAt: cache)
        return try TableLoader.open(cacheAt: cache)
    }
}

/// `count` rows under a header.
private func csv(_ count: Int, header: String = "a,b,y", _ row: (Int) -> String) -> String {
    header + "\n" + (0..<count).map(row).joined(separator: "\n") + "\n"
}

@Suite struct ReadingCSV {
    @Test(arguments: [
        ("a,b\n1,2\n", [["a", "b"], ["1", "2"]]), ("a,b\r\n1,2", [["a", "b"], ["1", "2"]]), ("a,b\r1,2\r", [["a", "b"], ["1", "2"]]),
        ("\u{FEFF}a,b\n\n1,\n", [["a", "b"], ["1", ""]]), ("a,b\n\"1,\"\"x\"\"\n2\",z\n", [["a", "b"], ["1,\"x\"\n2", "z"]]),
        ("a,b\n , \"q\"\n", [["a", "b"], ["", "\"q\""]]),
    ]) func `records follow RFC 4180`(text: String, expected: [[String]]) throws {
        var records: [[String]] = []
        try withFile([UInt8](text.utf8)) { path in
            try CSVReader(path: path, format: CSVFormat(delimiter: UInt8(ascii: ","))).forEach { record in
                records.append((0..<record.count).map(record.text))
                return true
            }
        }
        #expect(records == expected, "\(records)")
    }

    @Test(arguments: [
        ("", "empty"), ("a,b,y\n", "no rows"), ("a,b,y\n1,2,x\n1,2\n", "line 3: 2 fields where the header has 3"),
        ("a,a,y\n1,2,x\n", "named 'a'"), ("a,b,y\n1,\"2,x\n3,4,z\n", "line 2"), ("a,b,y\n1,2,x\n3,4,x\n", "one value 'x'"),
        ("y\nx\nz\n", "one column"), ("a,b,y\n1,\u{0},x\n", "byte"),
    ]) func `untrainable data is reported, with its place`(text: String, sentence: String) {
        let error = #expect(throws: CohortError.self) { try infer(text) }
        #expect(error?.code == .invalid && error?.message.contains(sentence) == true, "\(error?.message ?? "")")
    }

    @Test func `random damage is an error or a table, never a crash`() throws {
        let text = [UInt8](csv(60) { "\($0 % 7),\"v\($0 % 3)\",\($0 % 2 == 0 ? "p" : "q")" }.utf8)
        var generator = SeededGenerator(seed: 9)
        for _ in 0..<200 {
            var damaged = text
            for _ in 0..<3 { damaged[generator.next(below: damaged.count)] = UInt8(generator.next(below: 256)) }
            do {
                _ = try withFile(damaged) { try SchemaInference.infer(csvAt: $0, target: nil, task: nil, validation: 0.2, seed: 1) }
            } catch is CohortError {}
        }
    }
}

@Suite struct Schemas {
    @Test func `columns are inferred from their values, and the task from the target`() throws {
        let text = csv(100, header: "id,size,color,same,y") {
            "\($0),\($0 % 10 == 0 ? "NA" : "\($0 % 13).5"),\(["red", "green", "blue"][$0 % 3]),k,\(["no", "yes"][$0 % 2])"
        }
        let schema = try infer(text).schema
        #expect(schema.columns.map(\.kind) == [.ignored, .numeric, .categorical, .ignored, .target])
        #expect(schema.columns[1].missing == 10 && schema.columns[2].categories == ["blue", "green", "red"])
        #expect(schema.task == .classification && schema.classes == ["no", "yes"] && schema.featureCount == 4)
        #expect(try infer(csv(100) { "\($0 % 7),\($0 % 5),\(Double($0) * 1.37)" }).schema.task == .regression)
        #expect(try infer(csv(100) { "\($0 % 7),\($0 % 5),\($0 % 3)" }).schema.task == .classification)
        #expect(try infer(csv(100) { "\($0 % 7),\($0 % 5),\($0 % 3)" }, target: "a").schema.target == "a")
        let missing = #expect(throws: CohortError.self) { try infer(csv(9) { "\($0),1,x" }, target: "z") }
        #expect(missing?.message.contains("'z'") == true && missing?.message.contains("a, b, y") == true)
    }

    @Test func `statistics come from the training rows alone`() throws {
        let text = csv(200) { "\($0 * $0 % 101),\($0 % 5),\($0 % 2 == 0 ? "p" : "q")" }
        let schema = try infer(text).schema
        let table = try load(text, schema)
        let features = table.features
        let mean = table.trainingRows.reduce(Float(0)) { $0 + features[Int($1) * table.featureCount] } / Float(table.trainingRows.count)
        let all = (0..<table.rowCount).reduce(Float(0)) { $0 + features[$1 * table.featureCount] } / Float(table.rowCount)
        #expect(abs(mean) < 1e-5 && abs(all) > 1e-4, "\(mean), \(all)")
    }

    @Test func `the split is stratified, reproducible, and of the size asked for`() throws {
        let text = csv(1_000) { "\($0 % 7),\($0 % 5),\($0 % 10 == 0 ? "rare" : "common")" }
        let schema = try infer(text).schema
        let table = try load(text, schema)
        #expect(table.validationRows.count == 200 && schema.validationRows == 200)
        #expect(table.validationRows.count { table.target(of: Int($0)) == 1 } == 20, "a fifth of the rare class")
        #expect(try load(text, schema).validationRows == table.validationRows)
        #expect(Set(table.trainingRows).isDisjoint(with: table.validationRows))
        #expect(try infer(text, validation: 0).schema.validationRows == 0)
    }

    @Test func `a damaged table file is an error`() throws {
        let text = csv(50) { "\($0 % 7),\($0 % 5),\($0 % 2 == 0 ? "p" : "q")" }
        let schema = try infer(text).schema
        try withFile([UInt8](text.utf8)) { path in
            let cache = "\(path).table"
            defer { try? FileManager.default.removeItem(atPath: cache) }
            try TableLoader.build(csvAt: path, schema: schema, cacheAt: cache)
            let bytes = [UInt8](try Data(contentsOf: URL(filePath: cache)))
            for damage in [
                Array(bytes.dropLast()), Array(bytes.prefix(20)), [], bytes.enumerated().map { $0.offset == 9 ? ~$0.element : $0.element },
            ] {
                try Data(damage).write(to: URL(filePath: cache))
                #expect(throws: CohortError.self) { try TableLoader.open(cacheAt: cache) }
            }
        }
    }

    @Test func `a raw row becomes the features that its CSV row became`() throws {
        let text = csv(100, header: "size,color,y") { "\($0 % 13).5,\(["red", "green"][$0 % 2]),\($0 % 3 == 0 ? "p" : "q")" }
        let schema = try infer(text).schema
        let table = try load(text, schema)
        let transform = RowTransform(schema: schema)
        let row = try transform.features(of: ["size": "4.5", "color": "red"])
        #expect(row == (0..<3).map { table.features[4 * 3 + $0] })
        #expect(try transform.features(of: ["size": nil, "color": "purple"]) == [0, 0, 0])
        #expect(throws: CohortError.self) { try transform.features(of: ["size": "large"]) }
    }
}

@Suite struct ModelFiles {
    private func file() throws -> ModelFile {
        let schema = try infer(csv(100) { "\($0 % 7),\($0 % 5),\($0 % 2 == 0 ? "p" : "q")" }).schema
        let spec = ModelSpec(inputs: 2, hidden: [3], outputs: 2, task: .classification)
        return ModelFile(
            spec: spec, schema: schema, metrics: Metrics(loss: 0.5, accuracy: 0.9, samples: 20), sessionId: "s",
            parameters: initialParameters(spec, seed: 1))
    }

    @Test func `a model file comes back as it was written`() throws {
        let file = try file()
        #expect(try ModelFile.decode(file.encode()) == file)
    }

    @Test func `damage is an error or a model, never a crash`() throws {
        let bytes = try file().encode()
        var generator = SeededGenerator(seed: 2)
        for length in stride(from: 0, to: bytes.count, by: 37) {
            #expect(throws: CohortError.self, "cut at \(length)") { try ModelFile.decode(Array(bytes.prefix(length))) }
        }
        for _ in 0..<500 {
            var damaged = bytes
            damaged[generator.next(below: damaged.count)] = UInt8(generator.next(below: 256))
            do { _ = try ModelFile.decode(damaged) } catch is CohortError {}
        }
    }

    @Test(arguments: [
        (#""inputs":2"#, #""inputs":9223372036854775807"#), (#""hidden":[3]"#, #""hidden":[16777216,16777216]"#),
        (#""dropout":0"#, #""dropout":1e308"#), (#""validation":0.2"#, #""validation":1e300"#),
        (#""training_rows":80"#, #""training_rows":9223372036854775807"#),
        (#""class_counts":[40,40]"#, #""class_counts":[9223372036854775807,1]"#), (#""delimiter":",""#, #""delimiter":"€""#),
    ]) func `impossible numbers are reported`(honest: String, lie: String) throws {
        let file = try file()
        let bytes = try file.encode()
        var header = try Safetensors(header: bytes[..<Safetensors.headerBytes(bytes, limit: 1 << 20)])
        for (name, text) in header.metadata {
            header.metadata[name] = text.split(separator: honest, omittingEmptySubsequences: false).joined(separator: lie)
        }
        #expect(header.metadata.values.contains { $0.contains(lie) }, "the file says \(header.metadata)")
        let lying = try Safetensors.encode(header.tensors, file.parameters, metadata: header.metadata)
        #expect(throws: CohortError.self) { try ModelFile.decode(lying) }
    }

    @Test func `wrong lengths and offsets are reported, and a file of another size is not read`() throws {
        let honest = try file().encode()
        for length in [UInt64(1) << 63, .max, 1 << 40, 0, 1] {
            let bytes = withUnsafeBytes(of: length.littleEndian) { Array($0) } + honest.dropFirst(8)
            #expect(throws: CohortError.self) { try ModelFile.decode(bytes) }
        }
        for (json, sentence) in [
            (#"{"0.weight":{"dtype":"F32","shape":[9223372036854775807,2],"data_offsets":[0,8]}}"#, "impossible shape"),
            (#"{"0.weight":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#, "offsets"),
            (#"{"0.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,9223372036854775807]}}"#, "offsets"),
            (#"{"0.weight":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#, "impossible shape"),
            (#"{"0.weight":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#, "must be F32"), (#"[]"#, "header"),
        ] {
            let length = withUnsafeBytes(of: UInt64(json.utf8.count).littleEndian) { Array($0) }
            let bytes = length + Array(json.utf8) + [UInt8](repeating: 0, count: 8)
            let error = #expect(throws: CohortError.self) { try ModelFile.decode(bytes) }
            #expect(error?.message.contains(sentence) == true, "\(error?.message ?? "")")
        }
        for size in [honest.count - 1, honest.count + 1] {
            let error = #expect(throws: CohortError.self) { try withFile(Array((honest + [0]).prefix(size))) { try ModelFile.read($0) } }
            #expect(error?.message.contains("\(size) bytes where its header says \(honest.count)") == true, "\(error?.message ?? "")")
        }
        #expect(try withFile(honest) { try ModelFile.read($0) } == file())
    }

    @Test func `a header longer than its tensors can need is refused by its length, unread`() throws {
        func start(_ length: UInt64) -> [UInt8] { withUnsafeBytes(of: length.littleEndian) { Array($0) } + [0x7b] }
        let spec = ModelSpec(inputs: 2, hidden: [3], outputs: 2, task: .classification)
        var stream = WeightsStream(WeightsLayout(spec))
        let long = #expect(throws: CohortError.self) { try stream.feed(start(10 << 20)) { _ in } }
        #expect(long?.message == "the .safetensors header has 10485760 bytes; it must have at most 67536", "\(long?.message ?? "")")
        let module = #expect(throws: CohortError.self) { _ = try ModuleFile.about(start: start(90 << 20), fileBytes: 100 << 20) }
        #expect(module?.message.contains("the .safetensors header has 94371840 bytes") == true)
        // Shapes whose bytes are more than a number can count.
        var header = Safetensors.Header()
        var offset = 0
        for name in ["a", "b", "c"] {
            let size = (1 << 39) * 4
            header.entries[name] = .init(dtype: "F32", shape: [1 << 39], dataOffsets: [offset, offset + size])
            offset += size
        }
        let bytes = try Safetensors.header(header)
        #expect(try Safetensors(header: bytes[...]).tensors.count == 3, "large, but a file can have them")
    }

    @Test func `a header with any bytes and numbers changed is an error or a model that predicts`() throws {
        let honest = try file().encode()
        let header = try Safetensors.headerBytes(honest, limit: 1 << 20)
        let texts = ["0", "-1", "1e308", "9223372036854775807", "18446744073709551616", "null", "[]", "\"\"", "0.5"]
        let numbers = texts.map { Array($0.utf8) }
        var generator = SeededGenerator(seed: 3)
        var models = 0
        for _ in 0..<10_000 {
            var json = Array(honest[8..<header])
            for _ in 0...generator.next(below: 3) {
                let place = generator.next(below: json.count)
                switch generator.next(below: 4) {
                case 0: json[place] = UInt8(generator.next(below: 256))
                case 1: json.removeSubrange(place..<min(json.count, place + 1 + generator.next(below: 8)))
                default:
                    // A number, wherever one stands next.
                    guard let start = json[place...].firstIndex(where: { $0 &- 0x30 < 10 }) else { continue }
                    let end = json[start...].firstIndex { $0 &- 0x30 >= 10 } ?? json.endIndex
                    json.replaceSubrange(start..<end, with: numbers[generator.next(below: numbers.count)])
                }
            }
            let bytes = withUnsafeBytes(of: UInt64(json.count).littleEndian) { Array($0) } + json + honest[header...]
            do {
                let file = try ModelFile.decode(bytes)
                _ = try Predictor(file).predict([["a": "1"]], allowMissing: true)
                models += 1
            } catch is CohortError {}
        }
        #expect(models > 100, "\(models)")
    }

    @Test func `weights stream in pieces of any size, and another model's are refused`() throws {
        let spec = ModelSpec(inputs: 4, hidden: [3], outputs: 2, task: .classification)
        let parameters = initialParameters(spec, seed: 3)
        let bytes = try Weights.encode(spec, parameters)
        for size in [1, 3, 7, 64, bytes.count] {
            var stream = WeightsStream(WeightsLayout(spec))
            var found: [Float] = []
            for start in stride(from: 0, to: bytes.count, by: size) {
                try stream.feed(Array(bytes[start..<min(start + size, bytes.count)])) { found += $0 }
            }
            try stream.finish()
            #expect(found == parameters)
        }
        let other = ModelSpec(inputs: 5, hidden: [3], outputs: 2, task: .classification)
        let error = #expect(throws: CohortError.self) { try Weights.decode(bytes, spec: other) }
        #expect(error?.message.contains("'0.weight' of shape [3, 4]") == true, "\(error?.message ?? "")")
        #expect(throws: CohortError.self) { try Weights.decode(Array(bytes.dropLast(4)), spec: spec) }
        #expect(throws: CohortError.self) { try Weights.decode(bytes + [0, 0, 0, 0], spec: spec) }
    }

    @Test func `names and shapes are those of PyTorch's Sequential`() {
        let spec = ModelSpec(inputs: 4, hidden: [8, 6], outputs: 3, dropout: 0.5, task: .classification)
        #expect(spec.tensors.map(\.name) == ["0.weight", "0.bias", "3.weight", "3.bias", "6.weight", "6.bias"])
        #expect(spec.tensors.map(\.shape) == [[8, 4], [8], [6, 8], [6], [3, 6], [3]])
    }
}

@Suite struct ValidationSamples {
    /// The same rows, features and targets as in the whole table that a peer makes.
    @Test(arguments: [1, 7, 50, 1_000]) func `held-out rows in memory are those of the table, all or an even choice`(maxRows: Int)
        async throws
    {
        let text = csv(400) { "\($0),\($0 * 13 % 17),\(["red", "green", "blue"][$0 % 3])" }
        try await withFolder { folder in
            let path = "\(folder)/data.csv"
            try Data(text.utf8).write(to: URL(filePath: path))
            let finding = try SchemaInference.infer(csvAt: path, target: "y", task: nil, validation: 0.2, seed: 9)
            let (schema, plan) = (finding.schema, RecordPlan(finding.schema, finding.values))
            try TableLoader.build(csvAt: path, schema: schema, cacheAt: "\(path).table")
            let table = try TableLoader.open(cacheAt: "\(path).table")
            let packer = try TablePacker(csvAt: path, schema: schema, plan: plan, seed: 4, folder: folder)
            let parts = packer.parts
            let manifest = TableManifest(
                task: schema.task, outputs: schema.outputCount, layout: plan.layout, parts: parts, partSha256: [], dictionary: Data(),
                dictionarySha256: "")
            let sample = try #require(
                try await ValidationSample.load(manifest, dictionary: plan.dictionary, maxRows: maxRows) { try packer.part($0) })
            #expect(sample.total == table.validationRows.count && sample.positions.count == min(maxRows, sample.total))
            #expect(sample.positions == sample.positions.sorted() && sample.isWhole == (maxRows >= sample.total))
            for (row, position) in sample.positions.enumerated() {
                let original = Int(table.validationRows[position])
                #expect(sample.table.target(of: row) == table.target(of: original))
                #expect(sample.table.features(of: row..<(row + 1)) == table.features(of: original..<(original + 1)))
            }
            let half = sample.rows(in: RowRange(start: 0, end: sample.total / 2))
            #expect(half.allSatisfy { sample.positions[Int($0)] < sample.total / 2 })
        }
    }
}
