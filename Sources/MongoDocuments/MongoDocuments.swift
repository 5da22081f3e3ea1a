import CohortCore
public import CohortSession
import FoundationEssentials
import Synchronization

/// The document store in a MongoDB, for any number of servers and coordinators beside each other.
///
/// Documents are those of the embedded store, with the fields of the API, under their id as `_id`; dates are ISO 8601 texts with milliseconds.
/// What the store itself needs stands in `_store`. Every change is one write of one document under a filter, which any MongoDB makes atomic:
/// no transactions, so a server that stands alone will do.
public final class MongoDocuments: Documents {
    let connection: MongoConnection
    private let numbers = Mutex<Int>(0)

    /// Connects, and makes the indexes.
    /// - Throws: ``CohortError`` `invalid` for an invalid URI, `unavailable` when the server cannot be reached or refuses the login.
    public init(uri: String, setting: String) async throws {
        connection = try MongoConnection(uri, setting: setting)
        do {
            try await makeIndexes()
        } catch {
            await connection.close()
            throw error
        }
    }

    public func ready() async throws { _ = try await connection.read("{\"ping\":1}") }

    public func close() async throws { await connection.close() }

    private func makeIndexes() async throws {
        let indexes: [(collection: String, indexes: MongoJSON)] = [
            ("users", "[{\"key\":{\"email\":1},\"name\":\"email\",\"unique\":true}]"),
            ("join_tokens", "[{\"key\":{\"user_id\":1,\"created_at\":1},\"name\":\"of_user\"}]"),
            (
                "sign_ins",
                """
                [{"key":{"user_id":1,"created_at":-1},"name":"of_user"},{"key":{"expires_at":1},"name":"by_expiry"}]
                """
            ),
            (
                "peers",
                """
                [{"key":{"session_id":1},"name":"of_session"},{"key":{"status":1,"name":1},"name":"by_status"},
                 {"key":{"name":1},"name":"by_name"},{"key":{"token_id":1,"status":1},"name":"of_token"}]
                """
            ),
            (
                "sessions",
                """
                [{"key":{"owner_id":1,"created_at":-1},"name":"of_owner"},{"key":{"_store.unfinished":1,"created_at":1},"name":"unfinished"},
                 {"key":{"upload.key":1},"name":"upload_key","sparse":true}]
                """
            ),
            (
                "model_versions",
                "[{\"key\":{\"owner_id\":1,\"title\":1,\"version\":-1},\"name\":\"of_title\",\"unique\":true}]"
            ),
            ("rounds", "[{\"key\":{\"session_id\":1,\"round\":1},\"name\":\"of_session\"}]"),
            ("answers", "[{\"key\":{\"session_id\":1,\"peer_id\":1},\"name\":\"of_session\"}]"),
            ("metrics", "[{\"key\":{\"session_id\":1,\"time\":1},\"name\":\"of_session\"}]"),
        ]
        // Of versions in which no two sessions had one upload.
        do { _ = try await connection.write("{\"dropIndexes\":\"sessions\",\"index\":\"upload\"}") } catch let fault as MongoFault
            where MongoFault.nothingToDrop.contains(fault.code)
        {}
        for (collection, indexes) in indexes {
            _ = try await connection.write("{\"createIndexes\":\(collection),\"indexes\":\(indexes)}")
        }
    }

    /// Rises: documents of the same millisecond stay in the order in which they came.
    func nextNumber() -> Int {
        let now = Int(Date().timeIntervalSince1970 * 1_000_000)
        return numbers.withLock { last in
            last = max(last + 1, now)
            return last
        }
    }

    // MARK: Commands

    /// The result of a command that writes.
    struct Written: Decodable {
        struct Failure: Decodable {
            var index: Int
            var code: Int
            var errmsg: String?
        }

        /// Documents that were found, or inserted.
        var n: Int?
        var writeErrors: [Failure]?
        var writeConcernError: Failure.Concern?
    }

    /// - Throws: ``MongoFault`` of code 11000 for a duplicate.
    func insert(_ document: MongoJSON, into collection: String) async throws {
        let written = try await write("{\"insert\":\(collection),\"documents\":[\(document)]}")
        if let failure = written.writeErrors?.first { throw MongoFault(code: failure.code, message: failure.errmsg ?? "") }
    }

    /// - Returns: how many documents the filter found.
    @discardableResult
    func update(in collection: String, where filter: MongoJSON, change: MongoJSON, many: Bool = false) async throws -> Int {
        let written = try await write(
            "{\"update\":\(collection),\"updates\":[{\"q\":\(filter),\"u\":\(change),\"multi\":\(many)}]}")
        if let failure = written.writeErrors?.first { throw MongoFault(code: failure.code, message: failure.errmsg ?? "") }
        return written.n ?? 0
    }

    /// Removes what the filter finds.
    /// - Returns: how many documents there were.
    @discardableResult
    func delete(_ collection: String, _ filter: MongoJSON) async throws -> Int {
        try await write("{\"delete\":\(collection),\"deletes\":[{\"q\":\(filter),\"limit\":0}]}").n ?? 0
    }

    func write(_ command: MongoJSON) async throws -> Written {
        let written = try decode(Written.self, try await connection.write(command))
        // It is stored here, but not yet where a failover would find it: the caller tries again, which changes nothing.
        if let concern = written.writeConcernError {
            throw CohortError(.unavailable, "\(connection.place) has not made a write safe: \((concern.errmsg ?? "").printable(max: 300))")
        }
        return written
    }

    /// The document after the change; nil when the filter finds none.
    func findAndModify<Value: Decodable>(
        _ type: Value.Type, in collection: String, where filter: MongoJSON, change: MongoJSON
    ) async throws -> Value? {
        let reply = try await connection.write(
            "{\"findAndModify\":\(collection),\"query\":\(filter),\"update\":\(change),\"new\":true}")
        return try decode(Reply<Value>.self, reply).value
    }

    func one<Value: Decodable>(_ type: Value.Type, in collection: String, where filter: MongoJSON, fields: MongoJSON = "{}") async throws
        -> Value?
    {
        try await connection.find(in: collection, where: filter, options: "{\"limit\":1,\"projection\":\(fields)}").first.map {
            try decode(type, $0)
        }
    }

    func decode<Value: Decodable>(_ type: Value.Type, _ json: [UInt8]) throws -> Value {
        do {
            return try CohortJSON.decode(type, from: json)
        } catch let error as CohortError {
            throw CohortError(.internal, "a document of \(connection.place) cannot be read: \(error.message)")
        }
    }
}

struct Reply<Value: Decodable>: Decodable { var value: Value? }

extension MongoDocuments.Written.Failure {
    struct Concern: Decodable { var errmsg: String? }
}
