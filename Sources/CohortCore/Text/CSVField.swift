extension String {
    /// As a field of a CSV that Cohort writes: quoted where RFC 4180 asks for it.
    public var csvField: String {
        guard contains(where: { $0 == "," || $0 == "\"" || $0.isNewline }) else { return self }
        return "\"" + split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"") + "\""
    }

    /// As a field whose text somebody else chose: what a spreadsheet would take for a formula (=, +, -, @ or a tab in front, unless it is a number) has an
    /// apostrophe before it.
    public var csvName: String {
        guard let first, "=+-@\t\r".contains(first), Double(self) == nil else { return csvField }
        return "'\(self)".csvField
    }
}
