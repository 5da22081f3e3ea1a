import CohortCore
import FoundationEssentials
import Subprocess
import SystemPackage
import Testing

@testable import CohortTraining
@testable import TorchEngine

private let root = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")

/// What comes out of Cohort predicts the same elsewhere.
@Suite(.enabled(if: torchPython != nil, "no Python with PyTorch and onnxruntime: `make torch` makes one")) struct ExportTests {
    private struct Row: Decodable {
        var label: String?
        var value: Double?
        var probabilities: [String: Double]?
    }

    /// Numbers with and without a value, a date or none, words of a fixed set, and words of which a hundred are known.
    private func table(rows: Int, task: LearningTask) -> String {
        var generator = SeededGenerator(seed: 4)
        var text = "size,kind,weight,place,stamp,y\n"
        for row in 0..<rows {
            let size = generator.nextFloat() * 1e6
            let kind = ["red", "green, dark", "blü", ""][row % 4]
            let weight = row % 9 == 0 ? "" : "\(generator.nextFloat() - 0.5)"
            // Some come often enough to be known, the others are the others.
            let place = row % 50 == 7 ? "NA" : "p\(generator.next(below: row % 3 == 0 ? 300 : 90))"
            let target = task == .classification ? "c\(row % 3)" : "\(size / 1e3 + Float(row % 4) * 100)"
            text += "\(size),\"\(kind)\",\(weight),\(place),\(1_000_000 + row % 7),\(target)\n"
        }
        return text
    }

    private func file(_ csv: String, task: LearningTask, activation: Activation, dropout: Double) throws -> ModelFile {
        var options = DataOptions()
        options.use = ["stamp"]
        let schema = try SchemaInference.infer(csvAt: csv, target: "y", task: task, validation: 0.2, seed: 1, options: options).schema
        let spec = ModelSpec(
            inputs: schema.featureCount, hidden: [16, 8], outputs: schema.outputCount, activation: activation, dropout: dropout, task: task)
        #expect(
            schema.columns.contains { $0.hasOther == true } && schema.columns.contains { $0.kind == .categorical && $0.hasOther != true })
        return ModelFile(
            spec: spec, schema: schema, metrics: nil, sessionId: nil, parameters: initialParameters(spec, seed: 6).map { $0 * 3 })
    }

    private func run(_ script: String, model: String, csv: String) async throws -> [Row] {
        let result = try await Subprocess.run(
            .path(FilePath(try #require(torchPython))), arguments: ["\(root)/Examples/python/\(script)", model, csv],
            output: .string(limit: 16 << 20), error: .string(limit: 1 << 20))
        #expect(result.terminationStatus.isSuccess, "\(result.standardError)")
        return try result.standardOutput.split(separator: "\n").map { try JSONDecoder().decode(Row.self, from: Data($0.utf8)) }
    }

    @Test(arguments: [
        (LearningTask.classification, Activation.relu, 0.0), (.classification, .tanh, 0.3), (.regression, .sigmoid, 0.0),
        (.regression, .relu, 0.2),
    ]) func `PyTorch and onnxruntime predict what Cohort predicts`(task: LearningTask, activation: Activation, dropout: Double) async throws
    {
        let folder = FileManager.default.temporaryDirectory.appending(path: "cohort-export-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        func path(_ name: String) -> String { folder.appending(path: name).path }
        try Data(table(rows: 2_000, task: task).utf8).write(to: URL(filePath: path("data.csv")))
        let file = try file(path("data.csv"), task: task, activation: activation, dropout: dropout)
        try Data(file.encode()).write(to: URL(filePath: path("model.safetensors")))
        try Data(ONNXModel.encode(file)).write(to: URL(filePath: path("model.onnx")))
        var expected: [Predictor.Prediction] = []
        try Predictor(file).predict(csvAt: path("data.csv"), options: .init(), begin: { _, _ in }) { prediction, _ in
            expected.append(prediction)
            return true
        }
        let target = try #require(file.schema.columns.first { $0.kind == .target })
        for (script, model) in [("load_in_pytorch.py", "model.safetensors"), ("predict_onnx.py", "model.onnx")] {
            let rows = try await run(script, model: path(model), csv: path("data.csv"))
            #expect(rows.count == 2_000 && expected.count == 2_000)
            for (index, (row, own)) in zip(rows, expected).enumerated() {
                switch task {
                case .classification:
                    let probabilities = try #require(row.probabilities)
                    #expect(probabilities.keys.sorted() == own.probabilities.keys.sorted())
                    let far = probabilities.filter { abs($0.value - own.probabilities[$0.key, default: 9]) > 1e-5 }
                    #expect(far.isEmpty, "\(script), row \(index): \(probabilities), \(own.probabilities)")
                    if model.hasSuffix("onnx") { #expect(row.label == own.label, "row \(index)") }
                case .regression:
                    let (value, own) = (try #require(row.value), try #require(own.value))
                    #expect(abs(value - own) <= 1e-5 * (target.std ?? 1), "\(script), row \(index): \(value), \(own)")
                }
            }
            #expect(Set(expected.map { "\($0.label ?? "")\(Int($0.value ?? 0))" }).count > 1, "they differ from row to row")
        }
    }

    @Test(.enabled(if: plugin != nil), arguments: [LearningTask.classification, .regression], [0.0, 0.2])
    func `TorchScript predicts what Cohort predicts`(task: LearningTask, dropout: Double) async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "cohort-export-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = folder.appending(path: "net.pt").path
        let spec = ModelSpec(
            inputs: 5, hidden: [7, 6], outputs: task == .classification ? 3 : 1, activation: .tanh, dropout: dropout, task: task)
        let weights = initialParameters(spec, seed: 8).map { $0 * 2 }
        try #require(plugin).saveTorchScript(spec, weights: weights, to: path)
        let code = """
            import json, sys, torch
            net = torch.jit.load(sys.argv[1])
            x = torch.arange(200, dtype=torch.float32).remainder(13).view(40, 5) / 6 - 1
            print(json.dumps({"names": [name for name, _ in net.named_parameters()], "outputs": net(x).flatten().tolist()}))
            """
        let result = try await Subprocess.run(
            .path(FilePath(try #require(torchPython))), arguments: ["-c", code, path], output: .string(limit: 1 << 20),
            error: .string(limit: 1 << 20))
        #expect(result.terminationStatus.isSuccess, "\(result.standardError)")
        struct Answer: Decodable {
            var names: [String]
            var outputs: [Float]
        }
        let answer = try JSONDecoder().decode(Answer.self, from: Data(result.standardOutput.utf8))
        #expect(answer.names == spec.tensors.map(\.name))
        let model = try NativeEngine(threads: 1).makeModel(spec)
        try model.load(parameters: weights)
        let expected = try model.predict((0..<200).map { Float($0 % 13) / 6 - 1 }, rowCount: 40)
        #expect(answer.outputs.count == expected.count && zip(answer.outputs, expected).allSatisfy { abs($0 - $1) < 1e-5 })
        #expect(throws: CohortError.self) { try plugin?.saveTorchScript(spec, weights: [1, 2], to: path) }
        #expect(throws: CohortError.self) { try plugin?.saveTorchScript(spec, weights: weights, to: "\(path)/nowhere/net.pt") }
    }

    @Test func `each part of a date is a separate input`() async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "cohort-export-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        func path(_ name: String) -> String { folder.appending(path: name).path }
        var text = "day,y\n"
        for row in 0..<300 { text += "20\(10 + row % 13)-\(10 + row % 3)-\(10 + row % 17),c\(row % 2)\n" }
        try Data(text.utf8).write(to: URL(filePath: path("data.csv")))
        let schema = try SchemaInference.infer(csvAt: path("data.csv"), target: "y", task: nil, validation: 0.2, seed: 1).schema
        let parts = try #require(schema.columns.first?.parts)
        #expect(parts.count >= 3)
        let spec = ModelSpec(inputs: schema.featureCount, hidden: [], outputs: 2, task: .classification)
        let file = ModelFile(spec: spec, schema: schema, metrics: nil, sessionId: nil, parameters: initialParameters(spec, seed: 6))
        try Data(ONNXModel.encode(file)).write(to: URL(filePath: path("model.onnx")))
        // Its parts as another program finds them.
        let known = try #require("2015-11-20".withBytes { CalendarDate($0, .ymd) })
        let header = parts.map { "day.\($0.part.rawValue)" }.joined(separator: ",")
        let values = parts.map { "\(known.part($0.part))" }.joined(separator: ",")
        try Data("\(header)\n\(values)\n\(String(repeating: ",", count: parts.count - 1))\n".utf8).write(
            to: URL(filePath: path("parts.csv")))
        let rows = try await run("predict_onnx.py", model: path("model.onnx"), csv: path("parts.csv"))
        let expected = try Predictor(file).predict([["day": "2015-11-20"], ["day": nil]])
        #expect(rows.count == (parts.count > 1 ? 2 : 1))
        for (row, own) in zip(rows, expected) {
            for (label, probability) in try #require(row.probabilities) {
                #expect(abs(probability - own.probabilities[label, default: 9]) < 1e-5)
            }
        }
    }
}
