public import FoundationEssentials

/// A person with an account.
public struct User: Codable, Hashable, Sendable, Identifiable {
    public let id: String
    /// Lowercased; unique.
    public var email: String
    public var name: String
    /// bcrypt, `$2b$`.
    public var passwordHash: String
    public var createdAt: Date
    /// Sign-ins from before it hold no more; nil: the password is the first.
    public var passwordChangedAt: Date?

    public init(id: String, email: String, name: String, passwordHash: String, createdAt: Date, passwordChangedAt: Date? = nil) {
        self.id = id
        self.email = email
        self.name = name
        self.passwordHash = passwordHash
        self.createdAt = createdAt
        self.passwordChangedAt = passwordChangedAt
    }
}

/// A permission to register peers, and nothing else. The token itself is a signed JWT that names this record; revoking the
/// record ends it.
public struct JoinToken: Codable, Hashable, Sendable, Identifiable {
    public let id: String
    public var userId: String
    public var name: String
    public var createdAt: Date
    /// nil: does not expire.
    public var expiresAt: Date?
    public var revokedAt: Date?

    public init(id: String, userId: String, name: String, createdAt: Date, expiresAt: Date?, revokedAt: Date? = nil) {
        self.id = id
        self.userId = userId
        self.name = name
        self.createdAt = createdAt
        self.expiresAt = expiresAt
        self.revokedAt = revokedAt
    }
}

/// One sign-in of a person: in one browser, or on one machine. Its access token names this record, and holds as long as the record is there.
public struct SignIn: Codable, Hashable, Sendable, Identifiable {
    public let id: String
    public var userId: String
    /// The client, from its `User-Agent`: at most ``clientLength`` printable characters.
    public var client: String
    /// The network that it came from, such as `192.0.2.0`.
    public var network: String
    public var createdAt: Date
    public var expiresAt: Date

    public static let clientLength = 160
    /// Sign-ins of one user that are kept; the oldest end with the ones beyond.
    public static let maxPerUser = 200

    public init(id: String, userId: String, client: String, network: String, createdAt: Date, expiresAt: Date) {
        self.id = id
        self.userId = userId
        self.client = client
        self.network = network
        self.createdAt = createdAt
        self.expiresAt = expiresAt
    }
}
