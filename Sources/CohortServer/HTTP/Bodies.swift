import CohortCore
import CohortSystem
import FoundationEssentials
import HTTPTypes
import Hummingbird
import NIOCore

extension Request {
    /// The announced length of the body.
    var contentLength: Int? { headers[.contentLength].flatMap { Int($0) } }

    /// The whole body, for small ones.
    /// - Throws: ``CohortError`` `tooLarge` past `limit` bytes, `invalid` when the connection breaks.
    func bytes(upTo limit: Int = 1 << 20) async throws -> ByteBuffer {
        let tooLarge = CohortError(.tooLarge, "the body is too large; it must have at most \(limit) bytes")
        if let contentLength, contentLength > limit { throw tooLarge }
        do {
            return try await body.collect(upTo: limit)
        } catch is NIOTooManyBytesError {
            throw tooLarge
        } catch is CancellationError {
            throw CancellationError()
        } catch {
            throw CohortError(.invalid, "the connection broke while the body was read")
        }
    }

    /// - Parameter fields: what the object may hold; nil: unknown fields are ignored, as the wire protocol says.
    /// - Throws: ``CohortError`` `invalid`, naming the field.
    func json<Value: Decodable & Sendable>(_ type: Value.Type, fields: [String]? = nil, upTo limit: Int = 1 << 20) async throws -> Value {
        let buffer = try await bytes(upTo: limit)
        guard buffer.readableBytes > 0 else { throw CohortError(.invalid, "the body is empty; it must be a JSON object") }
        @Sendable func decoded() throws -> Value {
            let value = try CohortJSON.decode(type, from: buffer.readableBytesView)
            if let fields { try FieldNames.check(buffer.readableBytesView, known: fields) }
            return value
        }
        // Decoding a megabyte takes tens of milliseconds, which would block a thread of the cooperative pool.
        guard buffer.readableBytes > Self.smallBody else { return try decoded() }
        return try await Self.largeBodies.run { try decoded() }
    }

    private static let smallBody = 64 << 10
    fileprivate static let largeBodies = BlockingLanes("large bodies", count: 1, limit: 32)

    /// A value of the query, percent-decoded.
    func query(_ name: String) -> String? { uri.queryParameters[name[...]].map(String.init) }

    /// A whole number of the query.
    /// - Throws: ``CohortError`` `invalid` when it is another thing.
    func number(_ name: String, in range: ClosedRange<Int>) throws -> Int? {
        guard let text = query(name) else { return nil }
        guard let value = Int(text), range.contains(value) else {
            throw CohortError(
                .invalid, "\(name) is '\(text.prefix(40))'; it must be a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }
}

/// The keys of a JSON object, as they are written.
struct FieldNames: Decodable {
    let names: [String]

    private struct Key: CodingKey {
        var stringValue: String
        var intValue: Int? { nil }
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    init(from decoder: any Decoder) throws {
        names = try decoder.container(keyedBy: Key.self).allKeys.map(\.stringValue).sorted()
    }

    /// - Throws: ``CohortError`` `invalid`, naming the first unknown field and listing the known ones.
    static func check(_ bytes: some Sequence<UInt8>, known: [String]) throws {
        let found = try JSONDecoder().decode(FieldNames.self, from: Data(bytes))
        try found.check(known: known, in: "")
    }

    func check(known: [String], in place: String) throws {
        guard let unknown = names.first(where: { !known.contains($0) }) else { return }
        throw CohortError(
            .invalid, "there is no field '\(place)\(unknown.prefix(60))'; the fields are \(known.joined(separator: ", "))")
    }
}

extension Response {
    static func json(_ value: some Encodable, status: HTTPResponse.Status = .ok, headers: HTTPFields = [:]) throws -> Response {
        var headers = headers
        headers[.contentType] = "application/json; charset=utf-8"
        return Response(status: status, headers: headers, body: ResponseBody(byteBuffer: ByteBuffer(bytes: try CohortJSON.encode(value))))
    }

    /// A list of any length: a long one takes milliseconds, which would block a thread of the cooperative pool.
    static func json<Value: Encodable & Sendable>(list: [Value]) async throws -> Response {
        guard list.count > 100 else { return try .json(list) }
        return try await Request.largeBodies.run { try Response.json(list) }
    }

    static func text(_ text: String, type: String) -> Response {
        Response(status: .ok, headers: [.contentType: type], body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
    }

    static var noContent: Response { Response(status: .noContent) }
}
