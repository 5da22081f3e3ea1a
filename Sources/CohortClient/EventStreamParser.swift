import CohortCore

/// One event of a `text/event-stream`.
public struct ServerSentEvent: Hashable, Sendable {
    /// The newest `id` of the stream so far.
    public var id: String?
    /// `message` unless named.
    public var name: String
    /// The `data` lines, joined by a line feed.
    public var data: [UInt8]

    public init(id: String? = nil, name: String = "message", data: [UInt8]) {
        self.id = id
        self.name = name
        self.data = data
    }
}

/// Reads server-sent events (WHATWG HTML, section 9.2) from bytes in whatever pieces they arrive. Pure: no I/O.
public struct EventStreamParser: Sendable {
    /// A stream whose single event is larger than this is cut off: memory stays bounded whatever a server sends.
    public static let maxEventBytes = 16 << 20

    private var line: [UInt8] = []
    private var data: [UInt8] = []
    private var hasData = false
    private var name = ""
    private var id: String?
    private var lastWasReturn = false
    private var isFirstLine = true

    public init() {}

    /// Takes in the next bytes of the stream.
    /// - Returns: the events they complete, in order. An event that the stream's end leaves incomplete never comes out.
    /// - Throws: ``CohortError`` `tooLarge` when an event exceeds ``maxEventBytes`` bytes.
    public mutating func feed(_ bytes: some Sequence<UInt8>) throws -> [ServerSentEvent] {
        var events: [ServerSentEvent] = []
        for byte in bytes {
            // A line ends with LF, CR, or CR LF; the LF of the last may come in the next piece.
            if byte == UInt8(ascii: "\n"), lastWasReturn {
                lastWasReturn = false
                continue
            }
            lastWasReturn = byte == UInt8(ascii: "\r")
            if byte == UInt8(ascii: "\n") || lastWasReturn {
                if let event = endLine() { events.append(event) }
            } else {
                line.append(byte)
                guard line.count + data.count <= Self.maxEventBytes else {
                    throw CohortError(.tooLarge, "an event of the stream exceeds \(Self.maxEventBytes) bytes")
                }
            }
        }
        return events
    }

    private mutating func endLine() -> ServerSentEvent? {
        defer { line.removeAll(keepingCapacity: line.capacity <= 1 << 16) }
        if isFirstLine {
            isFirstLine = false
            if line.starts(with: [0xEF, 0xBB, 0xBF]) { line.removeFirst(3) }
        }
        guard !line.isEmpty else { return dispatch() }
        let colon = line.firstIndex(of: UInt8(ascii: ":")) ?? line.endIndex
        var value = line[min(colon + 1, line.endIndex)...]
        if value.first == UInt8(ascii: " ") { value = value.dropFirst() }
        // A line that starts with a colon is a comment: its field name is empty, and so ignored as every unknown one.
        switch String(decoding: line[..<colon], as: UTF8.self) {
        case "data":
            if hasData { data.append(UInt8(ascii: "\n")) }
            data += value
            hasData = true
        case "event": name = String(decoding: value, as: UTF8.self)
        case "id" where !value.contains(0): id = String(decoding: value, as: UTF8.self)
        default: break
        }
        return nil
    }

    private mutating func dispatch() -> ServerSentEvent? {
        defer {
            data = []
            hasData = false
            name = ""
        }
        guard hasData else { return nil }
        return ServerSentEvent(id: id, name: name.isEmpty ? "message" : name, data: data)
    }
}
