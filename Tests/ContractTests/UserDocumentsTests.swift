import CohortCore
import CohortSession
import TestSupport
import Testing

@Suite
struct UserDocumentsTests {
    @Test(arguments: DocumentStore.all)
    func `A user is found by id and by e-mail, whatever its case`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            let user = User.sample(email: "Ada@Example.org")
            try await documents.insert(user)
            var stored = user
            stored.email = "ada@example.org"
            #expect(try await documents.user(id: user.id) == stored)
            #expect(try await documents.user(email: "ADA@example.ORG") == stored)
            #expect(try await documents.user(id: "unknown") == nil)
            #expect(try await documents.user(email: "unknown@example.org") == nil)
        }
    }

    @Test(arguments: DocumentStore.all)
    func `An e-mail registers once, and the second time is refused`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            try await documents.insert(User.sample(id: "1", email: "ada@example.org"))
            let said = await expectError(.conflict) { try await documents.insert(User.sample(id: "2", email: "ADA@example.org")) }
            #expect(said == "ada@example.org is already registered")
            #expect(try await documents.user(id: "2") == nil)
        }
    }

    @Test(arguments: DocumentStore.all)
    func `A password is changed, and when that was is known`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            var user = User.sample(email: "ada@example.org")
            try await documents.insert(user)
            #expect(try await documents.setPassword(userId: user.id, hash: "$2b$new", at: moment(7.25)))
            user.passwordHash = "$2b$new"
            user.passwordChangedAt = moment(7.25)
            #expect(try await documents.user(id: user.id) == user)
            #expect(try await !documents.setPassword(userId: "unknown", hash: "x", at: moment(8)))
            // As an import writes it.
            var other = User.sample(id: "other", email: "bob@example.org")
            other.passwordChangedAt = moment(3)
            try await documents.insert(other)
            #expect(try await documents.user(id: "other") == other)
        }
    }

    @Test(arguments: DocumentStore.all)
    func `Of fifty who register the same e-mail at once, one does`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            let successes = await withTaskGroup(of: Bool.self) { group in
                for index in 0..<50 {
                    group.addTask { (try? await documents.insert(User.sample(id: "\(index)"))) != nil }
                }
                return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
            }
            #expect(successes == 1)
        }
    }

    @Test(arguments: DocumentStore.all)
    func `Join tokens are kept by user, and revoked by their user only`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            let first = JoinToken.sample(id: "t1", createdAt: moment(0))
            var second = JoinToken.sample(id: "t2", createdAt: moment(1))
            second.expiresAt = nil
            for token in [first, second, JoinToken.sample(id: "t3", userId: "bob")] { try await documents.insert(token) }
            #expect(try await documents.joinTokens(userId: "ada") == [first, second])
            #expect(try await documents.joinTokens(userId: "unknown") == [])
            #expect(try await documents.joinToken(id: "t2") == second)
            #expect(try await documents.joinToken(id: "t9") == nil)

            #expect(try await documents.revokeJoinToken(id: "t1", userId: "bob", at: moment(5)) == false)
            #expect(try await documents.revokeJoinToken(id: "t9", userId: "ada", at: moment(5)) == false)
            #expect(try await documents.joinToken(id: "t1") == first)
            #expect(try await documents.revokeJoinToken(id: "t1", userId: "ada", at: moment(5)))
            #expect(try await documents.joinToken(id: "t1")?.revokedAt == moment(5))
            #expect(try await documents.revokeJoinToken(id: "t1", userId: "ada", at: moment(9)))
            #expect(try await documents.joinToken(id: "t1")?.revokedAt == moment(5), "the first revocation counts")
            #expect(try await documents.joinToken(id: "t2")?.revokedAt == nil)
        }
    }

    @Test(arguments: DocumentStore.all)
    func `A deleted user is gone with the user's tokens, and no one else's`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            try await documents.insert(User.sample(id: "ada", email: "ada@example.org"))
            try await documents.insert(User.sample(id: "bob", email: "bob@example.org"))
            for token in [JoinToken.sample(id: "t1", userId: "ada"), JoinToken.sample(id: "t2", userId: "bob")] {
                try await documents.insert(token)
            }
            for _ in 0..<2 { try await documents.deleteUser(id: "ada") }
            #expect(try await documents.user(id: "ada") == nil)
            #expect(try await documents.user(email: "ada@example.org") == nil)
            #expect(try await documents.joinToken(id: "t1") == nil)
            #expect(try await documents.joinTokens(userId: "ada").isEmpty)
            #expect(try await documents.user(id: "bob") != nil)
            #expect(try await documents.joinToken(id: "t2") != nil)
            try await documents.insert(User.sample(id: "new", email: "ada@example.org"))
        }
    }

    @Test(arguments: DocumentStore.all)
    func `Sign-ins are kept by user, newest first, and ended by their user only`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            let first = SignIn.sample(id: "s1", createdAt: moment(0))
            let second = SignIn.sample(id: "s2", createdAt: moment(1.125))
            let other = SignIn.sample(id: "s3", userId: "bob", createdAt: moment(2))
            for signIn in [first, second, other] { try await documents.insert(signIn) }
            let said = await expectError(.conflict) { try await documents.insert(SignIn.sample(id: "s1", userId: "bob")) }
            #expect(said == "there is a sign-in s1 already")
            #expect(try await documents.signIns(userId: "ada") == [second, first])
            #expect(try await documents.signIns(userId: "unknown") == [])
            #expect(try await documents.signIn(id: "s2") == second)

            #expect(try await documents.deleteSignIn(id: "s1", userId: "bob") == false)
            #expect(try await documents.deleteSignIn(id: "s9", userId: "ada") == false)
            #expect(try await documents.signIn(id: "s1") == first)
            #expect(try await documents.deleteSignIn(id: "s1", userId: "ada"))
            #expect(try await documents.deleteSignIn(id: "s1", userId: "ada") == false)
            #expect(try await documents.signIn(id: "s1") == nil)

            try await documents.deleteSignIns(userId: "ada")
            #expect(try await documents.signIns(userId: "ada") == [])
            #expect(try await documents.signIns(userId: "bob") == [other])
            try await documents.insert(User.sample(id: "bob", email: "bob@example.org"))
            try await documents.deleteUser(id: "bob")
            #expect(try await documents.signIn(id: "s3") == nil)
        }
    }

    @Test(arguments: DocumentStore.all)
    func `Expired sign-ins of all users are removed`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            for (id, user, seconds) in [("s1", "ada", 10.0), ("s2", "ada", 10.001), ("s3", "bob", 9.5)] {
                var signIn = SignIn.sample(id: id, userId: user)
                signIn.expiresAt = moment(seconds)
                try await documents.insert(signIn)
            }
            try await documents.deleteSignIns(expiredBy: moment(10))
            #expect(try await documents.signIns(userId: "ada").map(\.id) == ["s2"])
            #expect(try await documents.signIns(userId: "bob") == [])
        }
    }

    @Test(arguments: DocumentStore.all)
    func `Of more sign-ins than are kept, the oldest go`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            try await documents.insert(SignIn.sample(id: "bob's", userId: "bob", createdAt: moment(-1)))
            for number in 0..<SignIn.maxPerUser + 2 {
                try await documents.insert(SignIn.sample(id: "s\(number)", createdAt: moment(Double(number))))
            }
            let kept = try await documents.signIns(userId: "ada")
            #expect(kept.count == SignIn.maxPerUser && kept.last?.id == "s2")
            #expect(try await documents.signIns(userId: "bob").count == 1)
        }
    }
}
