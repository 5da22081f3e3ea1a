public import CohortCore
import CohortSystem
public import FoundationEssentials

/// The object store in a folder of this machine, served by this server under signed, expiring links.
///
/// An object at key `a/b.csv` is the file `a/b.csv` of the folder, whole or not there, through `kill -9` and power cuts. One process owns
/// the folder. Blocking work runs on separate threads.
public final class DirectoryObjects: ServedObjectStore {
    public let bucket: String
    private let folder: ObjectFolder
    private let links: SignedLinks
    private let threads = BlockingLanes("objects", count: 8)
    private let gate = LinkGate()

    /// Opens the folder at `path`, or makes it, and removes what a dead process left unfinished there more than a day ago.
    /// - Parameter secret: 32 random bytes, the same after a restart, or earlier links end.
    /// - Throws: ``CohortError``: `storageFull` when the folder is not writable, `invalid` for a short secret.
    public init(path: String, secret: [UInt8], bucket: String = "cohort") throws {
        self.bucket = bucket
        links = try SignedLinks(secret: secret)
        var root = path
        while root.count > 1, root.hasSuffix("/") { root.removeLast() }
        folder = try ObjectFolder(root: root)
    }

    public func put(_ bytes: [UInt8], key: String) async throws -> ObjectReference {
        let key = try ObjectKey(key)
        return try await threads.run { [folder] in
            do {
                var incoming = try IncomingFile(in: folder)
                try incoming.append(bytes)
                return try incoming.finish(as: key, in: folder)
            } catch let failure as FileFailure {
                throw failure.error(object: key.text, bytes: bytes.count)
            }
        }
    }

    public func read(_ key: String, from offset: Int) async throws -> AsyncThrowingStream<[UInt8], any Error> {
        try await open(key, from: offset).bytes
    }

    public func open(_ key: String) async throws -> (reference: ObjectReference, bytes: AsyncThrowingStream<[UInt8], any Error>) {
        try await open(key, from: 0)
    }

    /// Pulled, so nothing is buffered but the first chunk: any other is read when the reader asks for it.
    private func open(
        _ key: String, from offset: Int
    ) async throws -> (reference: ObjectReference, bytes: AsyncThrowingStream<[UInt8], any Error>) {
        let key = try ObjectKey(key)
        let reading = try await run(key) { folder in
            let reading = try ObjectReading(key, from: offset, in: folder)
            try reading.prefetch()
            return reading
        }
        let bytes = AsyncThrowingStream<[UInt8], any Error> { [self] in
            switch reading.fetched() {
            case .chunk(let chunk): return chunk
            case .end: return nil
            case .nothing: return try await run(key) { _ in try reading.next() }
            }
        }
        return (reading.reference, bytes)
    }

    public func get(_ key: String) async throws -> [UInt8] {
        let key = try ObjectKey(key)
        try Task.checkCancellation()
        return try await run(key) { folder in
            let reading = try ObjectReading(key, from: 0, in: folder)
            var bytes = try reading.next() ?? []
            bytes.reserveCapacity(reading.reference.bytes)
            while let chunk = try reading.next() { bytes += chunk }
            return bytes
        }
    }

    /// - Throws: ``CohortError``, such as `storageFull`, when no file can be created.
    public func ready() async throws {
        try await threads.run { [folder] in
            do {
                _ = try IncomingFile(in: folder)
            } catch let failure as FileFailure {
                throw failure.error(object: "a new object", bytes: 0)
            }
        }
    }

    public func size(of key: String) async throws -> Int? { try await head(key)?.bytes }

    public func head(_ key: String) async throws -> ObjectReference? {
        let key = try ObjectKey(key)
        return try await run(key) { folder in try folder.stored(key)?.reference }
    }

    public func list(prefix: String) async throws -> [String] {
        try await threads.run { [folder] in
            do {
                return try folder.keys(prefix: prefix)
            } catch let failure as FileFailure {
                throw failure.error(object: prefix, bytes: 0)
            }
        }
    }

    public func delete(_ keys: [String]) async throws {
        let keys = try keys.map { try ObjectKey($0) }
        guard let first = keys.first else { return }
        try await run(first) { folder in try folder.delete(keys) }
    }

    /// A path relative to the server's URL.
    public func presignedGet(_ key: String, scope: String?, expiry: Date) async throws -> String {
        links.link(method: "GET", key: try ObjectKey(key), scope: scope, expiry: expiry)
    }

    /// A path relative to the server's URL.
    public func presignedPut(_ key: String, maxBytes: Int, expiry: Date) async throws -> String {
        links.link(method: "PUT", key: try ObjectKey(key), maxBytes: maxBytes, expiry: expiry)
    }

    /// Until this process ends: after a restart they end at their expiry.
    public func closeLinks(prefix: String) async throws { gate.close(prefix: prefix) }

    /// Until this process ends, as ``closeLinks(prefix:)``.
    public func closeLinks(scope: String) async throws { gate.close(scope: scope) }

    /// When the folder is opened what a dead process left is removed; the living remove their own.
    public func removeUnfinished(before date: Date) async throws {}

    public func close() async throws {}

    public func verify(
        method: String, key: String, expires: Int, maxBytes: Int?, scope: String?, signature: String, now: Date
    ) throws {
        try links.verify(
            method: method, key: key, expires: expires, maxBytes: maxBytes, scope: scope, signature: signature, now: now)
        try gate.check(key, scope: scope)
    }

    public func beginLinkedPut(_ key: String) throws -> String? { try gate.begin(key) }

    public func endLinkedPut(_ key: String, sha256: String?) { gate.end(key, sha256: sha256) }

    public func localFile(of key: String) async throws -> String? {
        let key = try ObjectKey(key)
        return try await run(key) { folder in try folder.open(key).file.path }
    }

    public func writer(key: String) async throws -> any ObjectWriter {
        let key = try ObjectKey(key)
        return try await run(key) { [threads] folder in try DirectoryObjectWriter(key: key, folder: folder, threads: threads) }
    }

    private func run<Value: Sendable>(
        _ key: ObjectKey, _ work: @escaping @Sendable (ObjectFolder) throws -> Value
    ) async throws -> Value {
        try await threads.run { [folder] in
            do {
                return try work(folder)
            } catch let failure as FileFailure {
                throw failure.error(object: key.text, bytes: 0)
            }
        }
    }
}
