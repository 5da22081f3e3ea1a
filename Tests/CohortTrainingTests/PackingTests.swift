import CKernels
import CohortCore
import FoundationEssentials
import TestSupport
import Testing

@testable import CohortTraining

/// A CSV's rows packed, and as the table that training reads without packing.
private struct Packed {
    let schema: TableSchema
    let plan: RecordPlan
    let parts: TableParts
    let records: [UInt8]
    let dense: FeatureTable

    init(
        _ text: String, seed: UInt64 = 3, task: LearningTask? = nil, options: DataOptions = DataOptions(), threads: Int? = nil,
        mostInMemory: Int = 1 << 20
    ) throws {
        let folder = "\(FileManager.default.temporaryDirectory.path)/cohort-packing-\(newIdentifier())"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let path = "\(folder)/data.csv"
        try Data(text.utf8).write(to: URL(filePath: path))
        let finding = try SchemaInference.infer(csvAt: path, target: "y", task: task, validation: 0.25, seed: seed, options: options)
        schema = finding.schema
        plan = RecordPlan(finding.schema, finding.values)
        let packer = try TablePacker(
            csvAt: path, schema: schema, plan: plan, seed: seed, folder: folder, threads: threads, mostInMemory: mostInMemory)
        parts = packer.parts
        records = try (0..<parts.count).flatMap { try packer.part($0) }
        try TableLoader.build(csvAt: path, schema: schema, cacheAt: "\(path).table", threads: 1)
        dense = try TableLoader.open(cacheAt: "\(path).table")
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == ["data.csv", "data.csv.table"])
    }

    var table: FeatureTable { packedTable(records, plan, parts) }

    /// The rows of ``dense`` in the order of the packed ones.
    func order(seed: UInt64 = 3) -> [UInt32] {
        dealt(dense.trainingRows, seed: seed) + dense.validationRows
    }

    func encoding(_ name: String) -> RecordLayout.Encoding? { plan.layout.columns.first { $0.name == name }?.encoding }
}

private func packedTable(_ records: [UInt8], _ plan: RecordPlan, _ parts: TableParts) -> FeatureTable {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: records.count, alignment: 1)
    records.withUnsafeBytes { memory.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
    nonisolated(unsafe) let owned = memory
    return FeatureTable(
        .packed(PackedRows(base: memory, layout: plan.layout, dictionary: plan.dictionary)), rowCount: parts.rows,
        featureCount: plan.layout.featureCount, trainingRows: (0..<UInt32(parts.trainingRows)).map { $0 },
        validationRows: (UInt32(parts.trainingRows)..<UInt32(parts.rows)).map { $0 }, release: { owned.deallocate() })
}

/// A column of each kind: pixels, flags, floats, many whole numbers, categories with others, dates, missing values.
private func everyKind(_ rows: Int, towns: Int = 130, target: (Int) -> String = { "c\($0 % 3)" }) -> String {
    var generator = SeededGenerator(seed: 5, purpose: "test")
    var text = "pixel,flag,float,many,city,day,holes,y\n"
    for row in 0..<rows {
        let float = generator.nextFloat() * 1e4 - 77
        let city = row % 11 == 0 ? "" : "town \(generator.next(below: towns))"
        let day = row % 13 == 0 ? "" : "20\(10 + row % 9)-0\(1 + row % 9)-\(10 + generator.next(below: 18))"
        let holes = row % 5 == 0 ? "NA" : "\(generator.next(below: 9)).5"
        text += "\(generator.next(below: 256)),\(row % 2),\(float),\(generator.next(below: 2_000)),\(city),\(day),\(holes),\(target(row))\n"
    }
    return text
}

@Suite struct PackingRows {
    private static let penguins = #filePath.split(separator: "/").dropLast(3).reduce("") { "\($0)/\($1)" } + "/Examples"

    @Test(arguments: [LearningTask.classification, .regression]) func `features come out bit for bit, in the session's order`(
        task: LearningTask
    ) throws {
        let packed = try Packed(
            everyKind(3_000) { task == .classification ? "c\($0 % 3)" : "\(Double($0) * 1.25)" }, task: task, threads: 2)
        let order = packed.order()
        let table = packed.table
        #expect(table.rowCount == packed.dense.rowCount && table.featureCount == packed.dense.featureCount)
        for (place, row) in order.enumerated() {
            let expected = packed.dense.features(of: Int(row)..<(Int(row) + 1)).map(\.bitPattern)
            let found = table.features(of: place..<(place + 1)).map(\.bitPattern)
            guard found == expected, table.target(of: place).bitPattern == packed.dense.target(of: Int(row)).bitPattern else {
                Issue.record("row \(place) differs: \(found) is not \(expected)")
                return
            }
        }
        #expect(packed.encoding("pixel") == .u8 && packed.encoding("flag") == .u8 && packed.encoding("city") == .u8)
        #expect(packed.encoding("float") == .f32 && packed.encoding("many") == .f32 && packed.encoding("holes") == .u8)
        #expect(packed.encoding("day") == .u16 || packed.encoding("day") == .u8)
        try packed.plan.layout.check(dictionary: packed.plan.dictionary.count, task: task, outputs: packed.schema.outputCount)
        try packed.records.withUnsafeBytes { try packed.plan.layout.check(records: $0, outputs: packed.schema.outputCount) }
    }

    @Test(arguments: ["penguins.csv", "cars.csv", "titanic.csv"]) func `sample data come out bit for bit`(name: String) throws {
        let target = ["penguins.csv": "species", "cars.csv": "miles_per_gallon", "titanic.csv": "survived"][name] ?? ""
        var lines = try String(contentsOfFile: "\(Self.penguins)/\(name)", encoding: .utf8).split(separator: "\n").map(String.init)
        lines[0] = lines[0].split(separator: ",").map { $0 == target ? "y" : String($0) }.joined(separator: ",")
        let packed = try Packed(lines.joined(separator: "\n") + "\n")
        let order = packed.order()
        let (features, all) = (packed.table.features, packed.dense.features)
        let width = packed.dense.featureCount
        for (place, row) in order.enumerated() {
            #expect(features[(place * width)..<((place + 1) * width)] == all[(Int(row) * width)..<((Int(row) + 1) * width)])
        }
        #expect(packed.plan.layout.recordBytes * packed.parts.rows + packed.plan.dictionary.count * 4 < packed.dense.byteCount / 2)
    }

    @Test func `memory, a file and any number of threads give the same bytes`() throws {
        let text = everyKind(5_000)
        let expected = try Packed(text, threads: 1)
        for threads in [1, 3] {
            let found = try Packed(text, threads: threads, mostInMemory: 0)
            #expect(found.records == expected.records && found.plan.layout == expected.plan.layout)
            #expect(found.plan.dictionary.map(\.bitPattern) == expected.plan.dictionary.map(\.bitPattern))
        }
    }

    @Test func `a large table has many parts, which hold its rows in order`() throws {
        let text = "a,b,y\n" + (0..<120_000).map { "\($0).25,\($0 % 7),\(Double($0) * 0.5)" }.joined(separator: "\n") + "\n"
        let (file, memory) = (
            try Packed(text, task: .regression, mostInMemory: 0), try Packed(text, task: .regression, mostInMemory: 1 << 30)
        )
        #expect(file.parts.count > 1 && file.records == memory.records)
        #expect(
            file.parts.parts(of: 0..<1) == 0..<1
                && file.parts.parts(of: (file.parts.rowsPerPart - 1)..<(file.parts.rowsPerPart + 1)) == 0..<2)
        #expect(file.parts.parts(of: 5..<5).isEmpty && file.parts.rows(of: file.parts.count - 1).upperBound == file.parts.rows)
    }

    @Test func `a constant takes no bytes, and a thousand classes two`() throws {
        var options = DataOptions()
        options.keepsConstant = true
        let packed = try Packed("a,b,y\n" + (0..<2_000).map { "7,\($0 % 5),c\($0 % 400)" }.joined(separator: "\n"), options: options)
        #expect(packed.encoding("a") == .constant && packed.plan.layout.target == .u16 && packed.plan.layout.recordBytes == 3)
        #expect(packed.table.features(of: 0..<packed.parts.rows).count == 2 * packed.parts.rows)
        #expect(Set(packed.table.targets).count == 400)
    }

    @Test func `columns of more different numbers than two bytes have stay numbers`() throws {
        let text = "a,b,y\n" + (0..<70_000).map { "\($0 * 7 % 70_001),\($0 % 60_000),\($0 % 2)" }.joined(separator: "\n")
        let packed = try Packed(text)
        // 60,000 vectors of 4 bytes cost more than they save in 70,000 rows.
        #expect(packed.encoding("a") == .f32 && packed.encoding("b") == .f32)
    }
}

@Suite struct DistinctNumbersTests {
    /// The different numbers of a column that holds `values`.
    private func distinct(_ values: [Double], columns: Int = 1) -> [Double]? {
        let numbers = DistinctNumbers(columns: columns)
        guard let table = numbers.pointer(0) else { return nil }
        for (seen, value) in values.enumerated() {
            DistinctNumbers.makeRoom(in: &table.pointee, seen: seen)
            if table.pointee.slots != nil { cohort_distinct_add(table, value) }
        }
        return numbers[0]
    }

    @Test func `each number is there once, whatever its sign and size`() {
        let values = [0, -0.0, 255, 256, -1, 1, 0.5, .greatestFiniteMagnitude, -.leastNonzeroMagnitude, 3e9]
        let found = distinct(values + values.reversed() + values)
        #expect(found.map { Set($0.map(\.bitPattern)) } == Set(values.map(\.bitPattern)) && found?.count == values.count)
    }

    @Test func `as many as two bytes count are kept, and no more`() {
        func numbers(_ count: Int) -> [Double] { (0..<3).flatMap { _ in (0..<count).map { Double($0) + 0.5 } } }
        // The first time over, all are new: so every number comes thrice before the next.
        let most = DistinctNumbers.most
        func thrice(_ count: Int) -> [Double] { (0..<count).flatMap { [Double](repeating: Double($0) + 0.5, count: 3) } }
        #expect(distinct(thrice(most))?.count == most && distinct(thrice(most + 1)) == nil)
        #expect(distinct(numbers(100_000)) == nil, "numbers that hardly repeat are given up early")
        #expect(distinct([1, 2, 3], columns: 100_000) == nil, "so many columns would take too much memory")
    }
}

@Suite struct TrainingOnPackedRows {
    @Test(arguments: [1, 2, 3]) func `losses and weights are those of dense rows, bit for bit`(threads: Int) throws {
        // With more towns, the first layer's product is one over codes: see CodedLayerTests.
        let packed = try Packed(everyKind(2_000, towns: 6))
        let order = packed.order()
        let spec = ModelSpec(
            inputs: packed.dense.featureCount, hidden: [512, 16], outputs: packed.schema.outputCount, activation: .relu, dropout: 0.1,
            task: packed.schema.task)
        let options = TrainingOptions(optimizer: OptimizerSpec(), batchSize: 128, learningRate: 0.01, dropoutSeed: 4)
        func train(_ table: FeatureTable, _ training: [UInt32], _ heldOut: [UInt32]) throws -> (counts: [Counts], weights: [Float]) {
            let model = try NativeEngine(threads: threads).makeModel(spec)
            try model.load(parameters: initialParameters(spec, seed: 2), keepsOptimizer: false)
            let counts = try (0..<2).map { _ in try model.train(on: table, rows: training, options: options) { true } }
            return (try counts + [model.evaluate(on: table, rows: heldOut[...]) { true }], try model.parameters())
        }
        let (training, heldOut) = (Array(order.prefix(packed.parts.trainingRows)), Array(order.dropFirst(packed.parts.trainingRows)))
        let expected = try train(packed.dense, training, heldOut)
        let table = packed.table
        let found = try train(table, table.trainingRows, table.validationRows)
        #expect(found.counts == expected.counts)
        let isSame = found.weights.map(\.bitPattern) == expected.weights.map(\.bitPattern)
        #expect(isSame)
    }
}

@Suite struct DamagedRecords {
    @Test func `a code outside its table, a number that is not finite and half a record are refused`() throws {
        let packed = try Packed(everyKind(500))
        let layout = packed.plan.layout
        let outputs = packed.schema.outputCount
        func check(_ records: [UInt8]) throws { try records.withUnsafeBytes { try layout.check(records: $0, outputs: outputs) } }
        func expect(_ records: [UInt8], _ words: String) {
            let error = #expect(throws: CohortError.self) { try check(records) }
            #expect(error?.code == .invalid && error?.message.contains(words) == true, "\(error?.message ?? "")")
        }
        func damaged(_ offset: Int, _ bytes: [UInt8]) -> [UInt8] {
            var records = packed.records
            records.replaceSubrange((7 * layout.recordBytes + offset)..<(7 * layout.recordBytes + offset + bytes.count), with: bytes)
            return records
        }
        try check(packed.records)
        expect(Array(packed.records.dropLast()), "not whole records")
        expect(damaged(layout.targetOffset, [3]), "row 7 of the part: 'the target' has the code 3, there are 3")
        let flag = try #require(layout.columns.first { $0.name == "flag" })
        expect(damaged(flag.offset, [2]), "'flag' has the code 2, there are 2")
        let float = try #require(layout.columns.first { $0.name == "float" })
        expect(damaged(float.offset, [0, 0, 0x80, 0x7f]), "'float' has a number that is not finite")
    }

    @Test func `a damaged layout is refused or read within its bounds`() throws {
        let packed = try Packed(everyKind(300))
        let good = packed.plan.layout
        let floats = packed.plan.dictionary.count
        var generator = SeededGenerator(seed: 9, purpose: "fuzz")
        var (refused, read) = (0, 0)
        for _ in 0..<5_000 {
            var layout = good
            let column = generator.next(below: layout.columns.count)
            let wild = [-1, 0, 1, 2, 255, 256, 65_536, Int.max, Int.min, Int.max / 4, layout.recordBytes, floats][generator.next(below: 12)]
            switch generator.next(below: 9) {
            case 0: layout.recordBytes = wild
            case 1: layout.targetOffset = wild
            case 2: layout.columns[column].offset = wild
            case 3: layout.columns[column].features = wild
            case 4: layout.columns[column].vectors?.start = wild
            case 5: layout.columns[column].vectors?.count = wild
            case 6: layout.columns[column].encoding = [.constant, .f32, .u8, .u16][generator.next(below: 4)]
            case 7: layout.columns[column].vectors = nil
            default: layout.target = [.constant, .f32, .u8, .u16][generator.next(below: 4)]
            }
            do {
                try layout.check(dictionary: floats, task: .classification, outputs: 3)
                try packed.records.withUnsafeBytes { try layout.check(records: $0, outputs: 3) }
                // What passes is read, by both readers.
                let rows = packed.records.count / layout.recordBytes
                let plan = (layout, packed.plan.dictionary)
                try packed.records.withUnsafeBytes { bytes in
                    let packedRows = PackedRows(base: try #require(bytes.baseAddress), layout: plan.0, dictionary: plan.1)
                    var features = [Float](repeating: 0, count: layout.featureCount)
                    for row in 0..<min(rows, 20) {
                        features.withUnsafeMutableBufferPointer { packedRows.expand(row, into: $0.baseAddress!) }
                    }
                    var target: Float = 0
                    features.withUnsafeMutableBufferPointer { features in
                        [UInt32(0)].withUnsafeBufferPointer {
                            PackedGather(packedRows).gather(
                                $0, into: features.baseAddress!, targets: &target, threads: KernelThreads(count: 1))
                        }
                    }
                }
                read += 1
            } catch let error as CohortError {
                #expect(error.code == .invalid)
                refused += 1
            }
        }
        #expect(refused > 1_000 && read > 100, "\(refused) refused, \(read) read")
    }
}
