import CohortCore
import HTTPTypes
import Hummingbird
import NIOCore

/// Which of an object's bytes a request wants (RFC 9110, 14).
enum ByteRange: Equatable {
    case whole
    case part(Range<Int>)
    case unsatisfiable

    /// More than one range, or a unit other than bytes, is answered with the whole, as the standard allows.
    init(_ header: String?, of count: Int) {
        guard let header, header.hasPrefix("bytes="), !header.contains(",") else {
            self = .whole
            return
        }
        let ends = header.dropFirst(6).split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false).map { String($0).trimmed }
        guard ends.count == 2, ends.allSatisfy({ $0.allSatisfy(\.isASCII) && $0.allSatisfy(\.isNumber) }), ends != ["", ""] else {
            self = .whole
            return
        }
        // Digits alone, more of them than fit: past every end.
        func number(_ text: String) -> Int { Int(text) ?? .max }
        let range: Range<Int>
        if ends[0].isEmpty {
            let length = min(number(ends[1]), count)
            range = count - length..<count
        } else {
            let first = number(ends[0])
            let last = ends[1].isEmpty ? count - 1 : min(number(ends[1]), count - 1)
            guard ends[1].isEmpty || number(ends[1]) >= first else {
                self = .whole
                return
            }
            range = first <= last ? first..<(last + 1) : 0..<0
        }
        self = range.isEmpty ? .unsatisfiable : .part(range)
    }
}

extension Response {
    /// An object's bytes, or those that `Range` names; 304 when the client has them.
    /// - Parameter read: gives the bytes from an offset on.
    static func download(
        _ request: Request, _ object: ObjectReference, headers given: HTTPFields = [:],
        read: (Int) async throws -> AsyncThrowingStream<[UInt8], any Error>
    ) async throws -> Response {
        let tag = "\"\(object.sha256)\""
        var headers = given
        headers[.eTag] = tag
        headers[.acceptRanges] = "bytes"
        let known = request.headers[.ifNoneMatch]?.split(separator: ",").map { String($0).trimmed } ?? []
        if known.contains(where: { $0 == "*" || $0 == tag || $0 == "W/\(tag)" }) { return Response(status: .notModified, headers: headers) }
        headers[.contentType] = "application/octet-stream"
        let isSame = request.headers[.ifRange].map { $0 == tag } ?? true
        switch isSame ? ByteRange(request.headers[.range], of: object.bytes) : .whole {
        case .whole:
            return Response(status: .ok, headers: headers, body: body(request, try await read(0), count: object.bytes))
        case .part(let range):
            headers[.contentRange] = "bytes \(range.lowerBound)-\(range.upperBound - 1)/\(object.bytes)"
            return Response(
                status: .partialContent, headers: headers, body: body(request, try await read(range.lowerBound), count: range.count))
        case .unsatisfiable:
            throw HTTPProblem(
                status: .rangeNotSatisfiable, code: .invalid,
                "the range '\(request.headers[.range]?.printable(max: 60) ?? "")' is not within the \(object.bytes) bytes",
                headers: [.contentRange: "bytes */\(object.bytes)"])
        }
    }

    private static func body(_ request: Request, _ bytes: AsyncThrowingStream<[UInt8], any Error>, count: Int) -> ResponseBody {
        ResponseBody(contentLength: count) { writer in
            var left = count
            for try await chunk in bytes where left > 0 {
                try await writer.write(ByteBuffer(bytes: chunk.prefix(left)))
                left -= min(left, chunk.count)
                if left == 0 { break }
            }
            try await writer.finish(nil)
        }
    }
}
