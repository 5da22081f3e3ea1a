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

    /// The whole object in memory: for weights and schemas, not for data.
    /// - Throws: as ``read(_:from:)``.
    func get(_ key: String) async throws -> [UInt8]

    /// What is stored; nil when nothing is.
    func head(_ key: String) async throws -> ObjectReference?

    /// Keys that start with `prefix`, sorted.
    func list(prefix: String) async throws -> [String]

    /// Removes them all, those that are not there included. What stands in the way of one does not keep the others.
    /// - Throws: the first failure, once all were tried.
    func delete(_ keys: [String]) async throws

    /// A link to GET the object with, without credentials, until `expiry`.
    func presignedGet(_ key: String, expiry: Date) async throws -> String

    /// A link to PUT the object with, without credentials, until `expiry`.
    func presignedPut(_ key: String, expiry: Date) async throws -> String
}

extension ObjectStore {
    public func delete(_ key: String) async throws { try await delete([key]) }
}

/// A store whose presigned links lead to this server, which then serves the bytes.
public protocol ServedObjectStore: ObjectStore {
    /// Checks a presigned link. `method` is GET or PUT, `expires` in seconds since 1970.
    /// - Throws: ``CohortError`` `forbidden`, saying whether the link has expired or its signature is wrong.
    func verify(method: String, key: String, expires: Int, signature: String, now: Date) throws

    /// Where the object's bytes are on disk, for sending without a copy, and what they are.
    /// - Throws: `notFound`.
    func file(of key: String) async throws -> (path: String, reference: ObjectReference)

    /// What is stored and its bytes, as ``ObjectStore/read(_:from:)`` gives them, in one step.
    func open(_ key: String) async throws -> (reference: ObjectReference, bytes: AsyncThrowingStream<[UInt8], any Error>)

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
