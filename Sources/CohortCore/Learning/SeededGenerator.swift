/// SplitMix64 (Steele, Lea, Flood 2014): the public generator of the protocol. Rows are dealt, weights drawn and batches shuffled
/// with it, so that a peer in any language can follow.
@frozen public struct SeededGenerator: RandomNumberGenerator, Sendable {
    @usableFromInline var state: UInt64

    @inlinable public init(seed: UInt64) { state = seed }

    /// Derives a stream for a purpose: the same seed and purpose give the same stream, different purposes independent ones.
    /// FNV-1a of the purpose's UTF-8 bytes, XORed into the seed, passed once through the generator's mixer.
    public init(seed: UInt64, purpose: String) {
        let hash = purpose.utf8.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01b3 }
        var mixer = SeededGenerator(seed: seed ^ hash)
        state = mixer.next()
    }

    @inlinable public mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    /// Uniform in 0 ..< 1, from the 24 high bits, which a Float holds exactly.
    @inlinable public mutating func nextFloat() -> Float { Float(next() >> 40) * 0x1p-24 }

    /// Uniform in 0 ..< bound: the high half of the 128-bit product (Lemire's method without rejection; the bias is below
    /// bound / 2⁶⁴).
    @inlinable public mutating func next(below bound: Int) -> Int { Int(next().multipliedFullWidth(by: UInt64(bound)).high) }

    /// Fisher–Yates from the last element down.
    @inlinable public mutating func shuffle<Element>(_ elements: inout [Element]) {
        elements.withUnsafeMutableBufferPointer { elements in
            var last = elements.count - 1
            while last > 0 {
                elements.swapAt(last, next(below: last + 1))
                last -= 1
            }
        }
    }
}
