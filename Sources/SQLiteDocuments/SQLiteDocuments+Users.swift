import CohortCore
public import CohortSession
public import FoundationEssentials
import GRDB

extension SQLiteDocuments {
    public func insert(_ user: User) async throws {
        try await write { database in
            do {
                try database.run(
                    "INSERT INTO users (id, email, name, password_hash, created_at, password_changed_at) VALUES (?, ?, ?, ?, ?, ?)",
                    [
                        user.id, user.email.lowercased(), user.name, user.passwordHash, user.createdAt.milliseconds,
                        user.passwordChangedAt?.milliseconds,
                    ])
            } catch let error as DatabaseError where error.isDuplicate {
                throw CohortError(.conflict, "\(user.email.lowercased()) is already registered")
            }
        }
    }

    public func user(id: String) async throws -> User? {
        try await read { database in try database.row("SELECT * FROM users WHERE id = ?", [id]).map(User.init(row:)) }
    }

    public func user(email: String) async throws -> User? {
        try await read { database in
            try database.row("SELECT * FROM users WHERE email = ?", [email.lowercased()]).map(User.init(row:))
        }
    }

    public func setPassword(userId: String, hash: String, at date: Date) async throws -> Bool {
        try await write { database in
            try database.run(
                "UPDATE users SET password_hash = ?, password_changed_at = ? WHERE id = ?", [hash, date.milliseconds, userId]) == 1
        }
    }

    public func deleteUser(id: String) async throws {
        try await write { database in
            try database.run("DELETE FROM join_tokens WHERE user_id = ?", [id])
            try database.run("DELETE FROM sign_ins WHERE user_id = ?", [id])
            try database.run("DELETE FROM users WHERE id = ?", [id])
        }
    }

    public func insert(_ token: JoinToken) async throws {
        try await write { database in
            do {
                try database.run(
                    "INSERT INTO join_tokens (id, user_id, name, created_at, expires_at, revoked_at) VALUES (?, ?, ?, ?, ?, ?)",
                    [
                        token.id, token.userId, token.name, token.createdAt.milliseconds, token.expiresAt?.milliseconds,
                        token.revokedAt?.milliseconds,
                    ])
            } catch let error as DatabaseError where error.isDuplicate {
                throw CohortError(.conflict, "there is a join token \(token.id) already")
            }
        }
    }

    public func joinToken(id: String) async throws -> JoinToken? {
        try await read { database in try database.row("SELECT * FROM join_tokens WHERE id = ?", [id]).map(JoinToken.init(row:)) }
    }

    /// Oldest first.
    public func joinTokens(userId: String) async throws -> [JoinToken] {
        try await read { database in
            try database.rows("SELECT * FROM join_tokens WHERE user_id = ? ORDER BY created_at, id", [userId]).map(JoinToken.init(row:))
        }
    }

    /// A token that is revoked already keeps its first date.
    public func revokeJoinToken(id: String, userId: String, at date: Date) async throws -> Bool {
        try await write { database in
            try database.run(
                "UPDATE join_tokens SET revoked_at = coalesce(revoked_at, ?) WHERE id = ? AND user_id = ?",
                [date.milliseconds, id, userId]) == 1
        }
    }

    public func insert(_ signIn: SignIn) async throws {
        try await write { database in
            do {
                try database.run(
                    "INSERT INTO sign_ins (id, user_id, client, network, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
                    [
                        signIn.id, signIn.userId, signIn.client, signIn.network, signIn.createdAt.milliseconds,
                        signIn.expiresAt.milliseconds,
                    ])
            } catch let error as DatabaseError where error.isDuplicate {
                throw CohortError(.conflict, "there is a sign-in \(signIn.id) already")
            }
            try database.run(
                """
                DELETE FROM sign_ins WHERE id IN
                    (SELECT id FROM sign_ins WHERE user_id = ? ORDER BY created_at DESC, id DESC LIMIT -1 OFFSET ?)
                """, [signIn.userId, SignIn.maxPerUser])
        }
    }

    public func signIn(id: String) async throws -> SignIn? {
        try await read { database in try database.row("SELECT * FROM sign_ins WHERE id = ?", [id]).map(SignIn.init(row:)) }
    }

    public func signIns(userId: String) async throws -> [SignIn] {
        try await read { database in
            try database.rows("SELECT * FROM sign_ins WHERE user_id = ? ORDER BY created_at DESC, id DESC", [userId])
                .map(SignIn.init(row:))
        }
    }

    public func deleteSignIn(id: String, userId: String) async throws -> Bool {
        try await write { database in try database.run("DELETE FROM sign_ins WHERE id = ? AND user_id = ?", [id, userId]) == 1 }
    }

    public func deleteSignIns(userId: String) async throws {
        try await write { database in _ = try database.run("DELETE FROM sign_ins WHERE user_id = ?", [userId]) }
    }

    public func deleteSignIns(expiredBy date: Date) async throws {
        try await write { database in _ = try database.run("DELETE FROM sign_ins WHERE expires_at <= ?", [date.milliseconds]) }
    }
}

extension SignIn {
    fileprivate init(row: Row) {
        self.init(
            id: row["id"], userId: row["user_id"], client: row["client"], network: row["network"],
            createdAt: Date(milliseconds: row["created_at"]), expiresAt: Date(milliseconds: row["expires_at"]))
    }
}

extension User {
    init(row: Row) {
        self.init(
            id: row["id"], email: row["email"], name: row["name"], passwordHash: row["password_hash"],
            createdAt: Date(milliseconds: row["created_at"]),
            passwordChangedAt: (row["password_changed_at"] as Int64?).map(Date.init(milliseconds:)))
    }
}

extension JoinToken {
    fileprivate init(row: Row) {
        self.init(
            id: row["id"], userId: row["user_id"], name: row["name"], createdAt: Date(milliseconds: row["created_at"]),
            expiresAt: (row["expires_at"] as Int64?).map(Date.init(milliseconds:)),
            revokedAt: (row["revoked_at"] as Int64?).map(Date.init(milliseconds:)))
    }
}
