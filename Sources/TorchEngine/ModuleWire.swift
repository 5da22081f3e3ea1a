import CSandbox
import CohortCore

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// A request to the process that runs a module. Weights, rows and the like follow as bytes, in this machine's order.
enum ModuleRequest: Codable {
    /// Opens the plugin. First.
    case open(plugin: String, device: String, threads: Int, precision: String)
    /// Follows: the module's file. It is tried, and its weights are the answer's bytes.
    case describe(inputs: Int, shape: [Int], outputs: Int, task: LearningTask)
    /// Follows: the module's file.
    case make(ModelSpec)
    /// A table, sent as an open file.
    case table(rows: Int, features: Int, bytes: Int, featuresStart: Int, targetsStart: Int)
    case parameters
    /// Follows: weights.
    case load(keepsOptimizer: Bool)
    case optimizerState
    /// Follows: the optimizer's streams, one behind the other.
    case restore(OptimizerSpec, steps: Int)
    /// Follows: what each step subtracts, times the learning rate; nothing: none does.
    case correct
    /// Follows: rows, 32 bits each.
    case train(TrainingOptions)
    /// Follows: rows, 32 bits each.
    case evaluate
    /// Follows: features.
    case predict(rowCount: Int)
    /// The module's file with its weights comes back.
    case saved
    /// Tries what a module's code must not be able to do.
    case attempt(folder: String, victim: Int32)
}

/// The answer of the process.
struct ModuleAnswer: Codable {
    struct Fault: Codable {
        var code: CohortError.Code
        var message: String
    }

    var fault: Fault?
    var tensors: [TensorSpec]?
    /// The number of `tensors` that are trained.
    var trained: Int?
    var steps: Int?
    var optimizer: OptimizerSpec?
    /// ``Walls``.
    var walls: UInt32?
    /// The notes so far.
    var notes: [String]?
    /// The number of bytes of a file that follow.
    var fileBytes: Int?
    /// The attempts that succeeded.
    var succeeded: [String]?
}

/// The isolation of a process.
struct Walls: OptionSet {
    let rawValue: UInt32

    static let files = Walls(rawValue: COHORT_SANDBOX_FILES.rawValue)
    static let calls = Walls(rawValue: COHORT_SANDBOX_CALLS.rawValue)
    static let changes = Walls(rawValue: COHORT_SANDBOX_CHANGES.rawValue)
}

/// One side of the socket between the two. Whole messages: the lengths of JSON (4 bytes) and of what follows it (8), then both. The side
/// that works puts a byte before each: an answer, or the question whether to go on, which is answered with one byte.
final class ModuleSocket {
    static let (answer, question): (UInt8, UInt8) = (0, 1)
    /// The limit of an answer: names and shapes of the maximum number of tensors.
    private static let maxJSONBytes = 64 << 20

    let descriptor: Int32

    init(_ descriptor: Int32) { self.descriptor = descriptor }

    deinit { close(descriptor) }

    /// The other side is gone.
    struct Ended: Error {}

    func send(
        _ message: some Encodable, _ bytes: [UnsafeRawBufferPointer] = [], kind: UInt8? = nil, file: Int32? = nil
    ) throws {
        let json = try CohortJSON.encode(message)
        var head: [UInt8] = kind.map { [$0] } ?? []
        withUnsafeBytes(of: UInt32(json.count)) { head.append(contentsOf: $0) }
        withUnsafeBytes(of: UInt64(bytes.reduce(0) { $0 + $1.count })) { head.append(contentsOf: $0) }
        try (head + json).withUnsafeBytes { try send($0, file: file) }
        for bytes in bytes { try send(bytes) }
    }

    func send(_ bytes: UnsafeRawBufferPointer, file: Int32? = nil) throws {
        guard cohort_sandbox_send(descriptor, bytes.baseAddress, bytes.count, file ?? -1) == 0 else { throw Ended() }
    }

    func send(byte: UInt8) throws { try withUnsafeBytes(of: byte) { try send($0) } }

    /// - Parameter room: makes the memory for what follows the JSON, `count` bytes, and throws when the count is invalid.
    func receive<Message: Decodable>(
        _ type: Message.Type, file: inout Int32, room: (Message, Int) throws -> UnsafeMutableRawBufferPointer
    ) throws -> Message {
        var (length, following): (UInt32, UInt64) = (0, 0)
        try withUnsafeMutableBytes(of: &length) { try receive($0, file: &file) }
        try withUnsafeMutableBytes(of: &following) { try receive($0, file: &file) }
        guard length <= Self.maxJSONBytes, following <= 1 << 40 else { throw Ended() }
        var json = [UInt8](repeating: 0, count: Int(length))
        try json.withUnsafeMutableBytes { try receive($0, file: &file) }
        let message = try CohortJSON.decode(type, from: json)
        try receive(try room(message, Int(following)), file: &file)
        return message
    }

    func receive(_ bytes: UnsafeMutableRawBufferPointer, file: inout Int32) throws {
        var done = 0
        while done < bytes.count {
            let count = cohort_sandbox_receive(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done, &file)
            guard count > 0 else { throw Ended() }
            done += count
        }
    }

    func receiveByte() throws -> UInt8 {
        var (byte, none): (UInt8, Int32) = (0, -1)
        // Descriptors that a module's code sends are not expected.
        defer { if none >= 0 { close(none) } }
        try withUnsafeMutableBytes(of: &byte) { try receive($0, file: &none) }
        return byte
    }
}

extension Counts {
    /// The bit patterns for the wire, which also carry values that are not finite.
    var words: [UInt64] {
        [UInt64(samples), lossSum.bitPattern, UInt64(correct), targetSum.bitPattern, targetSquareSum.bitPattern]
    }

    /// - Parameter limit: the number of rows that were asked for.
    /// - Throws: ``CohortError`` `invalid` for counts of more rows.
    init(words: [UInt64], limit: Int) throws {
        guard words.count == 5, let samples = Int(exactly: words[0]), let correct = Int(exactly: words[2]), correct <= samples,
            samples <= limit
        else {
            throw CohortError(
                .invalid, "the module's process reported \(words.first ?? 0) rows; it must be at most the \(limit) that it was given")
        }
        self.init(
            samples: samples, lossSum: Double(bitPattern: words[1]), correct: correct, targetSum: Double(bitPattern: words[3]),
            targetSquareSum: Double(bitPattern: words[4]))
    }
}
