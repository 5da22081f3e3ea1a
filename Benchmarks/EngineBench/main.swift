import CKernels
import CohortCore
import CohortTraining
import FoundationEssentials
import TorchEngine

// Times training steps of the native engine, or of the torch engine with its plugin, and the machine's own large sgemm. One JSON object a line on standard output:
// {"net": "4-16-3", "batch": 16, "threads": 1, "microseconds": 1.9, "gigaflops": 9.5}
//
//     EngineBench THREADS NET:BATCH…        such as 784-256-128-10:64
//     EngineBench THREADS:PLUGIN NET:BATCH…  the torch engine, on the first GPU if there is one
//     EngineBench THREADS sgemm
//     EngineBench THREADS epochs=COUNT:NET:BATCH   trains COUNT epochs of 50 steps, and says nothing: to count its allocations
//     EngineBench THREADS table=FILE:TARGET        makes a table of a CSV: {"table": FILE, "threads": 1, "megabytes_a_second": 310.1, …}

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
        features: matrix, targets: targets, rowCount: rows, featureCount: features, trainingRows: (0..<UInt32(rows)).map { $0 },
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
    let bytes = try FileManager.default.attributesOfItem(atPath: csv)[.size] as? Int ?? 0
    let matrix = schema.featureCount * (schema.trainingRows + schema.validationRows) * 4
    print(
        #"{"table": "\#(csv)", "threads": \#(threads), "megabytes_a_second": \#(Double(bytes) / 1e6 / median(seconds)), "seconds": \#(median(seconds)), "matrix_bytes": \#(matrix)}"#
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
