public import FoundationEssentials

/// Holds CSVs, weights and models as objects: whole or not there.
public protocol ObjectStore: Sendable {
    /// The bucket in links such as `s3://BUCKET/KEY`.
    var bucket: String { get }

    /// - Throws: ``CohortError`` `unavailable` when the store cannot be used now, in one sentence.
    func ready() async throws

    /// Starts a streamed write. The object appears, whole, when the writer finishes; one of the same key is replaced atomically.
    func writer(key: String) async throws -> any ObjectWriter

    /// Stores small bytes (weights, schemas), as a writer would.
    func put(_ bytes: [UInt8], key: String) async throws -> ObjectReference

    /// Stores small bytes so that they can be read at once, and durably a little later.
    func putAhead(_ bytes: [UInt8], key: String) async throws -> AheadObject

    /// The object's bytes from `offset` on, in chunks of at most 1 MiB, or all at once where it is in memory.
    /// - Throws: ``CohortError`` `notFound`; `internal` when the bytes do not match the SHA-256 they were stored with (checked when
    ///   read whole).
    func read(_ key: String, from offset: Int) async throws -> AsyncThrowingStream<[UInt8], any Error>

    /// The object's bytes as ``read(_:from:)`` returns them, and the SHA-256 that the store checks them against as they are read; nil: it does not.
    func readVerified(_ key: String) async throws -> (sha256: String?, bytes: AsyncThrowingStream<[UInt8], any Error>)

    /// The whole object in memory: for weights and schemas, not for data.
    /// - Throws: as ``read(_:from:)``.
    func get(_ key: String) async throws -> [UInt8]

    /// Bytes of the object; nil when there is none. A store need not know the SHA-256 of what others have put: who needs it reads.
    func size(of key: String) async throws -> Int?

    /// Path of the object's bytes as a file of this machine, to be read only; good until the object is replaced by other bytes or deleted.
    /// nil: they are elsewhere.
    /// - Throws: `notFound`.
    func localFile(of key: String) async throws -> String?

    /// Keys that start with `prefix`, sorted.
    func list(prefix: String) async throws -> [String]

    /// Removes the objects; missing ones are ignored. One failure does not stop the other deletions.
    /// - Throws: the first failure, once all were tried.
    func delete(_ keys: [String]) async throws

    /// A link to GET the object with, without credentials, until `expiry`.
    /// - Parameter scope: what the link is made for, such as a session's id: ``closeLinks(scope:)`` ends it before that.
    func presignedGet(_ key: String, scope: String?, expiry: Date) async throws -> String

    /// A link to PUT the object with, once, without credentials, until `expiry`. (Where the store can tell: the same bytes again are fine,
    /// other ones are refused.)
    /// - Parameter maxBytes: a larger object is refused.
    func presignedPut(_ key: String, maxBytes: Int, expiry: Date) async throws -> String

    /// Ends the links to all keys that start with `prefix`, where the store can; those of others end at their expiry.
    func closeLinks(prefix: String) async throws

    /// Ends the links that were made for `scope`, where the store can, and no others to the same objects.
    func closeLinks(scope: String) async throws

    /// Removes what writes have left that were begun before `date` and cut short.
    func removeUnfinished(before date: Date) async throws

    /// The store must not be used afterwards. Idempotent.
    func close() async throws
}

extension ObjectStore {
    public func readVerified(_ key: String) async throws -> (sha256: String?, bytes: AsyncThrowingStream<[UInt8], any Error>) {
        (nil, try await read(key, from: 0))
    }

    /// Stores as ``put(_:key:)``.
    public func putAhead(_ bytes: [UInt8], key: String) async throws -> AheadObject {
        AheadObject(reference: try await put(bytes, key: key)) {}
    }

    public func delete(_ key: String) async throws { try await delete([key]) }
}

/// An object that can be read, and may not be durable yet.
public struct AheadObject: Sendable {
    public let reference: ObjectReference
    private let wait: @Sendable () async throws -> Void

    public init(reference: ObjectReference, durable: @escaping @Sendable () async throws -> Void) {
        self.reference = reference
        wait = durable
    }

    /// Returns when it is durable.
    /// - Throws: what storing it throws; then there is no such object.
    public func durable() async throws { try await wait() }
}

extension ObjectStore {
    /// A link without a scope.
    public func presignedGet(_ key: String, expiry: Date) async throws -> String {
        try await presignedGet(key, scope: nil, expiry: expiry)
    }
}

/// A store whose presigned links lead to this server, which then serves the bytes.
public protocol ServedObjectStore: ObjectStore {
    /// Checks a presigned link. `method` is GET or PUT, `expires` in seconds since 1970, `maxBytes` of a PUT as the link says.
    /// - Throws: ``CohortError`` `forbidden`, saying whether the link has expired, was closed, or its signature is wrong.
    func verify(
        method: String, key: String, expires: Int, maxBytes: Int?, scope: String?, signature: String, now: Date) throws

    /// Begins a PUT by a link.
    /// - Returns: the SHA-256 of what was put by it before: only the same bytes may be put again; nil: nothing yet.
    /// - Throws: `unavailable` while another PUT of the key is under way.
    func beginLinkedPut(_ key: String) throws -> String?

    /// Ends what ``beginLinkedPut(_:)`` began.
    /// - Parameter sha256: of the object that is there now; nil: it came to nothing.
    func endLinkedPut(_ key: String, sha256: String?)

    /// The stored object's size and hash; nil when there is none.
    func head(_ key: String) async throws -> ObjectReference?

    /// Opens an object: its size and hash, and its bytes as in ``ObjectStore/read(_:from:)``.
    func open(_ key: String) async throws -> (reference: ObjectReference, bytes: AsyncThrowingStream<[UInt8], any Error>)
}

extension ServedObjectStore {
    public func readVerified(_ key: String) async throws -> (sha256: String?, bytes: AsyncThrowingStream<[UInt8], any Error>) {
        let (reference, bytes) = try await open(key)
        return (reference.sha256, bytes)
    }
}

extension ObjectWriter {
    public func take(_ bytes: UnsafeRawBufferPointer) -> Bool { false }
}

/// A streamed write of one object, from one task.
public protocol ObjectWriter: Sendable {
    /// - Throws: ``CohortError`` `storageFull` when the disk is full.
    func write(_ bytes: [UInt8]) async throws
    /// Takes bytes as ``write(_:)`` does, if that needs no waiting.
    /// - Returns: false when nothing was taken.
    func take(_ bytes: UnsafeRawBufferPointer) -> Bool
    /// Makes the object visible under its key, atomically and durably.
    func finish() async throws -> ObjectReference
    /// Discards what was written. Idempotent; harmless after `finish`.
    func abort() async
}

extension ServedObjectStore {
    /// Verifies a link without a scope.
    public func verify(method: String, key: String, expires: Int, maxBytes: Int?, signature: String, now: Date) throws {
        try verify(method: method, key: key, expires: expires, maxBytes: maxBytes, scope: nil, signature: signature, now: now)
    }
}
