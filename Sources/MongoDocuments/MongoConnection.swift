import CMongo
import CohortCore
import CohortSession
import CohortSystem
import CohortWire
import Synchronization

/// A pool of connections to one database. Its calls block separate threads.
final class MongoConnection: Sendable {
    private struct State: ~Copyable {
        var pool: OpaquePointer?
        var isClosing = false
        var calls = 0
        var whenIdle: [CheckedContinuation<Void, Never>] = []
    }

    private static let connections = 8

    /// Hosts and database, without credentials: for errors.
    let place: String
    private let database: String
    private let lanes = BlockingLanes("documents", count: connections, limit: 10_000)
    private let state: Mutex<State>

    /// - Parameters:
    ///   - uri: `mongodb://…` or `mongodb+srv://…`; the database is `cohort` unless it names another.
    ///   - setting: for errors; the URI itself never stands in one, as it holds a password.
    /// - Throws: ``CohortError`` `invalid` for an invalid URI, or without libmongoc.
    init(_ uri: String, setting: String) throws {
        func wrong(_ what: String) -> CohortError {
            CohortError(.invalid, "\(setting): \(what); it must look like mongodb://USER:PASSWORD@HOST:PORT/DATABASE")
        }
        let rest = uri.split(separator: "://", maxSplits: 1).last ?? ""
        let authority = rest.prefix { $0 != "/" && $0 != "?" }
        // libmongoc would take a part of the password for a host or a database, and name it in errors.
        guard authority.count(where: { $0 == "@" }) <= 1, !rest.dropFirst(authority.count).prefix(while: { $0 != "?" }).contains("@") else {
            throw wrong("the user or the password holds an @ or a /, which must be percent-encoded (%40, %2F)")
        }
        var error = cohort_mongo_error()
        var name = [CChar](repeating: 0, count: 64)
        guard let pool = cohort_mongo_open(uri, "cohort", Int32(Self.connections), &name, &error) else {
            let text = Self.text(of: error)
            guard error.fault == COHORT_MONGO_URI else { throw CohortError(.invalid, text) }
            // libmongoc quotes what it does not understand, which may be a part of the password.
            let login = authority.lastIndex(of: "@").map { authority[..<$0] } ?? ""
            let isTelling = text.split(separator: "'").contains { login.contains($0) }
            throw wrong(isTelling ? "its user and password cannot be read" : text)
        }
        let named = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        database = named.isEmpty ? "cohort" : named
        let hosts = authority.lastIndex(of: "@").map { authority[authority.index(after: $0)...] } ?? authority
        place = "MongoDB at \(hosts), database '\(database)'"
        state = Mutex(State(pool: pool))
    }

    deinit {
        state.withLock { if let pool = $0.pool { cohort_mongo_close(pool) } }
    }

    /// Waits for what is under way. Idempotent.
    func close() async {
        await withCheckedContinuation { continuation in
            let isIdle = state.withLock { state in
                state.isClosing = true
                if state.calls > 0 {
                    state.whenIdle.append(continuation)
                    return false
                }
                Self.end(&state)
                return true
            }
            if isIdle { continuation.resume() }
        }
    }

    private static func end(_ state: inout State) {
        if let pool = state.pool.take() { cohort_mongo_close(pool) }
    }

    /// - Returns: the answer as JSON.
    func write(_ command: MongoJSON) async throws -> [UInt8] { try await run(command, cohort_mongo_write) }

    func read(_ command: MongoJSON) async throws -> [UInt8] { try await run(command, cohort_mongo_read) }

    /// Every document that `filter` finds, in the form that ``BSONSafe`` has read.
    func find(in collection: String, where filter: MongoJSON, options: MongoJSON = "{}") async throws -> [[UInt8]] {
        let database = database
        return try await call { pool, error in
            let found = Documents()
            _ = cohort_mongo_find(
                pool, database, collection, filter.text, filter.text.utf8.count, options.text, options.text.utf8.count,
                Unmanaged.passUnretained(found).toOpaque(), Documents.add, &error)
            return withExtendedLifetime(found) { found.all }
        }
    }

    func aggregate(_ collection: String, _ pipeline: MongoJSON) async throws -> [[UInt8]] {
        let database = database
        return try await call { pool, error in
            let found = Documents()
            _ = cohort_mongo_aggregate(
                pool, database, collection, pipeline.text, pipeline.text.utf8.count, Unmanaged.passUnretained(found).toOpaque(),
                Documents.add, &error)
            return withExtendedLifetime(found) { found.all }
        }
    }

    private typealias Command =
        @Sendable (
            OpaquePointer?, UnsafePointer<CChar>?, UnsafePointer<CChar>?, Int, UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?,
            UnsafeMutablePointer<cohort_mongo_error>?
        ) -> Int32

    private func run(_ command: MongoJSON, _ function: @escaping Command) async throws -> [UInt8] {
        let database = database
        return try await call { pool, error in
            var reply: UnsafeMutablePointer<CChar>?
            guard function(pool, database, command.text, command.text.utf8.count, &reply, &error) == 0, let reply else { return [] }
            defer { cohort_mongo_free(reply) }
            return BSONSafe.read([UInt8](String(cString: reply).utf8))
        }
    }

    private func call<Value: Sendable>(
        _ body: @escaping @Sendable (OpaquePointer, inout cohort_mongo_error) -> Value
    ) async throws -> Value {
        // libmongoc's pools are for any number of threads, and this one is not closed while `calls` counts a call.
        nonisolated(unsafe) let pool = try state.withLock { state in
            guard let pool = state.pool, !state.isClosing else { throw CohortError(.unavailable, "\(place) is closed") }
            state.calls += 1
            return pool
        }
        defer {
            let waiting: [CheckedContinuation<Void, Never>] = state.withLock { state in
                state.calls -= 1
                guard state.calls == 0, state.isClosing else { return [] }
                Self.end(&state)
                let waiting = state.whenIdle
                state.whenIdle = []
                return waiting
            }
            for continuation in waiting { continuation.resume() }
        }
        return try await lanes.run { [self] in
            var error = cohort_mongo_error()
            let value = body(pool, &error)
            guard error.fault == COHORT_MONGO_OK else { throw failure(error) }
            return value
        }
    }

    private static func text(of error: cohort_mongo_error) -> String {
        withUnsafeBytes(of: error.text) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }.printable(max: 300)
    }

    /// Returns the error with what the user can do about it.
    private func failure(_ error: cohort_mongo_error) -> any Error {
        let said = Self.text(of: error)
        switch error.fault {
        case COHORT_MONGO_REFUSED:
            return CohortError(.unavailable, "\(place) refuses the user or the password of COHORT_DATABASE_URL (\(said))")
        case COHORT_MONGO_AWAY:
            return CohortError(.unavailable, "\(place) cannot be reached: \(said)")
        case COHORT_MONGO_SERVER where error.code == MongoFault.duplicate || MongoFault.nothingToDrop.contains(Int(error.code)):
            return MongoFault(code: Int(error.code), message: said)
        case COHORT_MONGO_SERVER where [13, 8000].contains(error.code):
            return CohortError(.unavailable, "\(place) does not allow it (\(said)): the user needs the role readWrite on the database")
        case COHORT_MONGO_SERVER where error.code == 14_031:
            return CohortError(.storageFull, "\(place) has no space left (\(said))")
        case COHORT_MONGO_SERVER where [10_334, 17_419, 17_420].contains(error.code):
            return CohortError(.tooLarge, "the document is larger than MongoDB takes (\(said))")
        case COHORT_MONGO_SERVER:
            return CohortError(.unavailable, "\(place) failed: \(said) (\(error.code))")
        default:
            return CohortError(.internal, "\(place) was asked wrongly: \(said)")
        }
    }
}

/// An error of the server that callers distinguish.
struct MongoFault: Error {
    static let duplicate: Int32 = 11_000
    /// The codes of `dropIndexes` for a missing collection or index.
    static let nothingToDrop: [Int] = [26, 27]
    var code: Int
    var message: String
}

/// Collects what a C function hands out, one call at a time.
private final class Documents {
    var all: [[UInt8]] = []

    static let add: @convention(c) (UnsafeMutableRawPointer?, UnsafePointer<CChar>?, Int) -> Void = { context, json, length in
        guard let context, let json else { return }
        let bytes = UnsafeRawBufferPointer(start: json, count: length)
        Unmanaged<Documents>.fromOpaque(context).takeUnretainedValue().all.append(BSONSafe.read([UInt8](bytes)))
    }
}
