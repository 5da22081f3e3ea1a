import CohortCore
import FoundationEssentials

@testable import TorchEngine

/// The plugin that `make torch` built; nil where there is no PyTorch. COHORT_TEST_REQUIRE_TORCH=1, in CI, lets that fail.
let plugin: TorchPlugin? = {
    guard let path = pluginPath else { return nil }
    return try? TorchPlugin(path: path)
}()

let pluginPath: String? = {
    let here = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
    let path = ProcessInfo.processInfo.environment["COHORT_TORCH_PLUGIN"] ?? "/\(here)/.build/torch/libcohort-torch.so"
    return FileManager.default.fileExists(atPath: path) ? path : nil
}()

/// Rows around one center a class, or of a linear rule with noise.
func makeTable(rows: Int, features: Int, classes: Int, task: LearningTask) -> FeatureTable {
    var generator = SeededGenerator(seed: 3)
    var (matrix, targets): ([Float], [Float]) = ([], [])
    for _ in 0..<rows {
        let label = generator.next(below: classes)
        var sum: Float = 0
        for column in 0..<features {
            let noise = generator.nextFloat() * 2 - 1
            let value = task == .classification ? (column % classes == label ? 1 : -0.3) + noise * 1.5 : noise
            matrix.append(value)
            sum += value * Float(column % 3 - 1)
        }
        targets.append(task == .classification ? Float(label) : sum / 2 + (generator.nextFloat() - 0.5) * 0.2)
    }
    return FeatureTable(features: matrix, targets: targets, featureCount: features)
}

/// A Python with PyTorch, safetensors and onnxruntime: the one that `make torch` makes, or COHORT_TEST_TORCH_PYTHON.
let torchPython: String? = {
    let here = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
    let path = ProcessInfo.processInfo.environment["COHORT_TEST_TORCH_PYTHON"] ?? "/\(here)/.build-tools/torch/bin/python"
    return FileManager.default.isExecutableFile(atPath: path) ? path : nil
}()

/// The `cohort` that was built with the tests; COHORT_BINARY names another.
let cohortBinary: String =
    ProcessInfo.processInfo.environment["COHORT_BINARY"]
    ?? "\(CommandLine.arguments[0].split(separator: "/").dropLast().reduce("") { "\($0)/\($1)" })/cohort"
