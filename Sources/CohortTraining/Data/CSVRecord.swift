/// One record of a CSV: its fields' bytes, unquoted, back to back.
struct CSVRecord {
    var bytes: [UInt8] = []
    /// Where each field ends in `bytes`.
    var ends: [Int] = []
    /// The line it begins on, from 1.
    var line = 1

    var count: Int { ends.count }

    /// The field as text, without spaces around it.
    func text(_ index: Int) -> String { String(decoding: trimmed(index), as: UTF8.self) }

    /// The field's bytes, without spaces around them.
    func trimmed(_ index: Int) -> ArraySlice<UInt8> { bytes[(index == 0 ? 0 : ends[index - 1])..<ends[index]].trimmed }

    mutating func clear() {
        bytes.removeAll(keepingCapacity: true)
        ends.removeAll(keepingCapacity: true)
    }
}

extension ArraySlice<UInt8> {
    /// Without spaces and tabs around it.
    var trimmed: ArraySlice<UInt8> {
        var start = startIndex
        var end = endIndex
        while start < end, self[start] == 0x20 || self[start] == 0x09 { start += 1 }
        while start < end, self[end - 1] == 0x20 || self[end - 1] == 0x09 { end -= 1 }
        return self[start..<end]
    }
}
