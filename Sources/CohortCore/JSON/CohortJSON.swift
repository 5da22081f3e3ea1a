public import FoundationEssentials

/// The one JSON dialect of the wire, the HTTP API and the stored documents: UTF-8, snake_case keys, ISO 8601 dates in UTC with
/// milliseconds. A Swift property is the camelCase of its wire name, letter by letter (`session_id` is `sessionId`, `csv_url` is
/// `csvUrl`), so that the conversion holds in both directions without a table of keys.
public enum CohortJSON {
    public static func encoder() -> JSONEncoder {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        encoder.dateEncodingStrategy = .custom { date, encoder in
            var container = encoder.singleValueContainer()
            // The format cuts, and a Date seldom is a whole millisecond: without this, one that is read and written again would lose one each time.
            let milliseconds = (date.timeIntervalSinceReferenceDate * 1000).rounded()
            try container.encode(Date(timeIntervalSinceReferenceDate: (milliseconds + 0.25) / 1000).formatted(dateFormat))
        }
        return encoder
    }

    public static func decoder() -> JSONDecoder {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        decoder.dateDecodingStrategy = .custom { decoder in
            let container = try decoder.singleValueContainer()
            let text = try container.decode(String.self)
            if let date = try? Date(text, strategy: dateFormat) { return date }
            if let date = try? Date(text, strategy: Date.ISO8601FormatStyle()) { return date }
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "'\(text)' is not an ISO 8601 date such as 2026-01-31T12:00:00Z")
        }
        return decoder
    }

    public static func encode(_ value: some Encodable) throws -> [UInt8] {
        try [UInt8](encoder().encode(value))
    }

    /// Decodes `bytes`; a failure is a ``CohortError`` of code ``CohortError/Code/invalid`` whose sentence names the field.
    public static func decode<Value: Decodable>(_ type: Value.Type, from bytes: some Sequence<UInt8>) throws -> Value {
        do {
            return try decoder().decode(type, from: Data(bytes))
        } catch let error as DecodingError {
            throw CohortError(.invalid, error.sentence)
        }
    }

    private static let dateFormat = Date.ISO8601FormatStyle(includingFractionalSeconds: true)
}

extension DecodingError {
    /// The fault and its place, with the field names of the wire.
    fileprivate var sentence: String {
        func path(_ keys: [any CodingKey]) -> String {
            let path = keys.map { key in key.intValue.map { "[\($0)]" } ?? key.stringValue.snakeCased }.joined(separator: ".")
            return path.isEmpty ? "the JSON" : "'\(path)'"
        }
        switch self {
        case .keyNotFound(let key, let context):
            return "\(path(context.codingPath + [key])) is missing"
        case .typeMismatch(let type, let context):
            return "\(path(context.codingPath)) has the wrong type: \(Self.name(of: type)) was expected"
        case .valueNotFound(let type, let context):
            return "\(path(context.codingPath)) is null: \(Self.name(of: type)) was expected"
        case .dataCorrupted(let context):
            return context.codingPath.isEmpty
                ? "this is not valid JSON: \(context.debugDescription)" : "\(path(context.codingPath)): \(context.debugDescription)"
        @unknown default:
            return "this JSON could not be read"
        }
    }

    private static func name(of type: Any.Type) -> String {
        switch type {
        case is String.Type: "text"
        case is Bool.Type: "true or false"
        case is Int.Type, is UInt64.Type: "a whole number"
        case is Double.Type, is Float.Type: "a number"
        case is [Any].Type: "a list"
        default: "an object"
        }
    }
}

extension String {
    /// `batchSize` becomes `batch_size`.
    fileprivate var snakeCased: String {
        reduce(into: "") { result, character in
            if character.isUppercase, !result.isEmpty { result.append("_") }
            result.append(contentsOf: character.lowercased())
        }
    }
}
