import CohortCore
public import FoundationEssentials

/// What the owner of a session writes on it while and after it runs. The stores keep it beside the session's document: no coordinator changes it.
public struct SessionLabels: Codable, Hashable, Sendable {
    /// Replaces the note of the settings; nil: that one is shown.
    public var note: String?
    public var tags: [String]
    public var links: [SharedLink]
    /// Rises with every stored change; a change of another revision is refused.
    public var revision: Int

    public init(note: String? = nil, tags: [String] = [], links: [SharedLink] = [], revision: Int = 0) {
        self.note = note
        self.tags = tags
        self.links = links
        self.revision = revision
    }

    /// The maximum number of tags, and of characters of each.
    public static let maxTags = 10
    public static let maxTagLength = 30
    /// The maximum number of characters of a note.
    public static let maxNoteLength = 2_000
    /// The maximum number of links that have not expired.
    public static let maxLinks = 20

    /// - Throws: ``CohortError`` `invalid`, with what would be right.
    public mutating func setTags(_ tags: [String]) throws {
        var kept: [String] = []
        for tag in tags where !kept.contains(tag) {
            guard !tag.isEmpty, tag.count <= Self.maxTagLength, tag == tag.printable(max: Self.maxTagLength), !tag.contains(",") else {
                throw CohortError(
                    .invalid,
                    "the tag '\(tag.printable(max: 40))' is not one: a tag has 1 to \(Self.maxTagLength) characters, without commas and line breaks"
                )
            }
            kept.append(tag)
        }
        guard kept.count <= Self.maxTags else {
            throw CohortError(.invalid, "there are \(kept.count) tags; a session has at most \(Self.maxTags)")
        }
        self.tags = kept
    }

    /// - Throws: ``CohortError`` `invalid`, with what would be right.
    public mutating func setNote(_ note: String) throws {
        guard note.count <= Self.maxNoteLength else {
            throw CohortError(.invalid, "note has \(note.count) characters; it must have at most \(Self.maxNoteLength)")
        }
        self.note = note
    }
}

/// A link with which people without an account see a session. Its secret is known to those who have the link; stored is a hash of it.
public struct SharedLink: Codable, Hashable, Sendable, Identifiable {
    public let id: String
    /// SHA-256 of the secret, 64 hexadecimal digits.
    public var secretSha256: String
    public var createdAt: Date
    public var expiresAt: Date
    /// Whoever has the link may try the model.
    public var allowsPredictions: Bool

    public init(id: String, secretSha256: String, createdAt: Date, expiresAt: Date, allowsPredictions: Bool) {
        self.id = id
        self.secretSha256 = secretSha256
        self.createdAt = createdAt
        self.expiresAt = expiresAt
        self.allowsPredictions = allowsPredictions
    }
}
