public import CohortCore

/// Turns one raw row into features, as a table's schema says: a missing number is 0 (the mean), a missing or unseen category all zeros.
public struct RowTransform: Sendable {
    public let schema: TableSchema
    /// How many features a row becomes.
    let featureCount: Int
    private let encoders: [Encoder]
    private let names: Set<String>
    private let comma: Bool

    private enum Encoder: Sendable {
        case skip
        case number(mean: Double, std: Double)
        case category(indices: [String: Int], count: Int)
    }

    public init(schema: TableSchema) {
        self.schema = schema
        featureCount = schema.featureCount
        names = Set(schema.columns.map(\.name))
        comma = schema.takesComma
        encoders = schema.columns.map { column in
            switch column.kind {
            case .numeric: .number(mean: column.mean ?? 0, std: column.std ?? 1)
            case .categorical:
                .category(
                    indices: Dictionary((column.categories ?? []).enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first }),
                    count: column.categories?.count ?? 0)
            case .ignored, .target: .skip
            }
        }
    }

    /// A row by column name, values as the CSV has them. A column that is not there counts as missing; the target is ignored.
    /// - Throws: ``CohortError`` `invalid` for a name that is no column, and for text in a numeric column.
    public func features(of row: [String: String?]) throws -> [Float] {
        if let name = row.keys.filter({ !names.contains($0) }).min() {
            let expected = schema.columns.filter { $0.featureCount > 0 }.map(\.name)
            let list = expected.prefix(30).joined(separator: ", ") + (expected.count > 30 ? ", … (\(expected.count) in all)" : "")
            throw CohortError(.invalid, "there is no column '\(name)'; the model predicts from \(list)")
        }
        var features = [Float](repeating: 0, count: featureCount)
        try features.withUnsafeMutableBufferPointer { features in
            var offset = 0
            for (column, encoder) in zip(schema.columns, encoders) {
                guard let text = row[column.name] ?? nil else {
                    offset += column.featureCount
                    continue
                }
                offset = try encode(Array(text.utf8)[...].trimmed, encoder, column.name, line: nil, into: features, at: offset)
            }
        }
        return features
    }

    /// A CSV record's features; `features` holds ``featureCount`` zeros.
    func encode(_ record: borrowing CSVRecord, into features: UnsafeMutableBufferPointer<Float>) throws {
        var offset = 0
        for index in encoders.indices {
            if case .skip = encoders[index] { continue }
            offset = try encode(
                record.trimmed(index), encoders[index], schema.columns[index].name, line: record.line, into: features, at: offset)
        }
    }

    private func encode(
        _ bytes: ArraySlice<UInt8>, _ encoder: Encoder, _ name: String, line: Int?, into features: UnsafeMutableBufferPointer<Float>,
        at offset: Int
    ) throws -> Int {
        func failure(_ what: String) -> CohortError {
            CohortError(
                .invalid, "\(line.map { "line \($0): " } ?? "")'\(String(decoding: bytes.prefix(40), as: UTF8.self))' in '\(name)' \(what)")
        }
        switch encoder {
        case .skip:
            return offset
        case .number(let mean, let std):
            if let number = Cell.number(bytes, comma: comma) {
                features[offset] = Float((number - mean) / std)
                guard features[offset].isFinite else { throw failure("is too far from the values the model was made from") }
            } else if !Cell.isMissing(bytes) {
                throw failure("is not a number")
            }
            return offset + 1
        case .category(let indices, let count):
            if let index = indices[String(decoding: bytes, as: UTF8.self)] { features[offset + index] = 1 }
            return offset + count
        }
    }
}
