/// An object in the store, with what proves it whole.
public struct ObjectReference: Codable, Hashable, Sendable {
    public var key: String
    /// Lowercase hexadecimal.
    public var sha256: String
    public var bytes: Int

    public init(key: String, sha256: String, bytes: Int) {
        self.key = key
        self.sha256 = sha256
        self.bytes = bytes
    }
}
