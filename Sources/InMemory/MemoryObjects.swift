public import CohortCore
import CohortSystem
import Crypto
public import FoundationEssentials
import Synchronization

/// Objects in memory: what the port means, in the fewest lines. For tests.
public final class MemoryObjects: ObjectStore {
    public let bucket = "cohort"
    private let objects = Mutex<[String: [UInt8]]>([:])
    private let chunk: Int

    /// - Parameter chunk: bytes that come at once when an object is read.
    public init(chunk: Int = 1 << 20) { self.chunk = chunk }

    public func ready() async throws {}

    public func writer(key: String) async throws -> any ObjectWriter {
        _ = try ObjectKey(key)
        return MemoryWriter(key: key, store: self)
    }

    public func put(_ bytes: [UInt8], key: String) async throws -> ObjectReference {
        _ = try ObjectKey(key)
        objects.withLock { $0[key] = bytes }
        return reference(key, bytes)
    }

    public func read(_ key: String, from offset: Int) async throws -> AsyncThrowingStream<[UInt8], any Error> {
        let bytes = try await get(key)
        guard (0...bytes.count).contains(offset) else {
            throw CohortError(.invalid, "offset \(offset) is not within the \(bytes.count) bytes of '\(key)'")
        }
        let position = Mutex(offset)
        return AsyncThrowingStream { [chunk] in
            position.withLock { position in
                guard position < bytes.count else { return nil }
                let end = min(position + chunk, bytes.count)
                defer { position = end }
                return Array(bytes[position..<end])
            }
        }
    }

    public func get(_ key: String) async throws -> [UInt8] {
        _ = try ObjectKey(key)
        try Task.checkCancellation()
        guard let bytes = objects.withLock({ $0[key] }) else { throw CohortError(.notFound, "there is no object '\(key)'") }
        return bytes
    }

    public func size(of key: String) async throws -> Int? {
        _ = try ObjectKey(key)
        return objects.withLock { $0[key]?.count }
    }

    public func localFile(of key: String) async throws -> String? {
        _ = try await get(key)
        return nil
    }

    public func list(prefix: String) async throws -> [String] {
        try ObjectKey.check(prefix: prefix)
        return objects.withLock { $0.keys.filter { $0.hasPrefix(prefix) }.sorted() }
    }

    public func delete(_ keys: [String]) async throws {
        for key in keys { _ = try ObjectKey(key) }
        objects.withLock { objects in
            for key in keys { objects[key] = nil }
        }
    }

    public func presignedGet(_ key: String, scope: String?, expiry: Date) async throws -> String { try link(key) }

    public func presignedPut(_ key: String, maxBytes: Int, expiry: Date) async throws -> String { try link(key) }

    public func closeLinks(prefix: String) async throws {}

    public func closeLinks(scope: String) async throws {}

    public func removeUnfinished(before date: Date) async throws {}

    public func close() async throws {}

    private func link(_ key: String) throws -> String {
        _ = try ObjectKey(key)
        return "memory:\(key)"
    }

    private func reference(_ key: String, _ bytes: [UInt8]) -> ObjectReference {
        ObjectReference(
            key: key, sha256: SHA256.hash(data: bytes).hexadecimal,
            bytes: bytes.count)
    }
}

private final class MemoryWriter: ObjectWriter {
    private let key: String
    private let store: MemoryObjects
    /// nil once finished or aborted.
    private let bytes = Mutex<[UInt8]?>([])

    init(key: String, store: MemoryObjects) {
        self.key = key
        self.store = store
    }

    func write(_ bytes: [UInt8]) async throws {
        try self.bytes.withLock { all in
            guard all != nil else { throw isOver }
            all?.append(contentsOf: bytes)
        }
    }

    func finish() async throws -> ObjectReference {
        guard let all = bytes.withLock({ $0.take() }) else { throw isOver }
        return try await store.put(all, key: key)
    }

    func abort() async { bytes.withLock { $0 = nil } }

    private var isOver: CohortError { CohortError(.internal, "the write of object \(key) has ended: begin a new one") }
}
