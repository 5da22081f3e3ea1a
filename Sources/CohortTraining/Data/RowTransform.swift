public import CohortCore

/// Turns one raw row into features, as a table's schema says.
public struct RowTransform: Sendable {
    public let schema: TableSchema
    private let encoders: [Encoder]
    private let positions: [String: Int]

    private enum Encoder: Sendable {
        case skip
        case number(mean: Double, std: Double)
        case category(indices: [String: Int], count: Int)
    }

    public init(schema: TableSchema) {
        self.schema = schema
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
        positions = Dictionary(schema.columns.enumerated().map { ($1.name, $0) }, uniquingKeysWith: { first, _ in first })
    }

    /// A row by column name, values as the CSV has them. A column that is not there counts as missing; the target is ignored.
    /// - Throws: ``CohortError`` `invalid` for a name that is no column, and for text in a numeric column.
    public func features(of row: [String: String?]) throws -> [Float] {
        for name in row.keys where positions[name] == nil {
            let expected = schema.columns.filter { $0.featureCount > 0 }.map(\.name)
            throw CohortError(.invalid, "there is no column '\(name)'; the model is made of \(expected.prefix(30).joined(separator: ", "))")
        }
        var features = [Float](repeating: 0, count: schema.featureCount)
        var offset = 0
        for (column, encoder) in zip(schema.columns, encoders) {
            let bytes = Array((row[column.name].flatMap { $0 } ?? "").utf8)
            offset = try encode(bytes.trimmed, encoder, column.name, line: nil, into: &features, at: offset)
        }
        return features
    }

    /// A CSV record's features; `features` holds ``TableSchema/featureCount`` zeros.
    func encode(_ record: borrowing CSVRecord, into features: inout [Float]) throws {
        var offset = 0
        for index in encoders.indices {
            offset = try encode(
                record.trimmed(index), encoders[index], schema.columns[index].name, line: record.line, into: &features, at: offset)
        }
    }

    private func encode(
        _ bytes: ArraySlice<UInt8>, _ encoder: Encoder, _ name: String, line: Int?, into features: inout [Float], at offset: Int
    ) throws -> Int {
        switch encoder {
        case .skip:
            return offset
        case .number(let mean, let std):
            if let number = Cell.number(bytes) {
                features[offset] = Float((number - mean) / std)
            } else if !Cell.isMissing(bytes) {
                let place = line.map { "line \($0): " } ?? ""
                throw CohortError(.invalid, "\(place)'\(String(decoding: bytes.prefix(40), as: UTF8.self))' in '\(name)' is not a number")
            }
            return offset + 1
        case .category(let indices, let count):
            if let index = indices[String(decoding: bytes, as: UTF8.self)] { features[offset + index] = 1 }
            return offset + count
        }
    }
}

extension [UInt8] {
    /// Without spaces and tabs around it.
    fileprivate var trimmed: ArraySlice<UInt8> {
        var slice = self[...]
        while let first = slice.first, first == 0x20 || first == 0x09 { slice = slice.dropFirst() }
        while let last = slice.last, last == 0x20 || last == 0x09 { slice = slice.dropLast() }
        return slice
    }
}
