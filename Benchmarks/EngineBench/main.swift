import CKernels
import CohortCore
import CohortTraining
import FoundationEssentials
import Glibc
import TorchEngine

// Times training steps of the native engine, or of the torch engine with its plugin, and the machine's own large sgemm. One JSON object a line on standard output:
// {"net": "4-16-3", "batch": 16, "threads": 1, "microseconds": 1.9, "gigaflops": 9.5}
//
//     EngineBench THREADS NET:BATCH…        such as 784-256-128-10:64
//     EngineBench THREADS:PLUGIN NET:BATCH…  the torch engine, on the first GPU if there is one
//     EngineBench THREADS sgemm
//     EngineBench THREADS epochs=COUNT:NET:BATCH   trains COUNT epochs of 50 steps, and says nothing: to count its allocations
//     EngineBench THREADS table=FILE:TARGET        makes a table of a CSV: {"table": FILE, "threads": 1, "megabytes_a_second": 310.1, …}
//     EngineBench THREADS pack=FILE:TARGET         the same rows, packed and not: making them, and an epoch on them

struct Usage: Error {}

/// Rows in memory, uniform numbers and random classes.
func makeTable(rows: Int, features: Int, classes: Int) -> FeatureTable {
    var generator = SeededGenerator(seed: 1)
    let matrix = UnsafeMutablePointer<Float>.allocate(capacity: rows * features)
    let targets = UnsafeMutablePointer<Float>.allocate(capacity: rows)
    for index in 0..<(rows * features) { matrix[index] = generator.nextFloat() }
    for row in 0..<rows { targets[row] = Float(generator.next(below: classes)) }
    // Lives as long as the process.
    return FeatureTable(
        .dense(features: matrix, targets: targets), rowCount: rows, featureCount: features, trainingRows: (0..<UInt32(rows)).map { $0 },
        validationRows: [], release: {})
}

func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

/// Microseconds a step: Adam 1e-3, softmax cross-entropy, shuffled every epoch; the median of nine runs of at least 0.1 s.
func step(widths: [Int], batch: Int, engine: any TrainingEngine) throws -> Double {
    guard let inputs = widths.first, let outputs = widths.last, widths.count > 1 else { throw Usage() }
    let spec = ModelSpec(inputs: inputs, hidden: Array(widths[1..<(widths.count - 1)]), outputs: outputs, task: .classification)
    let steps = 50
    let table = makeTable(rows: steps * batch, features: inputs, classes: outputs)
    let model = try engine.makeModel(spec)
    try model.load(parameters: initialParameters(spec, seed: 1))
    let prepared = try engine.prepare(table)
    let options = TrainingOptions(batchSize: batch)
    var epoch = 0
    func train() throws {
        epoch += 1
        var order = EpochOrder(table.trainingRows, of: table, batchSize: batch, seed: 1, round: 0, epoch: epoch)
        guard let rows = order.next() else { return }
        _ = try model.train(on: prepared, rows: rows, options: options, shouldContinue: { true })
    }
    try train()
    let clock = ContinuousClock()
    return median(
        try (0..<9).map { _ in
            var done = 0
            let begun = clock.now
            repeat {
                try train()
                done += steps
            } while clock.now - begun < .milliseconds(100)
            return (clock.now - begun) / .microseconds(1) / Double(done)
        })
}

/// GFLOP/s of a product of square matrices of 1,024.
func sgemm() -> Double {
    let n = 1_024
    let buffers = (0..<3).map { _ in
        let buffer = UnsafeMutablePointer<Float>.allocate(capacity: n * n)
        buffer.initialize(repeating: 0.5, count: n * n)
        return buffer
    }
    let clock = ContinuousClock()
    let seconds = (0..<12).map { _ in
        let begun = clock.now
        cohort_blas_sgemm(nil, 0, 0, n, n, n, buffers[0], n, buffers[1], n, buffers[2])
        return (clock.now - begun) / .seconds(1)
    }
    return 2 * Double(n * n * n) / median(Array(seconds.dropFirst(2))) / 1e9
}

func net(_ text: Substring) throws -> [Int] {
    try text.split(separator: "-").map { part in
        guard let width = Int(part), width > 0 else { throw Usage() }
        return width
    }
}

func trainEpochs(_ count: Int, widths: [Int], batch: Int, engine: any TrainingEngine) throws {
    let spec = ModelSpec(
        inputs: widths[0], hidden: Array(widths[1..<(widths.count - 1)]), outputs: widths[widths.count - 1], task: .classification)
    let table = makeTable(rows: 50 * batch, features: widths[0], classes: spec.outputs)
    let model = try engine.makeModel(spec)
    try model.load(parameters: initialParameters(spec, seed: 1))
    let options = TrainingOptions(batchSize: batch)
    for epoch in 0..<count {
        var order = EpochOrder(table.trainingRows, of: table, batchSize: batch, seed: 1, round: 0, epoch: epoch)
        while let rows = order.next() {
            _ = try model.train(on: table, rows: rows, options: options, shouldContinue: { true })
        }
    }
}

func size(of path: String) -> Int {
    var about = stat()
    return stat(path, &about) == 0 ? Int(about.st_size) : 0
}

/// The median of five, after an inspection of the file, which a peer does not need.
func makeTable(csv: String, target: String, threads: Int) throws {
    let schema = try SchemaInference.infer(csvAt: csv, target: target, task: nil, validation: 0.2, seed: 0).schema
    let cache = "\(csv).\(newIdentifier()).table"
    defer { try? FileManager.default.removeItem(atPath: cache) }
    let clock = ContinuousClock()
    let seconds = try (0..<5).map { _ in
        let begun = clock.now
        try TableLoader.build(csvAt: csv, schema: schema, cacheAt: cache, threads: threads)
        return (clock.now - begun) / .seconds(1)
    }
    let bytes = size(of: csv)
    let matrix = schema.featureCount * (schema.trainingRows + schema.validationRows) * 4
    print(
        #"{"table": "\#(csv)", "threads": \#(threads), "megabytes_a_second": \#(Double(bytes) / 1e6 / median(seconds)), "seconds": \#(median(seconds)), "matrix_bytes": \#(matrix)}"#
    )
}

/// Looking at a file, making its rows as floats and packed, and an epoch of INPUTS-128-OUTPUTS in batches of 64 on either, by turns; medians of three, in
/// seconds.
func pack(csv: String, target: String, threads: Int) throws {
    let clock = ContinuousClock()
    var seconds: [String: [Double]] = [:]
    func time<Value>(_ name: String, _ body: () throws -> Value) rethrows -> Value {
        let begun = clock.now
        let value = try body()
        seconds[name, default: []].append((clock.now - begun) / .seconds(1))
        return value
    }
    let folder = "\(FileManager.default.temporaryDirectory.path)/cohort-pack-\(newIdentifier())"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let cache = "\(folder)/rows.table"
    var sizes = (dense: 0, packed: 0)
    for _ in 0..<3 {
        let found = try time("look") {
            try SchemaInference.infer(csvAt: csv, target: target, task: nil, validation: 0.2, seed: 0, threads: threads)
        }
        let schema = found.schema
        try time("dense") { try TableLoader.build(csvAt: csv, schema: schema, cacheAt: cache, threads: threads) }
        let (plan, parts, records) = try time("pack") {
            let plan = RecordPlan(schema, found.values)
            let packer = try TablePacker(csvAt: csv, schema: schema, plan: plan, seed: 0, folder: folder, threads: threads)
            var records: [UInt8] = []
            records.reserveCapacity(packer.parts.bytes)
            for part in 0..<packer.parts.count { records += try packer.part(part) }
            return (plan, packer.parts, records)
        }
        let dense = try TableLoader.open(cacheAt: cache)
        sizes = (dense.byteCount, records.count + plan.dictionary.count * 4)
        try records.withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress else { return }
            let packed = FeatureTable(
                .packed(PackedRows(base: base, layout: plan.layout, dictionary: plan.dictionary)), rowCount: parts.rows,
                featureCount: plan.layout.featureCount, trainingRows: (0..<UInt32(parts.trainingRows)).map { $0 }, validationRows: [],
                release: {})
            let spec = ModelSpec(inputs: schema.featureCount, hidden: [128], outputs: schema.outputCount, task: schema.task)
            for (name, table) in [("epoch_dense", dense), ("epoch_packed", packed)] {
                let model = try NativeEngine(threads: threads).makeModel(spec)
                try model.load(parameters: initialParameters(spec, seed: 1))
                let options = TrainingOptions(batchSize: 64)
                _ = try model.train(on: table, rows: table.trainingRows.prefix(6_400).shuffled(), options: options) { true }
                let rows = table.trainingRows.shuffled()
                try time(name) { _ = try model.train(on: table, rows: rows, options: options) { true } }
            }
        }
    }
    let bytes = size(of: csv)
    let times = seconds.sorted { $0.key < $1.key }.map { #""\#($0.key)": \#(median($0.value))"# }.joined(separator: ", ")
    let preparation = median(seconds["look"] ?? [0]) + median(seconds["pack"] ?? [0])
    print(
        #"{"pack": "\#(csv)", "threads": \#(threads), \#(times), "dense_bytes": \#(sizes.dense), "packed_bytes": \#(sizes.packed), "megabytes_a_second": \#(Double(bytes) / 1e6 / preparation)}"#
    )
}

let arguments = CommandLine.arguments.dropFirst()
let words = arguments.first?.split(separator: ":", maxSplits: 1) ?? []
guard let threads = words.first.flatMap({ Int($0) }), arguments.count > 1 else {
    print("EngineBench THREADS[:PLUGIN] NET:BATCH… | sgemm")
    throw Usage()
}
func makeEngine() throws -> any TrainingEngine {
    guard words.count > 1 else { return NativeEngine(threads: threads) }
    let plugin = try TorchPlugin(path: String(words[1]))
    return try TorchEngine(plugin: plugin, device: plugin.gpus.isEmpty ? "cpu" : "cuda:0", threads: threads)
}
let engine = try makeEngine()
for argument in arguments.dropFirst() {
    if argument == "sgemm", BLAS.description != nil {
        print(#"{"net": "sgemm", "batch": 1024, "threads": \#(threads), "gigaflops": \#(sgemm())}"#)
        continue
    }
    if let words = argument.wholeMatch(of: /table=(.+):(.+)/)?.output {
        try makeTable(csv: String(words.1), target: String(words.2), threads: threads)
        continue
    }
    if let words = argument.wholeMatch(of: /pack=(.+):(.+)/)?.output {
        try pack(csv: String(words.1), target: String(words.2), threads: threads)
        continue
    }
    if let words = argument.wholeMatch(of: /epochs=([0-9]+):(.+):([0-9]+)/)?.output {
        guard let count = Int(words.1), let batch = Int(words.3), batch > 0 else { throw Usage() }
        try trainEpochs(count, widths: net(words.2), batch: batch, engine: engine)
        continue
    }
    let parts = argument.split(separator: ":")
    guard parts.count == 2, let batch = Int(parts[1]), batch > 0 else { throw Usage() }
    let widths = try net(parts[0])
    let microseconds = try step(widths: widths, batch: batch, engine: engine)
    // Forward, and backward for the weights; backward for the inputs of all layers but the first.
    let products = zip(widths, widths.dropFirst()).map { $0 * $1 }
    let operations = 2 * batch * (3 * products.reduce(0, +) - products[0])
    print(
        #"{"net": "\#(parts[0])", "batch": \#(batch), "threads": \#(threads), "microseconds": \#(microseconds), "gigaflops": \#(Double(operations) / microseconds / 1_000)}"#
    )
}
