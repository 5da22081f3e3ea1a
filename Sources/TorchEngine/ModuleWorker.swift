import CSandbox
import CTorch
import CohortCore
import CohortSystem

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// The process that runs a module: it has one socket, and cuts itself off from the rest.
public enum ModuleWorker {
    /// The first argument of such a process.
    public static let command = "module-worker"

    /// The whole life of the process. Called before it has a second thread: the walls are around the threads that come after them.
    /// - Parameter arguments: the newest version of Landlock to use, then the folders and files that libraries are loaded from.
    public static func run(_ arguments: [String]) -> Never {
        let strings = arguments.dropFirst().map { strdup($0) }
        let landlock = arguments.first.flatMap { Int32($0) } ?? .max
        let walls = Walls(rawValue: cohort_sandbox_enter(strings.map { UnsafePointer($0) }, strings.count, landlock))
        let socket = ModuleSocket(COHORT_SANDBOX_SOCKET)
        var worker = Worker(socket: socket, walls: walls)
        do {
            try worker.serve()
        } catch {
            // The other side is gone, or nothing can be told to it.
        }
        _exit(0)
    }
}

private struct Worker {
    let socket: ModuleSocket
    let walls: Walls
    private var plugin: TorchPlugin?
    private var engine: TorchEngine?
    private var precision = TorchEngine.Precision.float32
    private var model: TorchModel?
    private var table: (any PreparedTable)?
    private var isShutIn = false

    init(socket: ModuleSocket, walls: Walls) {
        self.socket = socket
        self.walls = walls
    }

    mutating func serve() throws {
        // Who asks may be killed while a module computes.
        watchingThread { cohort_sandbox_end_with_peer(COHORT_SANDBOX_SOCKET) }
        while true {
            var file: Int32 = -1
            var bytes = Bytes()
            let request = try socket.receive(ModuleRequest.self, file: &file) { _, count in
                bytes = Bytes(count: count)
                return bytes.buffer
            }
            do {
                try carryOut(request, bytes, file: file)
            } catch let error as ModuleSocket.Ended {
                throw error
            } catch {
                let fault = error as? CohortError ?? CohortError(.internal, "\(error)")
                try socket.send(
                    ModuleAnswer(fault: .init(code: fault.code, message: fault.message)), kind: ModuleSocket.answer)
            }
        }
    }

    private mutating func carryOut(_ request: ModuleRequest, _ bytes: Bytes, file: Int32) throws {
        // A mapping holds without it.
        defer { if file >= 0 { close(file) } }
        switch request {
        case .open(let path, let device, let threads, let name):
            let plugin = try TorchPlugin(path: path)
            precision = TorchEngine.Precision(rawValue: name) ?? .float32
            engine = try TorchEngine(plugin: plugin, device: device, threads: threads, precision: precision)
            self.plugin = plugin
            try answer(ModuleAnswer(walls: walls.rawValue))
        case .describe(let inputs, let shape, let outputs, let task):
            try shutIn()
            let known = try opened.plugin.describe(
                module: bytes.array(UInt8.self), inputs: inputs, shape: shape, outputs: outputs, task: task)
            try known.weights.withUnsafeBytes { try answer(ModuleAnswer(tensors: known.tensors, trained: known.trained), [$0]) }
        case .make(let spec):
            try shutIn()
            model = nil
            model = try opened.engine.ownModel(spec, module: bytes.array(UInt8.self))
            try answer(ModuleAnswer())
        case .table(let rows, let features, let size, let featuresStart, let targetsStart):
            guard let memory = mmap(nil, size, PROT_READ, MAP_SHARED, file, 0), memory != MAP_FAILED else {
                throw CohortError(.internal, "the table could not be mapped: \(String(cString: strerror(errno)))")
            }
            nonisolated(unsafe) let mapped = memory  // Read only; unmapped once, with the table.
            table = try opened.engine.prepare(
                FeatureTable(
                    .dense(
                        features: UnsafePointer((memory + featuresStart).assumingMemoryBound(to: Float.self)),
                        targets: UnsafePointer((memory + targetsStart).assumingMemoryBound(to: Float.self))), rowCount: rows,
                    featureCount: features, trainingRows: [], validationRows: [], release: { munmap(mapped, size) }))
            try answer(ModuleAnswer(notes: opened.engine.notes))
        case .parameters:
            try loaded.parameters().withUnsafeBytes { try answer(ModuleAnswer(), [$0]) }
        case .load(let keepsOptimizer):
            try loaded.load(parameters: bytes.array(Float.self), keepsOptimizer: keepsOptimizer)
            try answer(ModuleAnswer())
        case .optimizerState:
            let state = try loaded.optimizerState()
            let streams = state.optimizer.streamNames.flatMap { state.streams[$0] ?? [] }
            try streams.withUnsafeBytes { try answer(ModuleAnswer(steps: state.steps, optimizer: state.optimizer), [$0]) }
        case .restore(let optimizer, let steps):
            let (names, values) = (optimizer.streamNames, bytes.array(Float.self))
            let length = values.count / max(1, names.count)
            try loaded.load(
                optimizerState: OptimizerState(
                    optimizer: optimizer, steps: steps,
                    streams: Dictionary(
                        uniqueKeysWithValues: names.enumerated().map { ($1, Array(values[($0 * length)..<(($0 + 1) * length)])) })))
            try answer(ModuleAnswer())
        case .correct:
            let correction = bytes.array(Float.self)
            try loaded.load(correction: correction.isEmpty ? nil : correction)
            try answer(ModuleAnswer())
        case .train(let options):
            let counts = try pass { try loaded.train(on: prepared, rows: bytes.array(UInt32.self), options: options, shouldContinue: $0) }
            try counts.words.withUnsafeBytes { try answer(ModuleAnswer(notes: opened.engine.notes), [$0]) }
        case .evaluate:
            let counts = try pass { try loaded.evaluate(on: prepared, rows: bytes.array(UInt32.self)[...], shouldContinue: $0) }
            try counts.words.withUnsafeBytes { try answer(ModuleAnswer(), [$0]) }
        case .predict(let rowCount):
            try loaded.predict(bytes.array(Float.self), rowCount: rowCount).withUnsafeBytes { try answer(ModuleAnswer(), [$0]) }
        case .saved:
            let file = try loaded.saved()
            try file.withUnsafeBytes { try answer(ModuleAnswer(fileBytes: file.count), [$0]) }
        case .attempt(let folder, let victim):
            try shutIn()
            try answer(ModuleAnswer(walls: walls.rawValue, succeeded: Attempts(folder: folder, victim: victim).succeeded()))
        }
    }

    private func answer(_ answer: ModuleAnswer, _ bytes: [UnsafeRawBufferPointer] = []) throws {
        try socket.send(answer, bytes, kind: ModuleSocket.answer)
    }

    /// Libraries are loaded: what follows computes, and nothing else. A GPU's libraries are loaded when they are needed.
    private mutating func shutIn() throws {
        guard !isShutIn, walls.contains(.calls), try opened.engine.device.hasPrefix("cpu") else { return }
        try opened.plugin.api.read_once()
        let fault = cohort_sandbox_compute_alone()
        guard fault == 0 else {
            throw CohortError(.forbidden, "the sandbox of a module could not be closed: \(String(cString: strerror(fault)))")
        }
        isShutIn = true
    }

    private func pass(_ work: (() -> Bool) throws -> Counts) throws -> Counts {
        var isGone = false
        let counts = try work {
            do {
                try socket.send(byte: ModuleSocket.question)
                return try socket.receiveByte() == 1
            } catch {
                isGone = true
                return false
            }
        }
        guard !isGone else { throw ModuleSocket.Ended() }
        return counts
    }

    private var opened: (plugin: TorchPlugin, engine: TorchEngine) {
        get throws {
            guard let plugin, let engine else { throw CohortError(.internal, "the plugin is not open") }
            return (plugin, engine)
        }
    }

    private var loaded: TorchModel {
        get throws {
            guard let model else { throw CohortError(.internal, "there is no module yet") }
            return model
        }
    }

    private var prepared: any PreparedTable {
        get throws {
            guard let table else { throw CohortError(.internal, "there is no table yet") }
            return table
        }
    }
}

/// Memory for what follows a request.
private final class Bytes {
    let buffer: UnsafeMutableRawBufferPointer

    init(count: Int = 0) { buffer = .allocate(byteCount: count, alignment: 64) }

    deinit { buffer.deallocate() }

    func array<Element: BitwiseCopyable>(_ type: Element.Type) -> [Element] {
        Array(buffer.bindMemory(to: Element.self))
    }
}
