/// A JSON value of the API's description.
indirect enum JSONValue: Codable, Sendable, Equatable {
    case null
    case text(String)
    case number(Double)
    case whole(Int)
    case flag(Bool)
    case list([JSONValue])
    case object([String: JSONValue])

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        // A value is of one type: the others are skipped.
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(Bool.self) {
            self = .flag(value)
        } else if let value = try? container.decode(Int.self) {
            self = .whole(value)
        } else if let value = try? container.decode(Double.self) {
            self = .number(value)
        } else if let value = try? container.decode(String.self) {
            self = .text(value)
        } else if let value = try? container.decode([JSONValue].self) {
            self = .list(value)
        } else {
            self = .object(try container.decode([String: JSONValue].self))
        }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .null: try container.encodeNil()
        case .text(let value): try container.encode(value)
        case .number(let value): try container.encode(value)
        case .whole(let value): try container.encode(value)
        case .flag(let value): try container.encode(value)
        case .list(let value): try container.encode(value)
        case .object(let value): try container.encode(value)
        }
    }
}

/// A JSON Schema (2020-12), as far as the API needs it.
struct Schema: Sendable {
    var json: [String: JSONValue]

    private init(_ json: [String: JSONValue]) { self.json = json }

    static let text = Schema(["type": .text("string")])
    static let date = text.with("format", .text("date-time"))
    static let number = Schema(["type": .text("number")])
    static let whole = Schema(["type": .text("integer")])
    static let flag = Schema(["type": .text("boolean")])
    /// A cell of a table.
    static let cell = Schema(["type": .list([.text("string"), .text("number"), .text("boolean"), .text("null")])])
    static let anything = Schema([:])
    static let binary = text.with("format", .text("binary"))

    static func whole(_ range: ClosedRange<Int>) -> Schema {
        whole.with("minimum", .whole(range.lowerBound)).with("maximum", .whole(range.upperBound))
    }
    static func text(_ lengths: ClosedRange<Int>) -> Schema {
        text.with("minLength", .whole(lengths.lowerBound)).with("maxLength", .whole(lengths.upperBound))
    }
    static func one(of values: [String]) -> Schema { text.with("enum", .list(values.map { .text($0) })) }
    static func one<Value: CaseIterable & RawRepresentable>(of type: Value.Type) -> Schema where Value.RawValue == String {
        one(of: type.allCases.map(\.rawValue))
    }
    static func list(_ items: Schema) -> Schema { Schema(["type": .text("array"), "items": .object(items.json)]) }
    /// An object with any names.
    static func map(_ values: Schema) -> Schema { Schema(["type": .text("object"), "additionalProperties": .object(values.json)]) }
    static func named(_ name: String) -> Schema { Schema(["$ref": .text("#/components/schemas/\(name)")]) }
    static func any(of choices: [Schema]) -> Schema { Schema(["anyOf": .list(choices.map { .object($0.json) })]) }

    static func record(_ required: [String: Schema], optional: [String: Schema] = [:]) -> Schema {
        Schema([
            "type": .text("object"), "required": .list(required.keys.sorted().map { .text($0) }),
            "properties": .object(required.merging(optional) { first, _ in first }.mapValues { .object($0.json) }),
        ])
    }

    /// A request's object: the server refuses unknown fields.
    var closed: Schema { with("additionalProperties", .flag(false)) }

    /// A request's field: null is the same as absent.
    var orNull: Schema { json["type"].map { with("type", .list([$0, .text("null")])) } ?? self }

    func about(_ words: String) -> Schema { with("description", .text(words)) }
    func standard(_ value: JSONValue) -> Schema { with("default", value) }
    func example(_ value: JSONValue) -> Schema { with("examples", .list([value])) }

    private func with(_ key: String, _ value: JSONValue) -> Schema {
        var schema = self
        schema.json[key] = value
        return schema
    }
}
