import CohortCore

/// A command, filter or document as MongoDB Extended JSON. What is interpolated is encoded, so that no value becomes syntax.
struct MongoJSON: ExpressibleByStringInterpolation, Sendable {
    var text: String

    init(stringLiteral text: String) { self.text = text }
    init(text: String) { self.text = text }
    init(stringInterpolation: StringInterpolation) { text = stringInterpolation.text }

    struct StringInterpolation: StringInterpolationProtocol {
        fileprivate var text = ""

        init(literalCapacity: Int, interpolationCount: Int) { text.reserveCapacity(literalCapacity + 32 * interpolationCount) }

        mutating func appendLiteral(_ literal: String) { text += literal }
        mutating func appendInterpolation(_ value: MongoJSON) { text += value.text }
        mutating func appendInterpolation(_ value: Int) { text += "\(value)" }
        mutating func appendInterpolation(_ value: Bool) { text += value ? "true" : "false" }
        mutating func appendInterpolation(_ value: String) { text += MongoJSON.quoted(value) }
        mutating func appendInterpolation(_ value: String?) { text += value.map(MongoJSON.quoted) ?? "null" }
        mutating func appendInterpolation(_ values: [String]) { text += "[\(values.map(MongoJSON.quoted).joined(separator: ","))]" }
        mutating func appendInterpolation(_ values: [MongoJSON]) { text += "[\(values.map(\.text).joined(separator: ","))]" }
    }

    /// A value as it is stored: see ``BSONSafe``.
    init(_ value: some Encodable) throws {
        text = String(decoding: BSONSafe.stored(try CohortJSON.encode(value)), as: UTF8.self)
    }

    /// The same value with an `_id` and other fields of the store's own before its own.
    static func document(_ id: String, _ value: some Encodable, fields: MongoJSON = "") throws -> MongoJSON {
        let text = try MongoJSON(value).text
        precondition(text.hasPrefix("{"), "a document is an object")
        let rest = text.dropFirst()
        return MongoJSON(text: "{\"_id\":\(quoted(id)),\(fields.text)\(fields.text.isEmpty || rest == "}" ? "" : ",")\(rest)")
    }

    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\u{0}"..."\u{1f}":
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}

/// JSON of ours with keys that BSON can hold, and back, exactly.
///
/// A key of an object may be a peer's name, and MongoDB reads `.` and a leading `$` in keys as its own: `%`, `.` and such a `$` become `%25`,
/// `%2E` and `%24`.
enum BSONSafe {
    static func stored(_ json: [UInt8]) -> [UInt8] {
        rewritten(json) { key in
            guard key.first == UInt8(ascii: "$") || key.contains(where: { $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "%") }) else {
                return nil
            }
            var result: [UInt8] = []
            for (index, byte) in key.enumerated() {
                switch byte {
                case UInt8(ascii: "%"): result += "%25".utf8
                case UInt8(ascii: "."): result += "%2E".utf8
                case UInt8(ascii: "$") where index == 0: result += "%24".utf8
                default: result.append(byte)
                }
            }
            return result
        }
    }

    /// Reverts ``stored(_:)``.
    static func read(_ json: [UInt8]) -> [UInt8] {
        rewritten(json) { key in
            guard key.contains(UInt8(ascii: "%")) else { return nil }
            let text = String(decoding: key, as: UTF8.self)
            return [UInt8](text.replacing("%24", with: "$").replacing("%2E", with: ".").replacing("%25", with: "%").utf8)
        }
    }

    /// One pass over the strings: those before a colon are keys, and may become others.
    private static func rewritten(_ json: [UInt8], key: (ArraySlice<UInt8>) -> [UInt8]?) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(json.count + 64)
        var rest = json[...]
        while let start = rest.firstIndex(of: UInt8(ascii: "\"")) {
            result += rest[...start]
            var end = start + 1
            while end < json.count, json[end] != UInt8(ascii: "\"") { end += json[end] == UInt8(ascii: "\\") ? 2 : 1 }
            end = min(end, json.count)
            let text = json[(start + 1)..<end]
            rest = json[end...]
            let next = rest.dropFirst().first { ![0x20, 0x09, 0x0a, 0x0d].contains($0) }
            if next == UInt8(ascii: ":"), let other = key(text) { result += other } else { result += text }
            if let quote = rest.popFirst() { result.append(quote) }
        }
        return result + rest
    }
}
