import CohortCore

/// Lines to standard output, or to what the name behind `-o` is. A full disk is an error, not a short file.
final class OutputWriter {
    private static let block = 1 << 16

    private let sink: OutputSink
    private var buffer: [UInt8] = []

    /// - Parameter path: nil: standard output.
    /// - Throws: ``CohortError`` `invalid` when it cannot be written to.
    init(to path: String?) throws {
        sink = try OutputSink(try path.map { try OutputPlace($0) } ?? .standardOutput)
    }

    func line(_ text: String) throws {
        buffer.append(contentsOf: text.utf8)
        buffer.append(0x0a)
        if buffer.count >= Self.block { try flush() }
    }

    /// After the last line.
    func finish() throws {
        try flush()
        try sink.finish()
    }

    /// Leaves no file.
    func discard() { sink.discard() }

    private func flush() throws {
        guard !buffer.isEmpty else { return }
        try sink.write(buffer)
        buffer.removeAll(keepingCapacity: true)
    }
}
