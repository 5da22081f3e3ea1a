import CohortCore
public import CohortSession
public import FoundationEssentials

extension MongoDocuments {
    public func insert(_ user: User) async throws {
        var user = user
        user.email = user.email.lowercased()
        do {
            try await insert(try .document(user.id, user), into: "users")
        } catch let fault as MongoFault where fault.code == MongoFault.duplicate {
            throw CohortError(.conflict, "\(user.email) is already registered")
        }
    }

    public func user(id: String) async throws -> User? { try await one(User.self, in: "users", where: "{\"_id\":\(id)}") }

    public func user(email: String) async throws -> User? {
        try await one(User.self, in: "users", where: "{\"email\":\(email.lowercased())}")
    }

    public func setPassword(userId: String, hash: String, at date: Date) async throws -> Bool {
        try await update(
            in: "users", where: "{\"_id\":\(userId)}",
            change: "{\"$set\":{\"password_hash\":\(hash),\"password_changed_at\":\(try MongoJSON(date))}}") == 1
    }

    /// The tokens first: cut short between the two, the account is there and can be deleted again.
    public func deleteUser(id: String) async throws {
        for token in try await joinTokens(userId: id) { try await delete("join_tokens", "{\"_id\":\(token.id)}") }
        try await deleteSignIns(userId: id)
        try await delete("users", "{\"_id\":\(id)}")
    }

    public func insert(_ token: JoinToken) async throws {
        do {
            try await insert(try .document(token.id, token), into: "join_tokens")
        } catch let fault as MongoFault where fault.code == MongoFault.duplicate {
            throw CohortError(.conflict, "there is a join token \(token.id) already")
        }
    }

    public func joinToken(id: String) async throws -> JoinToken? {
        try await one(JoinToken.self, in: "join_tokens", where: "{\"_id\":\(id)}")
    }

    /// Oldest first.
    public func joinTokens(userId: String) async throws -> [JoinToken] {
        try await connection.find(in: "join_tokens", where: "{\"user_id\":\(userId)}", options: "{\"sort\":{\"created_at\":1,\"_id\":1}}")
            .map { try decode(JoinToken.self, $0) }
    }

    /// A token that is revoked already keeps its first date.
    public func revokeJoinToken(id: String, userId: String, at date: Date) async throws -> Bool {
        let mine: MongoJSON = "\"_id\":\(id),\"user_id\":\(userId)"
        if try await update(
            in: "join_tokens", where: "{\(mine),\"revoked_at\":null}", change: "{\"$set\":{\"revoked_at\":\(try MongoJSON(date))}}") == 1
        {
            return true
        }
        return try await one(JoinToken.self, in: "join_tokens", where: "{\(mine)}") != nil
    }

    public func insert(_ signIn: SignIn) async throws {
        do {
            try await insert(try .document(signIn.id, signIn), into: "sign_ins")
        } catch let fault as MongoFault where fault.code == MongoFault.duplicate {
            throw CohortError(.conflict, "there is a sign-in \(signIn.id) already")
        }
        for old in try await signIns(userId: signIn.userId).dropFirst(SignIn.maxPerUser) {
            try await delete("sign_ins", "{\"_id\":\(old.id)}")
        }
    }

    public func signIn(id: String) async throws -> SignIn? { try await one(SignIn.self, in: "sign_ins", where: "{\"_id\":\(id)}") }

    public func signIns(userId: String) async throws -> [SignIn] {
        try await connection.find(in: "sign_ins", where: "{\"user_id\":\(userId)}", options: "{\"sort\":{\"created_at\":-1,\"_id\":-1}}")
            .map { try decode(SignIn.self, $0) }
    }

    public func deleteSignIn(id: String, userId: String) async throws -> Bool {
        try await delete("sign_ins", "{\"_id\":\(id),\"user_id\":\(userId)}") == 1
    }

    public func deleteSignIns(userId: String) async throws {
        try await delete("sign_ins", "{\"user_id\":\(userId)}")
    }

    public func deleteSignIns(expiredBy date: Date) async throws {
        // Dates are texts of one form and length: their order is that of time. To the millisecond they are compared here.
        let filter: MongoJSON = "{\"expires_at\":{\"$lt\":\(try MongoJSON(date.addingTimeInterval(1)))}}"
        for stored in try await connection.find(in: "sign_ins", where: filter, options: "{}") {
            let signIn = try decode(SignIn.self, stored)
            if signIn.expiresAt <= date { try await delete("sign_ins", "{\"_id\":\(signIn.id)}") }
        }
    }
}
