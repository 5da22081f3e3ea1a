extension Sequence<UInt8> {
    /// Lowercase hexadecimal.
    public var hexadecimal: String {
        var text = ""
        for byte in self {
            text.unicodeScalars.append(digit(byte >> 4))
            text.unicodeScalars.append(digit(byte & 15))
        }
        return text
    }
}

private func digit(_ value: UInt8) -> Unicode.Scalar {
    Unicode.Scalar(value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10)
}
