extension String {
    /// Itself with line breaks and tabs as spaces, other control and direction characters as `�`, and cut to `max` characters.
    public func printable(max: Int) -> String {
        var result = ""
        var count = 0
        for scalar in unicodeScalars {
            guard count < max else { return result + "…" }
            switch scalar.value {
            case 0x09, 0x0A, 0x0D, 0x2028, 0x2029: result += " "
            case 0..<0x20, 0x7F..<0xA0, 0x061C, 0x200E, 0x200F, 0x202A...0x202E, 0x2066...0x2069, 0xFEFF: result += "\u{FFFD}"
            default: result.unicodeScalars.append(scalar)
            }
            count += 1
        }
        return result
    }
}
