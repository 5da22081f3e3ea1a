/// A cell of a table.
enum Cell {
    /// Texts that mean "no value", in any case of letters. An infinity is none to learn from, either.
    private static let missing: Set<String> = [
        "", "na", "n/a", "#n/a", "<na>", "nan", "null", "none", "?", "inf", "+inf", "-inf", "infinity", "-infinity",
    ]

    /// - Parameter none: whether `None` is one, too; in a column of words it is a word.
    static func isMissing(_ bytes: CellBytes, none: Bool = true) -> Bool {
        guard none || !isNone(bytes) else { return false }
        guard let first = bytes.first else { return true }
        // Most values can be told from their first byte.
        guard bytes.count <= 9, "nNiI#<?+-".utf8.contains(first) else { return false }
        return missing.contains(String(decoding: bytes, as: UTF8.self).lowercased())
    }

    static func isNone(_ bytes: CellBytes) -> Bool {
        bytes.count == 4 && bytes[0] | 0x20 == 0x6e && bytes[1] | 0x20 == 0x6f && bytes[2] | 0x20 == 0x6e && bytes[3] | 0x20 == 0x65
    }

    /// A decimal number such as `-12.5` or `1e-3`; nil for everything else, infinities and hexadecimal included.
    /// - Parameter comma: `3,5` is a number, too: files with `;` between fields have such.
    static func number(_ bytes: CellBytes, comma: Bool = false) -> Double? {
        var index = bytes.startIndex
        let end = bytes.endIndex
        guard index < end else { return nil }
        var isNegative = false
        if bytes[index] == 0x2d || bytes[index] == 0x2b {
            isNegative = bytes[index] == 0x2d
            index += 1
        }
        var mantissa: UInt64 = 0
        var digits = 0
        var exponent = 0
        var hasDigits = false
        while index < end, case let digit = bytes[index] &- 0x30, digit < 10 {
            guard digits < 18 else { return slow(bytes, comma: comma) }
            hasDigits = true
            mantissa = mantissa * 10 + UInt64(digit)
            if mantissa > 0 { digits += 1 }
            index += 1
        }
        if index < end, bytes[index] == 0x2e || (comma && bytes[index] == 0x2c) {
            index += 1
            while index < end, case let digit = bytes[index] &- 0x30, digit < 10 {
                guard digits < 18, exponent > -22 else { return slow(bytes, comma: comma) }
                hasDigits = true
                mantissa = mantissa * 10 + UInt64(digit)
                if mantissa > 0 { digits += 1 }
                exponent -= 1
                index += 1
            }
        }
        guard hasDigits else { return nil }
        // Both are exact, so their quotient is rounded once: the nearest double.
        guard index == end, mantissa < 1 << 53 else { return slow(bytes, comma: comma) }
        let value = exponent < 0 ? Double(mantissa) / powersOfTen[-exponent] : Double(mantissa)
        return isNegative ? -value : value
    }

    static func isMissing(_ text: String) -> Bool { text.withBytes { isMissing($0) } }

    static func number(_ text: String, comma: Bool = false) -> Double? { text.withBytes { number($0, comma: comma) } }

    /// Returns whether a number is written like a code, with a 0 in front of another digit: 02116.
    static func isCode(_ text: String) -> Bool {
        let digits = text.utf8.prefix(2)
        return digits.count == 2 && digits.first == 0x30 && digits.last.map { $0 &- 0x30 < 10 } == true
    }

    /// The one name of a class that is a number: `1`, `1.0` and `01` are the same.
    static func label(_ number: Double) -> String {
        number == number.rounded() && abs(number) < 1e15 ? "\(Int(number))" : "\(number)"
    }

    private static let powersOfTen: [Double] = (0...22).map { (0..<$0).reduce(1.0) { value, _ in value * 10 } }

    private static func slow(_ bytes: CellBytes, comma: Bool) -> Double? {
        // `Double(_:)` would take "inf", "nan" and "0x1p3", too.
        guard bytes.count <= 400 else { return nil }
        var text: [UInt8] = []
        for byte in bytes {
            switch byte {
            case 0x30...0x39, 0x2b, 0x2d, 0x2e, 0x45, 0x65: text.append(byte)
            case 0x2c where comma: text.append(0x2e)
            default: return nil
            }
        }
        guard let value = Double(String(decoding: text, as: UTF8.self)), value.isFinite else { return nil }
        return value
    }
}
