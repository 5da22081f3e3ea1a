#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// What a cell of a table holds.
enum Cell {
    /// Texts that mean "no value", in any case of letters.
    private static let missing: Set<String> = ["", "na", "n/a", "nan", "null", "none", "?"]

    static func isMissing(_ bytes: ArraySlice<UInt8>) -> Bool {
        if bytes.isEmpty { return true }
        if bytes.count > 4 { return false }
        return missing.contains(String(decoding: bytes, as: UTF8.self).lowercased())
    }

    static func isMissing(_ text: String) -> Bool { isMissing(Array(text.utf8)[...]) }

    /// A decimal number such as `-12.5` or `1e-3`; nil for everything else, infinities and hexadecimal included.
    static func number(_ bytes: ArraySlice<UInt8>) -> Double? {
        var index = bytes.startIndex
        let end = bytes.endIndex
        guard index < end else { return nil }
        var negative = false
        if bytes[index] == 0x2d || bytes[index] == 0x2b {
            negative = bytes[index] == 0x2d
            index += 1
        }
        var mantissa: UInt64 = 0
        var digits = 0
        var exponent = 0
        var seen = false
        while index < end, case let digit = bytes[index] &- 0x30, digit < 10 {
            seen = true
            if digits < 18 {
                mantissa = mantissa * 10 + UInt64(digit)
                if mantissa > 0 { digits += 1 }
            } else {
                return slow(bytes)
            }
            index += 1
        }
        if index < end, bytes[index] == 0x2e {
            index += 1
            while index < end, case let digit = bytes[index] &- 0x30, digit < 10 {
                seen = true
                guard digits < 18 else { return slow(bytes) }
                mantissa = mantissa * 10 + UInt64(digit)
                if mantissa > 0 { digits += 1 }
                exponent -= 1
                index += 1
            }
        }
        guard seen else { return nil }
        if index < end { return slow(bytes) }
        // Both are exact, so their quotient is rounded once: the nearest double.
        guard mantissa < 1 << 53, exponent >= -22 else { return slow(bytes) }
        let value = exponent < 0 ? Double(mantissa) / powersOfTen[-exponent] : Double(mantissa)
        return negative ? -value : value
    }

    private static let powersOfTen: [Double] = (0...22).map { (0..<$0).reduce(1.0) { value, _ in value * 10 } }

    private static func slow(_ bytes: ArraySlice<UInt8>) -> Double? {
        // strtod would take "inf", "nan", "0x1p3" and leading spaces, too.
        for byte in bytes where !(byte &- 0x30 < 10 || [0x2b, 0x2d, 0x2e, 0x45, 0x65].contains(byte)) { return nil }
        guard let value = Double(String(decoding: bytes, as: UTF8.self)), value.isFinite else { return nil }
        return value
    }
}
