import CSandbox
public import CohortCore

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// A module, which another process trains.
final class RemoteModule: TrainableModel {
    let spec: ModelSpec
    let process: ModuleProcess
    private let seen: Seen
    private let count: Int
    private var table: FeatureTable?

    init(
        _ spec: ModelSpec, module: [UInt8], _ host: ModuleHost, plugin: String, device: String, threads: Int,
        precision: TorchEngine.Precision, seen: Seen
    ) throws {
        try spec.check()
        process = try ModuleProcess(host, plugin: plugin, device: device, threads: threads, precision: precision)
        self.spec = spec
        self.seen = seen
        count = spec.parameterCount
        for note in process.notes { seen.add(note) }
        try module.withUnsafeBytes { _ = try process.call(.make(spec), [$0], seconds: ModuleProcess.loading) }
    }

    var isUsable: Bool { !process.isGone }
    var interrupt: @Sendable () -> Void { process.interrupt }

    func parameters() throws -> [Float] { try floats(count, by: .parameters) }

    func load(parameters: [Float], keepsOptimizer: Bool) throws {
        process.forgetInterrupts()
        try parameters.withUnsafeBytes { _ = try process.call(.load(keepsOptimizer: keepsOptimizer), [$0]) }
    }

    func optimizerState() throws -> OptimizerState {
        var memory = UnsafeMutableBufferPointer<Float>(start: nil, count: 0)
        defer { memory.deallocate() }
        let answer = try process.call(
            .optimizerState,
            room: { [count] answer in
                memory = .allocate(capacity: (answer.optimizer?.streamNames.count ?? 0) * count)
                return UnsafeMutableRawBufferPointer(memory)
            })
        guard let optimizer = answer.optimizer, let steps = answer.steps else {
            throw CohortError(.internal, "the module's process gave no optimizer")
        }
        let streams = optimizer.streamNames.enumerated().map { ($1, Array(memory[($0 * count)..<(($0 + 1) * count)])) }
        return OptimizerState(optimizer: optimizer, steps: steps, streams: Dictionary(uniqueKeysWithValues: streams))
    }

    func load(optimizerState state: OptimizerState) throws {
        try state.check(parameterCount: count)
        let streams = state.optimizer.streamNames.flatMap { state.streams[$0] ?? [] }
        try streams.withUnsafeBytes { _ = try process.call(.restore(state.optimizer, steps: state.steps), [$0]) }
    }

    func load(correction: [Float]?) throws {
        if let correction, correction.count != count {
            throw CohortError(.invalid, "a correction of \(correction.count) numbers was given; the module has \(count) parameters")
        }
        try (correction ?? []).withUnsafeBytes { _ = try process.call(.correct, [$0]) }
    }

    private func floats(_ count: Int, by request: ModuleRequest, sending bytes: [UnsafeRawBufferPointer] = []) throws -> [Float] {
        try [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
            try process.call(request, bytes, room: { _ in UnsafeMutableRawBufferPointer(buffer) })
            initialized = count
        }
    }

    func train(on table: any PreparedTable, rows: [UInt32], options: TrainingOptions, shouldContinue: () -> Bool) throws -> Counts {
        try options.check(for: spec)
        try share(table.table)
        return try rows.withUnsafeBytes { try pass(.train(options), over: $0, shouldContinue) }
    }

    func evaluate(on table: any PreparedTable, rows: ArraySlice<UInt32>, shouldContinue: () -> Bool) throws -> Counts {
        try share(table.table)
        return try rows.withUnsafeBytes { try pass(.evaluate, over: $0, shouldContinue) }
    }

    private func pass(_ request: ModuleRequest, over rows: UnsafeRawBufferPointer, _ shouldContinue: () -> Bool) throws -> Counts {
        var words = [UInt64](repeating: 0, count: 5)
        let answer = try words.withUnsafeMutableBytes { words in
            try process.call(request, [rows], room: { _ in words }, shouldContinue: shouldContinue)
        }
        for note in (answer.notes ?? []).prefix(8) { seen.add(note.printable(max: 300)) }
        return try Counts(words: words, limit: rows.count / 4)
    }

    func predict(_ features: [Float], rowCount: Int) throws -> [Float] {
        guard features.count == rowCount * spec.inputs else {
            throw CohortError(.invalid, "\(features.count) features were given for \(rowCount) rows of \(spec.inputs)")
        }
        return try features.withUnsafeBytes { try floats(rowCount * spec.outputs, by: .predict(rowCount: rowCount), sending: [$0]) }
    }

    /// The module's file with its weights, as `torch.jit.load` takes it.
    func saved() throws -> [UInt8] {
        var memory = UnsafeMutableBufferPointer<UInt8>(start: nil, count: 0)
        defer { memory.deallocate() }
        try process.call(
            .saved,
            room: { [count] answer in
                let bytes = answer.fileBytes ?? 0
                guard 0...(count * 8 + 1 << 30) ~= bytes else { throw CohortError(.invalid, "the module's file has \(bytes) bytes") }
                memory = .allocate(capacity: bytes)
                return UnsafeMutableRawBufferPointer(memory)
            })
        return Array(memory)
    }

    /// The other process maps the same memory, to read.
    private func share(_ table: FeatureTable) throws {
        guard self.table !== table else { return }
        guard table.featureCount == spec.inputs else {
            throw CohortError(.invalid, "the table has \(table.featureCount) features, the module takes \(spec.inputs)")
        }
        self.table = nil
        if let file = table.file {
            try send(table, file)
        } else {
            // One that is only in this process's memory is small, as tests and examples have them.
            let dense = table.dense()
            guard case .dense(let allFeatures, let allTargets) = dense.rows else { throw CohortError(.internal, "the table is not dense") }
            let (features, targets) = (table.rowCount * table.featureCount * 4, table.rowCount * 4)
            let memory = cohort_sandbox_memory(features + targets)
            guard memory >= 0, let copy = mmap(nil, features + targets, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0), copy != MAP_FAILED
            else { throw CohortError(.unavailable, "no memory for a table that a module's process can read") }
            defer {
                munmap(copy, features + targets)
                close(memory)
            }
            copy.copyMemory(from: allFeatures, byteCount: features)
            (copy + features).copyMemory(from: allTargets, byteCount: targets)
            try send(
                table, FeatureTable.File(descriptor: memory, bytes: features + targets, featuresStart: 0, targetsStart: features))
        }
        self.table = table
    }

    private func send(_ table: FeatureTable, _ file: FeatureTable.File) throws {
        let answer = try process.call(
            .table(
                rows: table.rowCount, features: table.featureCount, bytes: file.bytes, featuresStart: file.featuresStart,
                targetsStart: file.targetsStart), file: file.descriptor)
        for note in (answer.notes ?? []).prefix(8) { seen.add(note.printable(max: 300)) }
    }
}

extension TorchPlugin {
    /// A module as a file for `torch.jit.load`, with other weights than it was saved with. It is loaded in a separate process.
    /// - Parameter weights: flat, in the order of ``ModelSpec/tensors``.
    public func torchScript(_ spec: ModelSpec, module: [UInt8], weights: [Float], in host: ModuleHost) throws -> [UInt8] {
        let model = try RemoteModule(
            spec, module: module, host, plugin: path, device: "cpu", threads: 1, precision: .float32, seen: Seen())
        try model.load(parameters: weights)
        return try model.saved()
    }

    /// Inspects a module: its tensors, and the weights that it was saved with, in their order. It is tried on one row of zeros, in a separate
    /// process.
    /// - Parameter shape: of one row's features as it takes them; empty: [inputs].
    /// - Throws: ``CohortError`` `invalid` for a file that is no module, one that has nothing to train, and one that does not take such
    ///   rows or give so many outputs.
    public func describe(
        module bytes: [UInt8], inputs: Int, shape: [Int], outputs: Int, task: LearningTask, in host: ModuleHost
    ) throws -> (tensors: [TensorSpec], trained: Int?, weights: [Float]) {
        let process = try ModuleProcess(host, plugin: path, device: "cpu", threads: 1, precision: .float32)
        var memory = UnsafeMutableBufferPointer<Float>(start: nil, count: 0)
        defer { memory.deallocate() }
        let answer = try bytes.withUnsafeBytes { bytes in
            try process.call(
                .describe(inputs: inputs, shape: shape, outputs: outputs, task: task), [bytes],
                room: { answer in
                    let module = ModuleSpec(
                        sha256: String(repeating: "0", count: 64), inputShape: shape, tensors: answer.tensors ?? [], trained: answer.trained
                    )
                    let spec = ModelSpec(inputs: inputs, hidden: [], outputs: outputs, task: task, module: module)
                    try spec.check()
                    memory = .allocate(capacity: spec.parameterCount)
                    return UnsafeMutableRawBufferPointer(memory)
                }, seconds: ModuleProcess.loading)
        }
        return (answer.tensors ?? [], answer.trained, Array(memory))
    }
}
