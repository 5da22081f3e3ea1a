import CohortCore
import NIOCore

/// `multipart/form-data` (RFC 7578) as a pure state machine: bytes in, parts out, wherever the chunks are cut. It holds back no more than
/// could be the beginning of a boundary.
struct MultipartParser {
    enum Event: Equatable {
        case began(Part)
        case body(ByteBuffer)
        case ended
    }

    struct Part: Equatable {
        var name: String
        /// A file's name, without its path.
        var filename: String?
    }

    private enum State {
        case preamble, boundary, headers, body, finished
    }

    private static let maxHeaderBytes = 16 << 10
    private static let maxParts = 200

    /// CR LF `--` boundary.
    private let delimiter: [UInt8]
    private var state = State.preamble
    private var parts = 0
    /// The bytes that are not parsed yet. The first boundary may come without a line break before it, which is added here.
    private var held = ByteBuffer(string: "\r\n")

    /// - Parameter contentType: the request's `Content-Type`.
    /// - Throws: ``CohortError`` `invalid` when it is not `multipart/form-data` with a boundary.
    init(contentType: String?) throws {
        guard let contentType, contentType.lowercased().trimmed.hasPrefix("multipart/form-data") else {
            throw CohortError(
                .invalid,
                "the body must be multipart/form-data with the CSV in the field 'file'; its content type is \(contentType ?? "missing")")
        }
        guard let boundary = HeaderParameters.parse(contentType)["boundary"], (1...70).contains(boundary.utf8.count) else {
            throw CohortError(.invalid, "the content type multipart/form-data has no boundary of 1 to 70 characters")
        }
        delimiter = Array("\r\n--\(boundary)".utf8)
    }

    var isFinished: Bool { state == .finished }

    /// - Throws: ``CohortError`` `invalid` for bytes that are no multipart body.
    mutating func feed(_ chunk: ByteBuffer) throws -> [Event] {
        if held.readableBytes == 0 { held = chunk } else { held.writeImmutableBuffer(chunk) }
        var events: [Event] = []
        while try step(&events) {}
        return events
    }

    /// The body has ended.
    /// - Throws: ``CohortError`` `invalid` when the last boundary is missing: the request was cut.
    func end() throws {
        guard isFinished else { throw CohortError(.invalid, "the upload broke off before its end: send it again") }
    }

    /// - Returns: whether there is more to do with the bytes at hand.
    private mutating func step(_ events: inout [Event]) throws -> Bool {
        switch state {
        case .preamble:
            guard consume(upToDelimiter: nil) else { return false }
            state = .boundary
        case .boundary:
            guard try stepBoundary() else { return false }
        case .headers:
            guard let headers = try takeHeaders() else { return false }
            parts += 1
            guard parts <= Self.maxParts else { throw CohortError(.invalid, "the form has more than \(Self.maxParts) parts") }
            events.append(.began(try Self.part(headers)))
            // An empty part ends with a boundary whose line break is the one that ended the headers: it is put back.
            held = ByteBuffer(string: "\r\n") + held
            state = .body
        case .body:
            var content: [Event] = []
            let found = consume { content.append(.body($0)) }
            events += trimmedFirst(content)
            guard found else { return false }
            events.append(.ended)
            isFirstOfBody = true
            state = .boundary
        case .finished:
            held.clear()
            return false
        }
        return true
    }

    /// The line break put before a part's content is not content.
    private var isFirstOfBody = true
    private mutating func trimmedFirst(_ events: [Event]) -> [Event] {
        guard isFirstOfBody, case .body(var first)? = events.first else { return events }
        isFirstOfBody = false
        first.moveReaderIndex(forwardBy: min(2, first.readableBytes))
        return (first.readableBytes > 0 ? [.body(first)] : []) + events.dropFirst()
    }

    /// Takes what comes before the delimiter, and the delimiter if it is there; keeps what could be its beginning.
    private mutating func consume(upToDelimiter sink: ((ByteBuffer) -> Void)?) -> Bool {
        let view = held.readableBytesView
        var index = view.startIndex
        var found: Int?
        var keepFrom = view.endIndex
        while let candidate = view[index...].firstIndex(of: 0x0d) {
            let rest = view[candidate...]
            if rest.count >= delimiter.count {
                if rest.prefix(delimiter.count).elementsEqual(delimiter) {
                    found = candidate
                    break
                }
            } else if delimiter.starts(with: rest) {
                keepFrom = candidate
                break
            }
            index = candidate + 1
        }
        let length = (found ?? keepFrom) - view.startIndex
        // Two bytes at least are held back at the start of a part, so that the added line break is distinguished from content.
        if found == nil, sink != nil, isFirstOfBody, length < 3 { return false }
        if length > 0, let slice = held.readSlice(length: length) { sink?(slice) }
        guard found != nil else { return false }
        held.moveReaderIndex(forwardBy: delimiter.count)
        return true
    }

    private mutating func consume(_ sink: @escaping (ByteBuffer) -> Void) -> Bool { consume(upToDelimiter: sink) }

    private mutating func stepBoundary() throws -> Bool {
        // Spaces and tabs may pad the line (RFC 2046, 5.1.1).
        while let byte = held.readableBytesView.first, byte == 0x20 || byte == 0x09 { held.moveReaderIndex(forwardBy: 1) }
        guard let two = held.readInteger(as: UInt16.self) else { return false }
        switch two {
        case 0x2D2D: state = .finished
        case 0x0D0A: state = .headers
        default: throw CohortError(.invalid, "the multipart body is malformed: a boundary is followed by something else than a line break")
        }
        return true
    }

    private mutating func takeHeaders() throws -> [String]? {
        let view = held.readableBytesView
        var lines: [String] = []
        var start = view.startIndex
        while true {
            var end = start
            while end + 1 < view.endIndex, !(view[end] == 0x0d && view[end + 1] == 0x0a) { end += 1 }
            guard end + 1 < view.endIndex else {
                guard view.count <= Self.maxHeaderBytes else { throw CohortError(.invalid, "the headers of a part are too long") }
                return nil
            }
            if end == start { break }
            lines.append(String(decoding: view[start..<end], as: UTF8.self))
            start = end + 2
        }
        held.moveReaderIndex(forwardBy: start + 2 - view.startIndex)
        return lines
    }

    private static func part(_ headers: [String]) throws -> Part {
        for header in headers {
            guard let colon = header.firstIndex(of: ":"), header[..<colon].lowercased() == "content-disposition" else { continue }
            let parameters = HeaderParameters.parse(String(header[header.index(after: colon)...]))
            guard let name = parameters["name"] else { break }
            let filename = parameters["filename"].map { String($0.split(whereSeparator: { $0 == "/" || $0 == "\\" }).last ?? "") }
            return Part(name: name, filename: filename)
        }
        throw CohortError(.invalid, "a part of the form has no name: its Content-Disposition must be form-data; name=\"…\"")
    }
}

private func + (a: ByteBuffer, b: ByteBuffer) -> ByteBuffer {
    var result = a
    result.writeImmutableBuffer(b)
    return result
}

/// The parameters of a header such as `form-data; name="file"; filename="a.csv"`.
enum HeaderParameters {
    /// Names lowercased; quoted values without their quotes and escapes.
    static func parse(_ header: String) -> [String: String] {
        var parameters: [String: String] = [:]
        var rest = header[...]
        // The value before the first semicolon is not a parameter.
        guard let first = rest.firstIndex(of: ";") else { return [:] }
        rest = rest[rest.index(after: first)...]
        while let equals = rest.firstIndex(of: "=") {
            let name = String(rest[..<equals]).trimmed.lowercased()
            rest = rest[rest.index(after: equals)...]
            var value = ""
            if rest.first == "\"" {
                rest = rest.dropFirst()
                while let character = rest.popFirst(), character != "\"" {
                    if character == "\\", let next = rest.first, next == "\"" || next == "\\" {
                        value.append(next)
                        rest = rest.dropFirst()
                    } else {
                        value.append(character)
                    }
                }
                rest = rest.firstIndex(of: ";").map { rest[rest.index(after: $0)...] } ?? ""
            } else {
                let end = rest.firstIndex(of: ";") ?? rest.endIndex
                value = String(rest[..<end]).trimmed
                rest = end < rest.endIndex ? rest[rest.index(after: end)...] : ""
            }
            if parameters[name] == nil { parameters[name] = value }
        }
        return parameters
    }
}
