import CohortCore

/// The names of a CSV's columns, and whether its first record holds them.
struct Header {
    let names: [String]
    let isThere: Bool

    /// Looks at the first records of a file.
    /// - Parameter target: a column that is known to be there, by name.
    /// - Throws: ``CohortError`` `invalid` for an empty file, and for a header that names two columns alike.
    init(_ reader: CSVReader, target: String?) throws {
        var records: [[String]] = []
        var bytes = 0
        try reader.forEach { record in
            records.append((0..<record.count).map(record.text))
            bytes += record.size
            return records.count < 200 && bytes < 1 << 20
        }
        guard let first = records.first else { throw CohortError(.invalid, "the file is empty: a CSV with a header and rows is needed") }
        isThere = target.map(first.contains) ?? false || Self.isHeader(first, records.dropFirst(), comma: reader.takesComma)
        names = isThere ? try Self.names(first) : (1...first.count).map { "column_\($0)" }
    }

    /// The names in a header; an empty one becomes `column_N`.
    static func names(_ record: [String]) throws -> [String] {
        let names = record.enumerated().map { index, name in name.isEmpty ? "column_\(index + 1)" : name }
        var seen: [String: Int] = [:]
        for (index, name) in names.enumerated() {
            if let other = seen.updateValue(index, forKey: name) {
                throw CohortError(.invalid, "line 1: columns \(other + 1) and \(index + 1) are both named '\(name)'; rename one")
            }
        }
        return names
    }

    /// Each column votes: text above numbers speaks for a header; a number on top, and text that comes again below, against one.
    private static func isHeader(_ first: [String], _ rows: ArraySlice<[String]>, comma: Bool) -> Bool {
        func isNumber(_ text: String) -> Bool { Cell.number(text, comma: comma) != nil }
        func isMissing(_ text: String) -> Bool { Cell.isMissing(text) }
        var votes = 0
        for (index, name) in first.enumerated() where !isMissing(name) {
            let below = rows.compactMap { index < $0.count && !isMissing($0[index]) ? $0[index] : nil }
            if isNumber(name) {
                votes -= 1
            } else if !below.isEmpty, below.allSatisfy(isNumber) {
                votes += 1
            } else if below.contains(name) {
                votes -= 1
            }
        }
        // A file of text alone whose first line does not come again: a header, as most files have.
        return votes >= 0
    }
}

extension CSVReader {
    /// With `;` between fields, a number may have a decimal comma.
    var takesComma: Bool { delimiter == UInt8(ascii: ";") }
}

extension TableSchema {
    /// With `;` between fields, a number may have a decimal comma.
    var takesComma: Bool { delimiter == ";" }

    /// Columns next to each other for which `isWanted` holds.
    func runs(_ isWanted: (Column) -> Bool) -> [Range<Int>] {
        columns.indices.reduce(into: []) { runs, index in
            guard isWanted(columns[index]) else { return }
            if let last = runs.last, last.upperBound == index {
                runs[runs.count - 1] = last.lowerBound..<(index + 1)
            } else {
                runs.append(index..<(index + 1))
            }
        }
    }
}

extension CSVRecord {
    /// - Throws: ``CohortError`` `invalid` for a record of another width.
    func check(columns: Int, hasHeader: Bool) throws {
        guard count != columns else { return }
        throw CohortError(.invalid, "line \(line): \(count) fields where \(hasHeader ? "the header" : "the first line") has \(columns)")
    }
}
