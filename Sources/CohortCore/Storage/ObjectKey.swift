/// A key that was checked: it names a place inside the store on every file system, and never one outside.
public struct ObjectKey: Hashable, Sendable {
    public let text: String
    /// The part before the last slash; empty for a key at the top.
    public let folder: String
    /// The part after it.
    public let name: String

    /// - Throws: ``CohortError`` `invalid` unless `text` is 1 to 512 characters in parts of 1 to 128 between single slashes, of the
    ///   letters a-z and A-Z, digits, `.`, `_`, `-`, `+`, `=`, `@`, and no part begins with a dot (so neither `..` nor one of the store's own files).
    public init(_ text: String) throws {
        guard !text.isEmpty, text.utf8.count <= 512 else {
            throw CohortError(.invalid, "an object key has 1 to 512 characters; this one has \(text.utf8.count)")
        }
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        for part in parts { try Self.check(part, of: text) }
        self.text = text
        name = parts.last.map(String.init) ?? text
        folder = parts.dropLast().joined(separator: "/")
    }

    /// - Throws: ``CohortError`` `invalid` for what no key can begin with; an empty prefix is fine.
    public static func check(prefix: String) throws {
        let parts = prefix.split(separator: "/", omittingEmptySubsequences: false)
        for part in parts.dropLast() { try check(part, of: prefix) }
        if let last = parts.last, !last.isEmpty { try check(last, of: prefix) }
    }

    private static func check(_ part: Substring, of text: String) throws {
        guard !part.isEmpty, part.utf8.count <= 128, part.utf8.first != UInt8(ascii: "."), part.utf8.allSatisfy(isAllowed) else {
            throw CohortError(
                .invalid,
                "'\(text.prefix(100))' is not a valid object key: every part between slashes has 1 to 128 letters, digits or . _ - + = @, "
                    + "and does not begin with a dot")
        }
    }

    private static func isAllowed(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        case UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "+"), UInt8(ascii: "="), UInt8(ascii: "@"): true
        default: false
        }
    }
}
