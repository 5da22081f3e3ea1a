public import CohortSession
public import FoundationEssentials

/// Accounts and join tokens.
extension API {
    public struct Signup: Codable, Sendable {
        public var email: String
        public var password: String
        public var name: String?
        /// Needed where sign-up is by invitation.
        public var invitation: String?
        public init(email: String, password: String, name: String?, invitation: String? = nil) {
            self.email = email
            self.password = password
            self.name = name
            self.invitation = invitation
        }
    }

    public struct Signin: Codable, Sendable {
        public var email: String
        public var password: String
        public init(email: String, password: String) {
            self.email = email
            self.password = password
        }
    }

    /// The password that confirms an irreversible request.
    public struct Confirmation: Codable, Sendable {
        public var password: String

        public init(password: String) { self.password = password }
    }

    public struct NewPassword: Codable, Sendable {
        /// The one until now.
        public var password: String
        public var newPassword: String
        public init(password: String, newPassword: String) {
            self.password = password
            self.newPassword = newPassword
        }
    }

    public struct AccessToken: Codable, Sendable {
        public var accessToken: String
        public var tokenType: String
        /// Seconds.
        public var expiresIn: Int
        public init(accessToken: String, expiresIn: Int) {
            self.accessToken = accessToken
            self.tokenType = "bearer"
            self.expiresIn = expiresIn
        }
    }

    public struct Account: Codable, Sendable {
        public var id: String
        public var email: String
        public var name: String
        public var createdAt: Date
        public init(_ user: User) {
            id = user.id
            email = user.email
            name = user.name
            createdAt = user.createdAt
        }
    }

    /// One of one's sign-ins.
    public struct SignInView: Codable, Sendable {
        public var id: String
        /// The `User-Agent` of the client that signed in.
        public var client: String
        /// The network that it came from.
        public var network: String
        public var createdAt: Date
        public var expiresAt: Date
        /// `true` for the sign-in with which the request was made.
        public var current: Bool

        public init(_ signIn: SignIn, current: Bool) {
            id = signIn.id
            client = signIn.client
            network = signIn.network
            createdAt = signIn.createdAt
            expiresAt = signIn.expiresAt
            self.current = current
        }
    }

    public struct NewToken: Codable, Sendable {
        public var name: String?
        /// Seconds; nil: does not expire.
        public var expiresIn: Int?
        public init(name: String? = nil, expiresIn: Int? = nil) {
            self.name = name
            self.expiresIn = expiresIn
        }
    }

    /// A join token, or one of the list, where `token` is absent: it is shown once.
    public struct Token: Codable, Sendable {
        public var id: String
        public var name: String
        public var createdAt: Date
        public var expiresAt: Date?
        public var revokedAt: Date?
        public var token: String?
        public init(_ record: JoinToken, token: String? = nil) {
            id = record.id
            name = record.name
            createdAt = record.createdAt
            expiresAt = record.expiresAt
            revokedAt = record.revokedAt
            self.token = token
        }
    }
}
