import ArgumentParser
import CohortCore
import CohortTraining
import FoundationEssentials
import TorchEngine

struct EngineList: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "engines", abstract: "List what this machine can train with.",
        discussion: "`cohort peer --engine NAME --device DEVICE` takes one; without them, PyTorch on a GPU where there is one, else native."
    )

    @Flag(help: "Measure each: samples a second of a small net.")
    var measure = false
    @Flag(help: "Print JSON, for scripts: docs/cli.md has its shape.")
    var json = false

    struct Row: Encodable {
        var engine: String
        var device: String
        var isAvailable: Bool
        /// The description, or the reason why it is not available.
        var about: String
        var samplesPerSecond: Double?
    }

    func run() async throws {
        let settings = try await Settings(file: nil)
        for warning in settings.warnings { Terminal.printError(warning, prefix: "warning: ") }
        let engines = try Engines(settings: settings)
        let threads = max(1, ProcessInfo.processInfo.activeProcessorCount)
        var rows = [try row(NativeEngine(threads: threads), BLAS.description ?? "without BLAS: large nets train more slowly")]
        do {
            let plugin = try engines.openPlugin()
            let cpu = try TorchEngine(plugin: plugin, device: "cpu", threads: threads, precision: engines.precision)
            rows.append(try row(cpu, "PyTorch \(plugin.version), \(plugin.path)"))
            for gpu in plugin.gpus {
                let engine = try TorchEngine(plugin: plugin, device: "cuda:\(gpu.index)", threads: threads, precision: engines.precision)
                rows.append(try row(engine, "\(gpu.name), \(Figure.bytes(gpu.bytes))"))
            }
            if plugin.gpus.isEmpty { rows.append(Row(engine: "torch", device: "cuda", isAvailable: false, about: plugin.gpuNote)) }
        } catch let error as CohortError {
            rows.append(Row(engine: "torch", device: "cpu, cuda", isAvailable: false, about: error.message))
        }
        if json { return try Terminal.print(json: rows) }
        var table = TextTable(header: ["engine", "device"] + (measure ? ["samples/s"] : []) + ["about"])
        for row in rows {
            let speed = measure ? [row.samplesPerSecond.map { Figure.whole(Int(min($0, 1e15))) } ?? "-"] : []
            table.rows.append([row.engine, row.device] + speed + [(row.isAvailable ? "" : "not available: ") + row.about])
        }
        Terminal.printLine(table.text(width: .max, dropping: []))
    }

    private func row(_ engine: some TrainingEngine, _ about: String) throws -> Row {
        Row(
            engine: engine.name, device: engine.device, isAvailable: true, about: about,
            samplesPerSecond: measure ? try engine.measureSamplesPerSecond(for: 0.3) : nil)
    }
}
