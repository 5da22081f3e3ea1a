/// The weight of each class in the training loss, as in scikit-learn's `class_weight`; measurements are not weighted. In JSON `"balanced"`, or
/// an object by label.
public enum ClassWeight: Hashable, Sendable {
    /// The training rows divided by the classes and by the class's own rows: every class counts alike in all.
    case balanced
    /// Weights by label, each above 0; other classes have 1.
    case byLabel([String: Double])

    /// Parses the text form: `balanced`, `none` (which is nil), or JSON such as `{"yes": 5, "no": 1}`.
    /// - Throws: ``CohortError`` `invalid`.
    public static func parse(_ text: String) throws -> ClassWeight? {
        switch text {
        case "none": return nil
        case "balanced": return .balanced
        default:
            guard let weights = try? CohortJSON.decode([String: Double].self, from: text.utf8) else {
                throw CohortError(
                    .invalid, "class_weight is '\(text.prefix(60))'; it must be balanced, none, or JSON such as {\"yes\": 5, \"no\": 1}")
            }
            return .byLabel(weights)
        }
    }

    /// A weight a class, in the order of the schema's classes.
    /// - Throws: ``CohortError`` `invalid` for a label that is no class, a regression, and a schema that does not say how many rows each
    ///   class has.
    public func weights(of schema: TableSchema) throws -> [Double] {
        guard schema.task == .classification else {
            throw CohortError(.invalid, "class_weight is for classification; '\(schema.target)' is a number to predict (task regression)")
        }
        switch self {
        case .balanced:
            guard let counts = schema.classCounts, counts.count == schema.classes.count else {
                throw CohortError(.invalid, "class_weight is balanced, but the schema has no class_counts")
            }
            let rows = Double(counts.reduce(0, +))
            return counts.map { $0 > 0 ? rows / Double(counts.count * $0) : 1 }
        case .byLabel(let weights):
            if let unknown = weights.keys.sorted().first(where: { !schema.classes.contains($0) }) {
                let classes = schema.classes.prefix(30).joined(separator: ", ") + (schema.classes.count > 30 ? ", …" : "")
                throw CohortError(.invalid, "class_weight names '\(unknown)', which is no class of '\(schema.target)': they are \(classes)")
            }
            return schema.classes.map { weights[$0] ?? 1 }
        }
    }
}

extension ClassWeight: Codable {
    public init(from decoder: any Decoder) throws {
        let value = try decoder.singleValueContainer()
        if let weights = try? value.decode([String: Double].self) {
            self = .byLabel(weights)
        } else if try value.decode(String.self) == "balanced" {
            self = .balanced
        } else {
            throw DecodingError.dataCorruptedError(in: value, debugDescription: "class_weight must be \"balanced\" or weights by label")
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var value = encoder.singleValueContainer()
        switch self {
        case .balanced: try value.encode("balanced")
        case .byLabel(let weights): try value.encode(weights)
        }
    }
}
