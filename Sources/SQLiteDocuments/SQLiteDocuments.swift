import CohortCore
public import CohortSession
import Dispatch
import GRDB

#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif

/// The document store in one SQLite file: nothing to install, safe against `kill -9` and power loss.
///
/// One connection writes, a few read beside it (WAL), each on a thread of GRDB's own, so that no call blocks Swift's cooperative
/// pool. Several processes may open the same file: a writer waits for another's transaction for up to ten seconds.
/// Times are kept in milliseconds, as in the JSON of the documents.
public final class SQLiteDocuments: Documents {
    /// The database file.
    public let path: String

    private let pool: DatabasePool

    /// Opens the database at `path`, or creates it (readable by its owner only, as is its folder when that has to be made), and
    /// brings its tables up to date. Blocks for some milliseconds: call it while starting.
    /// - Throws: ``CohortError``: `invalid` when the file is something else than a database, `conflict` when a newer Cohort made it,
    ///   `storageFull` when the disk is full or the place cannot be written to.
    public init(path: String) throws {
        self.path = path
        try Self.createFile(at: path)
        var configuration = Configuration()
        configuration.label = "cohort.documents"
        configuration.journalMode = .wal
        configuration.busyMode = .timeout(10)
        configuration.maximumReaderCount = 4
        do {
            pool = try DatabasePool(path: path, configuration: configuration)
            // GRDB sets NORMAL with WAL. That survives a killed process, but a power cut could take the last commits back: an
            // account that was confirmed, a token that was revoked, an event that was acknowledged to its sender. FULL keeps
            // the contract ("durable when it returns") for one fdatasync a commit, half a millisecond on an SSD. The writer is one
            // connection for the pool's life, so this holds for every write.
            try pool.writeWithoutTransaction { try $0.execute(sql: "PRAGMA synchronous = FULL") }
            let migrator = Schema.migrator
            guard try !pool.read(migrator.hasBeenSuperseded) else {
                throw CohortError(
                    .conflict, "the database \(path) was made by a newer Cohort: run that version, or name another data folder")
            }
            try migrator.migrate(pool)
        } catch let error as DatabaseError {
            throw CohortError(error, database: path)
        }
    }

    public func ready() async throws { _ = try await joinToken(id: "ready") }

    /// Waits for what is under way, then closes the file. Later calls throw `unavailable`. Idempotent.
    public func close() async throws {
        let pool = pool
        do {
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
                // Waits for running transactions, hence on a separate thread.
                DispatchQueue(label: "cohort.documents.close").async {
                    continuation.resume(with: Result { try pool.close() })
                }
            }
        } catch let error as DatabaseError {
            throw CohortError(error, database: path)
        }
    }

    func read<Value: Sendable>(_ body: @Sendable (Database) throws -> Value) async throws -> Value {
        do {
            return try await pool.read(body)
        } catch let error as DatabaseError {
            throw CohortError(error, database: path)
        }
    }

    /// `body` in one transaction that no other writer, of this or another process, can come between (BEGIN IMMEDIATE).
    func write<Value: Sendable>(_ body: @Sendable (Database) throws -> Value) async throws -> Value {
        do {
            return try await pool.write(body)
        } catch let error as DatabaseError {
            throw CohortError(error, database: path)
        }
    }

    /// SQLite would create the file by the process's umask; it holds password hashes. Its `-wal` and `-shm` take over the mode.
    private static func createFile(at path: String) throws {
        if let slash = path.lastIndex(of: "/"), slash > path.startIndex { try makeFolders(String(path[..<slash])) }
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw CohortError(.storageFull, "the database \(path) cannot be opened for writing: \(String(cString: strerror(errno)))")
        }
        Self.closeDescriptor(descriptor)
    }

    /// The folder and those above it, as far as they are missing.
    private static func makeFolders(_ path: String) throws {
        if mkdir(path, 0o700) == 0 || errno == EEXIST { return }
        if errno == ENOENT, let slash = path.lastIndex(of: "/"), slash > path.startIndex {
            try makeFolders(String(path[..<slash]))
            if mkdir(path, 0o700) == 0 || errno == EEXIST { return }
        }
        throw CohortError(.storageFull, "the folder \(path) of the database could not be created: \(String(cString: strerror(errno)))")
    }

    private static func closeDescriptor(_ descriptor: Int32) {
        #if canImport(Darwin)
            _ = Darwin.close(descriptor)
        #elseif canImport(Musl)
            _ = Musl.close(descriptor)
        #else
            _ = Glibc.close(descriptor)
        #endif
    }
}
