import CohortCore

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// A network of addresses, such as `10.0.0.0/8` or `fd00::/8`; without a length, one address.
public struct AddressNetwork: Hashable, Sendable, CustomStringConvertible {
    /// 4 or 16.
    private let bytes: [UInt8]
    private let length: Int

    /// - Throws: ``CohortError`` `invalid` for a text that names no network.
    public init(_ text: String) throws {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        let length = parts.count == 2 ? Int(parts[1]) : nil
        guard parts.count <= 2, let bytes = Self.bytes(String(parts[0])), parts.count == 1 || length != nil,
            (0...(bytes.count * 8)).contains(length ?? bytes.count * 8)
        else {
            throw CohortError(.invalid, "'\(text.printable(max: 60))' is not a network; write one as 10.0.0.0/8 or fd00::/8")
        }
        self.bytes = bytes
        self.length = length ?? bytes.count * 8
    }

    public func contains(_ address: String) -> Bool {
        guard let other = Self.bytes(address), other.count == bytes.count else { return false }
        return Self.masked(other, length) == Self.masked(bytes, length)
    }

    public var description: String { "\(Self.text(bytes))/\(length)" }

    /// The network that a household or a machine has: the first 24 bits of an IPv4 address, 64 of an IPv6 one.
    public static func around(_ address: String) -> String {
        guard let bytes = bytes(address) else { return address }
        return text(masked(bytes, bytes.count == 4 ? 24 : 64))
    }

    /// An IPv4 address that is written as IPv6 (`::ffff:10.0.0.1`) is an IPv4 address.
    private static func bytes(_ address: String) -> [UInt8]? {
        var four = in_addr()
        if inet_pton(AF_INET, address, &four) == 1 { return withUnsafeBytes(of: four) { Array($0) } }
        var six = in6_addr()
        guard inet_pton(AF_INET6, address, &six) == 1 else { return nil }
        let bytes = withUnsafeBytes(of: six) { Array($0) }
        let isMapped = bytes[..<10].allSatisfy { $0 == 0 } && bytes[10] == 0xff && bytes[11] == 0xff
        return isMapped ? Array(bytes[12...]) : bytes
    }

    private static func masked(_ bytes: [UInt8], _ length: Int) -> [UInt8] {
        bytes.enumerated().map { index, byte in
            let kept = min(max(length - index * 8, 0), 8)
            return kept == 0 ? 0 : byte & (0xff << UInt8(8 - kept))
        }
    }

    private static func text(_ bytes: [UInt8]) -> String {
        if bytes.count == 4 { return bytes.map(String.init).joined(separator: ".") }
        return stride(from: 0, to: bytes.count, by: 2).map { String(Int(bytes[$0]) << 8 | Int(bytes[$0 + 1]), radix: 16) }
            .joined(separator: ":")
    }
}
