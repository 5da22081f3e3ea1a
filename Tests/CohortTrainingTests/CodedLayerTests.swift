import CohortCore
import FoundationEssentials
import TestSupport
import Testing

@testable import CohortTraining

/// The first layer's product over codes of categories.
@Suite struct CodedLayerTests {
    /// The same rows packed and as floats.
    private struct Tables {
        let packed: FeatureTable
        let dense: FeatureTable
        let schema: TableSchema

        init(_ text: String, in folder: String) throws {
            let path = "\(folder)/data.csv"
            try Data(text.utf8).write(to: URL(filePath: path))
            let finding = try SchemaInference.infer(csvAt: path, target: "y", task: nil, validation: 0.2, seed: 2)
            schema = finding.schema
            let plan = RecordPlan(schema, finding.values)
            let packer = try TablePacker(csvAt: path, schema: schema, plan: plan, seed: 2, folder: folder)
            let manifest = TableManifest(
                task: schema.task, outputs: schema.outputCount, layout: plan.layout, parts: packer.parts, partSha256: [],
                dictionary: Data(), dictionarySha256: "")
            let local = try LocalTable(manifest, sha256: "s", dictionary: plan.dictionary, path: "\(folder)/rows")
            try local.add(try (0..<packer.parts.count).flatMap(packer.part), at: RowRange(start: 0, end: packer.parts.rows))
            packed = local.table
            dense = try local.expanded(in: folder)
        }

        func model(hidden: [Int] = [96, 8], threads: Int = 1, dropout: Double = 0) throws -> SimpleDNN {
            var spec = ModelSpec(inputs: packed.featureCount, hidden: hidden, outputs: schema.outputCount, task: schema.task)
            spec.dropout = dropout
            let model = try SimpleDNN(spec, threads: threads)
            try model.load(parameters: initialParameters(spec, seed: 4), keepsOptimizer: false)
            return model
        }
    }

    /// Categories of many words, some of them missing and some rare; numbers among them where `isMixed`.
    private static func text(rows: Int, isMixed: Bool, target: (Int) -> String) -> String {
        let header = isMixed ? "a,n,b,c,d,y\n" : "a,b,c,d,y\n"
        return header
            + (0..<rows).map { row in
                let words = [("a", 37), ("b", 41), ("c", 29), ("d", 50)].map { name, count in
                    row % 61 == 3 ? "" : "\(name)\(row * 7919 % (count * 13) % count)"
                }
                let number = isMixed ? ["\(Double(row % 23) * 0.37 - 2)"] : []
                return ([words[0]] + number + words[1...] + [target(row)]).joined(separator: ",") + "\n"
            }.joined()
    }

    private static func difference(_ a: [Float], _ b: [Float]) -> Float {
        let norm = b.reduce(0) { $0 + $1 * $1 }.squareRoot()
        return zip(a, b).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }.squareRoot() / max(norm, 1e-20)
    }

    @Test(arguments: [true, false], [LearningTask.classification, .regression])
    func `the first step's gradients are the dense product's`(isMixed: Bool, task: LearningTask) async throws {
        try await withFolder { folder in
            let text = Self.text(rows: 4_000, isMixed: isMixed) {
                task == .classification ? "c\($0 * 31 % 5)" : "\(Double($0 * 31 % 97) * 1.7)"
            }
            let tables = try Tables(text, in: folder)
            // A step of SGD with a rate of 1 is the gradient.
            let options = TrainingOptions(
                optimizer: OptimizerSpec(name: .sgd), batchSize: 256, learningRate: 1, dropoutSeed: 1)
            let rows = Array(tables.packed.trainingRows.prefix(256))
            let (coded, plain) = (try tables.model(), try tables.model())
            let start = coded.parameters()
            let (a, b) = (
                try coded.train(on: tables.packed, rows: rows, options: options) { true },
                try plain.train(on: tables.dense, rows: rows, options: options) { true }
            )
            #expect(coded.coded != nil && plain.coded == nil)
            #expect(abs(a.lossSum - b.lossSum) <= 1e-6 * abs(b.lossSum) && a.correct == b.correct)
            let steps = [coded, plain].map { model in zip(model.parameters(), start).map { $0 - $1 } }
            #expect(Self.difference(steps[0], steps[1]) < 1e-6, "\(Self.difference(steps[0], steps[1]))")
            #expect(coded.coded == nil, "weights are given as PyTorch has them")
        }
    }

    /// Every part of a step that holds numbers of the first layer: moments, decay, clipping, the pull, the correction, dropout.
    @Test func `rounds go on as on floats, whatever the step is made of`() async throws {
        try await withFolder { folder in
            let tables = try Tables(Self.text(rows: 2_000, isMixed: true) { "c\($0 * 31 % 5)" }, in: folder)
            var recipes: [TrainingOptions] = []
            for name in OptimizerName.allCases {
                var spec = OptimizerSpec(name: name, momentum: name == .sgd ? 0.9 : 0)
                (spec.weightDecay, spec.gradientClip) = (0.01, 1.5)
                var options = TrainingOptions(optimizer: spec, batchSize: 64, learningRate: name == .sgd ? 0.05 : 0.002, dropoutSeed: 3)
                options.proximalMu = 0.1
                recipes.append(options)
            }
            for options in recipes {
                let (coded, plain) = (try tables.model(dropout: 0.2), try tables.model(dropout: 0.2))
                let correction = (0..<coded.count).map { Float($0 % 7) * 1e-4 }
                for _ in 0..<2 {
                    for (model, table) in [(coded, tables.packed), (plain, tables.dense)] {
                        try model.load(parameters: model.parameters(), keepsOptimizer: true)
                        try model.load(correction: correction)
                        _ = try model.train(on: table, rows: Array(table.trainingRows.prefix(640)), options: options) { true }
                        let state = model.optimizerState()
                        try model.load(optimizerState: state)
                        #expect(model.optimizerState() == state)
                    }
                    #expect(Self.difference(coded.parameters(), plain.parameters()) < 1e-4)
                    let (one, other) = (coded.optimizerState(), plain.optimizerState())
                    for name in one.optimizer.streamNames {
                        #expect(Self.difference(one.streams[name] ?? [], other.streams[name] ?? [0]) < 1e-3, "\(name)")
                    }
                }
                let held = tables.packed.validationRows[...]
                let (a, b) = (
                    try coded.evaluate(on: tables.packed, rows: held) { true }, try plain.evaluate(on: tables.dense, rows: held) { true }
                )
                #expect(abs(a.lossSum - b.lossSum) < 1e-3 * b.lossSum)
                let features = tables.dense.features(of: 0..<10)
                #expect(Self.difference(try coded.predict(features, rowCount: 10), try plain.predict(features, rowCount: 10)) < 1e-4)
            }
        }
    }

    @Test func `the bits do not depend on the number of threads`() async throws {
        try await withFolder { folder in
            let tables = try Tables(Self.text(rows: 3_000, isMixed: true) { "c\($0 * 31 % 5)" }, in: folder)
            let options = TrainingOptions(optimizer: OptimizerSpec(name: .adam), batchSize: 256, learningRate: 0.01, dropoutSeed: 1)
            let trained = try [1, 2, 3].map { threads in
                let model = try tables.model(hidden: [512], threads: threads)
                _ = try model.train(on: tables.packed, rows: tables.packed.trainingRows, options: options) { true }
                #expect(model.coded != nil)
                return model.parameters().map(\.bitPattern)
            }
            #expect(trained[0] == trained[1] && trained[0] == trained[2])
        }
    }

    /// Few categories, as the penguins have them: the dense product, and its bits.
    @Test func `few categories are multiplied as before`() async throws {
        try await withFolder { folder in
            let text = "a,b,y\n" + (0..<200).map { "\(["x", "y", "z"][$0 % 3]),\(Double($0) * 0.3),c\($0 % 2)\n" }.joined()
            let tables = try Tables(text, in: folder)
            #expect(CodedLayer(tables.packed) == nil && CodedLayer(tables.dense) == nil)
        }
    }
}
