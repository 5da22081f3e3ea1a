import CohortCore

/// Writes rows of a CSV as records.
struct RecordEncoder: Sendable {
    /// Floats that ``encode(_:target:into:scratch:)`` needs.
    let scratchCount: Int
    private let schema: TableSchema
    private let transform: RowTransform
    private let layout: RecordLayout
    private let steps: [Step]
    private let mean, std: Double

    private enum Step: Sendable {
        case numbers(RowTransform.NumberRun, [Span])
        /// A category or a date: its column in the schema, and in the record.
        case category(Int, RecordLayout.Column)
        case date(Int, RecordLayout.Column, [TableSchema.Column.Part], codes: [CalendarDate: UInt16], missing: UInt16)
    }

    /// Columns of one encoding in a run of numbers.
    private struct Span: Sendable {
        var columns: Range<Int>
        let encoding: RecordLayout.Encoding
        let offset: Int
        var tables = CodeTables([])
    }

    /// - Throws: ``CohortError`` `invalid` for a schema without a target.
    init(_ schema: TableSchema, _ plan: RecordPlan) throws {
        guard let target = schema.columns.first(where: { $0.kind == .target }) else {
            throw CohortError(.invalid, "the schema has no target column")
        }
        self.schema = schema
        transform = RowTransform(schema: schema)
        layout = plan.layout
        (mean, std) = (target.mean ?? 0, target.std ?? 1)
        var packed: [Int: RecordLayout.Column] = [:]
        for (index, column) in zip(schema.columns.indices.filter { schema.columns[$0].featureCount > 0 }, plan.layout.columns) {
            packed[index] = column
        }
        var steps: [Step] = []
        var longest = 0
        for step in transform.steps {
            switch step {
            case .numbers(let run):
                longest = max(longest, run.columns.count)
                steps.append(.numbers(run, Self.spans(of: run, packed, plan)))
            case .other(let index):
                guard let column = packed[index] else { continue }
                if schema.columns[index].kind == .categorical {
                    steps.append(.category(index, column))
                } else if case .dates(let codes, let missing) = plan.codes[index] {
                    steps.append(.date(index, column, schema.columns[index].parts ?? [], codes: codes, missing: missing))
                } else {
                    steps.append(.date(index, column, schema.columns[index].parts ?? [], codes: [:], missing: 0))
                }
            }
        }
        self.steps = steps
        scratchCount = longest
    }

    private static func spans(of run: RowTransform.NumberRun, _ packed: [Int: RecordLayout.Column], _ plan: RecordPlan) -> [Span] {
        var spans: [Span] = []
        var tables: [[CodeTable]] = []
        for index in run.columns {
            guard let column = packed[index] else { continue }
            if spans.last?.encoding != column.encoding {
                spans.append(Span(columns: index..<index, encoding: column.encoding, offset: column.offset))
                tables.append([])
            }
            let last = spans.count - 1
            spans[last].columns = spans[last].columns.lowerBound..<(index + 1)
            if case .numbers(let table) = plan.codes[index] { tables[last].append(table) }
        }
        for index in spans.indices { spans[index].tables = CodeTables(tables[index]) }
        return spans
    }

    /// Writes a record of ``RecordLayout/recordBytes`` bytes.
    /// - Parameters:
    ///   - target: the class index, or the number as it stands.
    ///   - scratch: ``scratchCount`` floats.
    /// - Throws: ``CohortError`` `invalid` with line and column; `internal` for a value that the plan does not know.
    func encode(
        _ record: CSVRecord, target: Double, into bytes: UnsafeMutableRawPointer, scratch: UnsafeMutableBufferPointer<Float>
    ) throws {
        for step in steps {
            switch step {
            case .numbers(let run, let spans):
                try transform.encode(record, run, into: UnsafeMutableBufferPointer(rebasing: scratch[..<run.columns.count]))
                for span in spans { try write(span, of: run, record, scratch, into: bytes) }
            case .category(let index, let column):
                let category = transform.category(record, index)
                if column.encoding == .f32 {
                    for feature in 0..<column.features { bytes.store(feature == category ? 1 : 0, floatAt: column.offset + 4 * feature) }
                } else {
                    bytes.store(UInt16(category ?? column.features), column.encoding, at: column.offset)
                }
            case .date(let index, let column, let parts, let codes, let missing):
                let date = try transform.date(record, index)
                switch column.encoding {
                case .f32:
                    for (feature, part) in parts.enumerated() {
                        bytes.store(date.map { $0.feature(part) } ?? 0, floatAt: column.offset + 4 * feature)
                    }
                case .u8, .u16:
                    guard let code = date.map({ codes[$0] }) ?? missing else { throw unknown(index, record) }
                    bytes.store(code, column.encoding, at: column.offset)
                case .constant: break
                }
            }
        }
        if layout.target == .f32 {
            bytes.store(Float((target - mean) / std), floatAt: layout.targetOffset)
        } else {
            bytes.store(UInt16(target), layout.target, at: layout.targetOffset)
        }
    }

    private func write(
        _ span: Span, of run: RowTransform.NumberRun, _ record: CSVRecord, _ scratch: UnsafeMutableBufferPointer<Float>,
        into bytes: UnsafeMutableRawPointer
    ) throws {
        guard let features = scratch.baseAddress?.advanced(by: span.columns.lowerBound - run.columns.lowerBound) else { return }
        switch span.encoding {
        case .constant: break
        case .f32: (bytes + span.offset).copyMemory(from: features, byteCount: span.columns.count * 4)
        case .u8, .u16:
            let width = span.encoding.bytes(features: 1)
            if let place = span.tables.write(codesOf: features, to: bytes + span.offset, width: width) {
                throw unknown(span.columns.lowerBound + place, record)
            }
        }
    }

    private func unknown(_ index: Int, _ record: CSVRecord) -> CohortError {
        CohortError(
            .internal,
            "line \(record.line): '\(record.text(index).prefix(40))' in '\(schema.columns[index].name)' was not there when the file was inspected"
        )
    }
}

extension UnsafeMutableRawPointer {
    fileprivate func store(_ value: Float, floatAt offset: Int) {
        storeBytes(of: value.bitPattern.littleEndian, toByteOffset: offset, as: UInt32.self)
    }

    fileprivate func store(_ code: UInt16, _ encoding: RecordLayout.Encoding, at offset: Int) {
        if encoding == .u8 {
            storeBytes(of: UInt8(truncatingIfNeeded: code), toByteOffset: offset, as: UInt8.self)
        } else {
            storeBytes(of: code.littleEndian, toByteOffset: offset, as: UInt16.self)
        }
    }
}
