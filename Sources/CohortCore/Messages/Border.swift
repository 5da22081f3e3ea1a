/// Where numbers and texts of others come in: each is bounded as it is decoded, so that nothing behind has to ask again and no
/// arithmetic on them can trap or become infinite.
enum Border {
    static let epochs = 0...1_000_000
    static let rounds = 0...1_000_000
    static let generations = 0...(1 << 40)
    static let samples = 0...(1 << 40)
    static let objectBytes = 0...(1 << 50)
    /// Samples a second.
    static let rate = 0.0...1e12
    static let seconds = 0.0...1e9
    static let share = 0.0...1.0
    /// Losses and sums of a model that runs away; larger ones count as this.
    static let magnitude = 1e30
    /// Characters of a sentence for people.
    static let sentence = 1_000
}

extension KeyedDecodingContainer {
    private func outOfRange(_ key: Key, value: some Any, range: String) -> DecodingError {
        DecodingError.dataCorruptedError(forKey: key, in: self, debugDescription: "\(value) is out of range; it must be from \(range)")
    }

    func whole(_ key: Key, in range: ClosedRange<Int>) throws -> Int {
        let value = try decode(Int.self, forKey: key)
        guard range.contains(value) else { throw outOfRange(key, value: value, range: "\(range.lowerBound) to \(range.upperBound)") }
        return value
    }

    func wholeIfPresent(_ key: Key, in range: ClosedRange<Int>) throws -> Int? {
        try decodeIfPresent(Int.self, forKey: key) == nil ? nil : try whole(key, in: range)
    }

    func number(_ key: Key, in range: ClosedRange<Double>) throws -> Double {
        let value = try decode(Double.self, forKey: key)
        guard range.contains(value) else { throw outOfRange(key, value: value, range: "\(range.lowerBound) to \(range.upperBound)") }
        return value
    }

    func numberIfPresent(_ key: Key, in range: ClosedRange<Double>) throws -> Double? {
        try decodeIfPresent(Double.self, forKey: key) == nil ? nil : try number(key, in: range)
    }

    /// Cut to ±``Border/magnitude``: a model that runs away is no wrong message.
    func magnitude(_ key: Key) throws -> Double {
        let value = try decode(Double.self, forKey: key)
        return value.isNaN ? Border.magnitude : min(max(value, -Border.magnitude), Border.magnitude)
    }

    func magnitudeIfPresent(_ key: Key) throws -> Double? {
        try decodeIfPresent(Double.self, forKey: key) == nil ? nil : try magnitude(key)
    }

    /// An identifier that a server made, a queue's or an object's name: 1 to `max` visible ASCII characters.
    func name(_ key: Key, max: Int = 100) throws -> String {
        let text = try decode(String.self, forKey: key)
        guard (1...max).contains(text.utf8.count), text.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
            throw DecodingError.dataCorruptedError(
                forKey: key, in: self, debugDescription: "it must be 1 to \(max) visible ASCII characters, without spaces")
        }
        return text
    }

    /// A sentence for people: what a terminal or a log would act on is replaced.
    func sentence(_ key: Key) throws -> String { try decode(String.self, forKey: key).printable(max: Border.sentence) }
}

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
