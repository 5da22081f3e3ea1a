public import CohortCore
import CohortSystem
import Crypto
public import FoundationEssentials

/// The object store in a folder of this machine, served by this server under signed, expiring links.
///
/// An object at key `a/b.csv` is the file `a/b.csv` of the folder, whole or not there, through `kill -9` and power cuts; those that a ``MemoryPolicy``
/// names are in memory first. One process owns the folder. Blocking work runs on separate threads.
public final class DirectoryObjects: ServedObjectStore {
    public let bucket: String
    private let folder: ObjectFolder
    private let links: SignedLinks
    private let threads = BlockingLanes("objects", count: 8)
    private let gate = LinkGate()
    private let memory: ObjectMemory?

    /// Opens the folder at `path`, or makes it, and removes what a dead process left unfinished there more than a day ago.
    /// - Parameters:
    ///   - secret: 32 random bytes, the same after a restart, or earlier links end.
    ///   - memory: nil: all is on the disk.
    /// - Throws: ``CohortError``: `storageFull` when the folder is not writable, `invalid` for a short secret.
    public init(path: String, secret: [UInt8], bucket: String = "cohort", memory: MemoryPolicy? = nil) throws {
        self.bucket = bucket
        self.memory = memory.map(ObjectMemory.init)
        links = try SignedLinks(secret: secret)
        var root = path
        while root.count > 1, root.hasSuffix("/") { root.removeLast() }
        folder = try ObjectFolder(root: root)
    }

    public func put(_ bytes: [UInt8], key: String) async throws -> ObjectReference {
        let key = try ObjectKey(key)
        let memory = memory.flatMap { $0.holds(key.text) ? $0 : nil }
        if let memory, memory.isTransient(key.text), let reference = try await put(bytes, key: key, in: memory) { return reference }
        return try await threads.run { [folder] in
            do {
                var incoming = try IncomingFile(in: folder)
                try incoming.append(bytes)
                return try incoming.finish(as: key, in: folder, then: { memory?.insert($0, bytes, isStored: true) })
            } catch let failure as FileFailure {
                throw failure.error(object: key.text, bytes: bytes.count)
            }
        }
    }

    public func putAhead(_ bytes: [UInt8], key: String) async throws -> AheadObject {
        guard let memory, memory.holds(key), !memory.isTransient(key),
            let reference = try await put(bytes, key: try ObjectKey(key), in: memory)
        else { return AheadObject(reference: try await put(bytes, key: key)) {} }
        let writing = Task {
            do {
                try await writeOut(reference, bytes, of: memory)
            } catch {
                if memory.reference(key) == reference { memory.remove([key]) }
                throw error
            }
        }
        return AheadObject(reference: reference) { try await writing.value }
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
        if let (reference, bytes) = memory?.object(key.text) {
            guard (0...bytes.count).contains(offset) else { throw CohortError.noByte(at: offset, of: reference) }
            return (reference, .one(offset == 0 ? bytes : Array(bytes[offset...])))
        }
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
        if let (_, bytes) = memory?.object(key.text) { return bytes }
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
        if let reference = memory?.reference(key.text) { return reference }
        return try await run(key) { folder in try folder.stored(key)?.reference }
    }

    public func list(prefix: String) async throws -> [String] {
        try await threads.run { [folder, memory] in
            do {
                let keys = try folder.keys(prefix: prefix)
                guard let more = memory?.keys(prefix: prefix), !more.isEmpty else { return keys }
                return Set(keys + more).sorted()
            } catch let failure as FileFailure {
                throw failure.error(object: prefix, bytes: 0)
            }
        }
    }

    public func delete(_ keys: [String]) async throws {
        let keys = try keys.map { try ObjectKey($0) }
        guard let first = keys.first else { return }
        // Before the files: a write that is under way finds the object gone, or its file is deleted below.
        memory?.remove(keys.lazy.map(\.text))
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

    /// Writes out what is in memory alone.
    public func close() async throws {
        guard let memory else { return }
        for (reference, bytes) in memory.unstored(due: false).objects { try await writeOut(reference, bytes, of: memory) }
    }

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
        if let memory, let (reference, bytes) = memory.object(key.text) { try await writeOut(reference, bytes, of: memory) }
        return try await run(key) { folder in try folder.open(key).file.path }
    }

    public func writer(key: String) async throws -> any ObjectWriter {
        let key = try ObjectKey(key)
        if let memory, memory.isTransient(key.text) { return TransientWriter(key: key, memory: memory, store: self) }
        return try await fileWriter(key: key)
    }

    func fileWriter(key: ObjectKey) async throws -> DirectoryObjectWriter {
        try await run(key) { [threads, memory] folder in
            try DirectoryObjectWriter(key: key, folder: folder, threads: threads, memory: memory)
        }
    }

    // MARK: Memory

    /// - Returns: nil when there is no room.
    private func put(_ bytes: [UInt8], key: ObjectKey, in memory: ObjectMemory) async throws -> ObjectReference? {
        guard memory.reserve(bytes.count) else { return nil }
        let digest =
            bytes.count <= 64 << 10 ? SHA256.hash(data: bytes) : try await threads.run { SHA256.hash(data: bytes) }
        let reference = ObjectReference(key: key.text, sha256: digest.hexadecimal, bytes: bytes.count)
        return take(reference, bytes, in: memory, reserved: bytes.count) ? reference : nil
    }

    /// - Returns: false when it is too large, or there is no room.
    func take(_ reference: ObjectReference, _ bytes: [UInt8], in memory: ObjectMemory, reserved: Int) -> Bool {
        guard memory.insert(reference, bytes, isStored: false, reserved: reserved) else { return false }
        if memory.beginWatch() { Task { await watch(memory) } }
        return true
    }

    /// Writes out what is in memory alone for too long, until there is nothing of that kind.
    private func watch(_ memory: ObjectMemory) async {
        var next: ContinuousClock.Instant? = .now + memory.policy.writeDelay
        while let due = next {
            // Nothing cancels this task, so the sleep does not throw.
            try? await Task.sleep(until: due, clock: .continuous)
            let waiting = memory.unstored(due: true)
            next = waiting.next
            for (reference, bytes) in waiting.objects {
                // A full disk: it stays in memory, and is tried again.
                do { try await writeOut(reference, bytes, of: memory) } catch { next = .now + memory.policy.writeDelay }
            }
        }
    }

    private func writeOut(_ reference: ObjectReference, _ bytes: [UInt8], of memory: ObjectMemory) async throws {
        let key = try ObjectKey(reference.key)
        try await run(key) { folder in
            try IncomingFile.make(
                bytes, as: reference, in: folder, isWanted: { memory.reference(key.text) == reference }, then: { memory.stored(reference) })
        }
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

extension AsyncThrowingStream where Element == [UInt8], Failure == any Error {
    /// A stream of what is in memory: one chunk.
    fileprivate static func one(_ bytes: [UInt8]) -> Self {
        AsyncThrowingStream { continuation in
            if !bytes.isEmpty { continuation.yield(bytes) }
            continuation.finish()
        }
    }
}
