/// Bounds of numbers and texts from outside, applied while they are decoded: no later code has to check again, and no arithmetic on them can
/// trap or become infinite.
package enum Bounds {
    package static let epochs = 0...1_000_000
    package static let rounds = 0...1_000_000
    package static let generations = 0...(1 << 40)
    package static let samples = 0...(1 << 40)
    package static let objectBytes = 0...(1 << 50)
    /// Samples a second.
    package static let rate = 0.0...1e12
    package static let seconds = 0.0...1e9
    package static let share = 0.0...1.0
    /// Losses and sums of a model that runs away; larger ones count as this.
    package static let magnitude = 1e30
    /// Characters of a sentence for people.
    package static let sentence = 1_000
}

extension KeyedDecodingContainer {
    private func outOfRange(_ key: Key, value: some Any, range: String) -> DecodingError {
        DecodingError.dataCorruptedError(forKey: key, in: self, debugDescription: "\(value) is out of range; it must be from \(range)")
    }

    package func whole(_ key: Key, in range: ClosedRange<Int>) throws -> Int {
        let value = try decode(Int.self, forKey: key)
        guard range.contains(value) else { throw outOfRange(key, value: value, range: "\(range.lowerBound) to \(range.upperBound)") }
        return value
    }

    package func wholeIfPresent(_ key: Key, in range: ClosedRange<Int>) throws -> Int? {
        try decodeIfPresent(Int.self, forKey: key) == nil ? nil : try whole(key, in: range)
    }

    package func number(_ key: Key, in range: ClosedRange<Double>) throws -> Double {
        let value = try decode(Double.self, forKey: key)
        guard range.contains(value) else { throw outOfRange(key, value: value, range: "\(range.lowerBound) to \(range.upperBound)") }
        return value
    }

    package func numberIfPresent(_ key: Key, in range: ClosedRange<Double>) throws -> Double? {
        try decodeIfPresent(Double.self, forKey: key) == nil ? nil : try number(key, in: range)
    }

    /// Cut to ±``Bounds/magnitude``: a model that runs away is no wrong message.
    package func magnitude(_ key: Key) throws -> Double {
        let value = try decode(Double.self, forKey: key)
        return value.isNaN ? Bounds.magnitude : min(max(value, -Bounds.magnitude), Bounds.magnitude)
    }

    package func magnitudeIfPresent(_ key: Key) throws -> Double? {
        try decodeIfPresent(Double.self, forKey: key) == nil ? nil : try magnitude(key)
    }

    /// An identifier that a server made, a queue's or an object's name: 1 to `max` visible ASCII characters.
    package func name(_ key: Key, max: Int = 100) throws -> String {
        let text = try decode(String.self, forKey: key)
        guard (1...max).contains(text.utf8.count), text.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
            throw DecodingError.dataCorruptedError(
                forKey: key, in: self, debugDescription: "it must be 1 to \(max) visible ASCII characters, without spaces")
        }
        return text
    }

    /// A sentence for people: what a terminal or a log would act on is replaced.
    package func sentence(_ key: Key) throws -> String { try decode(String.self, forKey: key).printable(max: Bounds.sentence) }
}
