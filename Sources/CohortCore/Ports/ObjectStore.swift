public import FoundationEssentials

/// Holds CSVs, weights and models as objects: whole or not there.
public protocol ObjectStore: Sendable {
    /// For links such as `s3://BUCKET/KEY`.
    var bucket: String { get }

    /// Stores the file's bytes; the file may be moved away. An object of the same key is replaced atomically.
    func put(fileAt path: String, key: String) async throws -> ObjectReference

    /// Stores small bytes (weights, schemas).
    func put(_ bytes: [UInt8], key: String) async throws -> ObjectReference

    /// The object's bytes from `offset` on, in chunks of at most 1 MiB.
    /// - Throws: ``CohortError`` `notFound`; `internal` when the bytes do not match the SHA-256 they were stored with (checked when
    ///   read whole).
    func read(_ key: String, from offset: Int) async throws -> AsyncThrowingStream<[UInt8], any Error>

    /// What is stored; nil when nothing is.
    func head(_ key: String) async throws -> ObjectReference?

    /// Keys that start with `prefix`, sorted.
    func list(prefix: String) async throws -> [String]

    /// Idempotent.
    func delete(_ key: String) async throws

    /// A link to GET the object with, without credentials, until `expiry`.
    func presignedGet(_ key: String, expiry: Date) async throws -> String

    /// A link to PUT the object with, without credentials, until `expiry`.
    func presignedPut(_ key: String, expiry: Date) async throws -> String
}

extension ObjectStore {
    /// The whole object in memory: for weights and schemas, not for data.
    public func get(_ key: String) async throws -> [UInt8] {
        var bytes: [UInt8] = []
        for try await chunk in try await read(key, from: 0) { bytes.append(contentsOf: chunk) }
        // A stream ends early, without an error, in a cancelled task.
        try Task.checkCancellation()
        return bytes
    }
}

/// A store whose presigned links lead to this server, which then serves the bytes.
public protocol ServedObjectStore: ObjectStore {
    /// Checks a presigned link. `method` is GET or PUT, `expires` in seconds since 1970.
    /// - Throws: ``CohortError`` `forbidden`, saying whether the link has expired or its signature is wrong.
    func verify(method: String, key: String, expires: Int, signature: String, now: Date) throws

    /// Where the object's bytes are on disk, for sending without a copy, and what they are.
    /// - Throws: `notFound`.
    func file(of key: String) async throws -> (path: String, reference: ObjectReference)

    /// Starts a streamed write. The object appears, whole, when the writer finishes.
    func writer(key: String) async throws -> any ObjectWriter
}

/// A streamed write of one object, from one task.
public protocol ObjectWriter: Sendable {
    /// - Throws: ``CohortError`` `storageFull` when the disk is full.
    func write(_ bytes: [UInt8]) async throws
    /// Makes the object visible under its key, atomically and durably.
    func finish() async throws -> ObjectReference
    /// Throws what was written away. Idempotent; harmless after `finish`.
    func abort() async
}
