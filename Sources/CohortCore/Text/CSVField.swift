extension String {
    /// The text as a field of a CSV: quoted where RFC 4180 requires it.
    public var csvField: String {
        guard contains(where: { $0 == "," || $0 == "\"" || $0.isNewline }) else { return self }
        return "\"" + split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"") + "\""
    }

    /// The text as a field when it comes from a user: a text that a spreadsheet would evaluate as a formula (=, +, -, @ or a tab in front, unless it is a
    /// number) has an apostrophe before it.
    public var csvName: String {
        guard let first, "=+-@\t\r".contains(first), Double(self) == nil else { return csvField }
        return "'\(self)".csvField
    }
}
