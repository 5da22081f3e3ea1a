import CohortCore
import Synchronization

/// Objects in memory, beside the folder: the short-lived ones, which are written to the disk only when they are still there after a while, and
/// copies of those that many read as soon as they are written.
final class ObjectMemory: Sendable {
    private struct Entry {
        let reference: ObjectReference
        let bytes: [UInt8]
        /// The same object is in the folder.
        var isStored: Bool
        let addedAt: ContinuousClock.Instant
    }

    private struct State {
        var entries: [String: Entry] = [:]
        /// Keys, oldest first; those without an entry are skipped.
        var order: [String] = []
        var bytes = 0
        var isWatched = false
    }

    let policy: MemoryPolicy
    private let state = Mutex(State())

    init(_ policy: MemoryPolicy) { self.policy = policy }

    func isTransient(_ key: String) -> Bool { policy.transient.contains { key.hasPrefix($0) } }

    func holds(_ key: String) -> Bool { isTransient(key) || policy.copied.contains { key.hasPrefix($0) } }

    /// Sets room aside for bytes that are on their way; stored objects make way for them.
    /// - Returns: false when there is none.
    func reserve(_ count: Int) -> Bool {
        state.withLock { state in
            guard makeRoom(for: count, in: &state) else { return false }
            state.bytes += count
            return true
        }
    }

    func release(_ count: Int) { state.withLock { $0.bytes -= count } }

    func reference(_ key: String) -> ObjectReference? { state.withLock { $0.entries[key]?.reference } }

    func object(_ key: String) -> (reference: ObjectReference, bytes: [UInt8])? {
        state.withLock { state in state.entries[key].map { ($0.reference, $0.bytes) } }
    }

    func keys(prefix: String) -> [String] { state.withLock { $0.entries.keys.filter { $0.hasPrefix(prefix) } } }

    /// Takes an object, in place of an older one of its key.
    /// - Parameter reserved: bytes that were set aside for it.
    /// - Returns: whether there was room.
    @discardableResult
    func insert(_ reference: ObjectReference, _ bytes: [UInt8], isStored: Bool, reserved: Int = 0) -> Bool {
        state.withLock { state in
            state.bytes -= reserved
            remove(reference.key, from: &state)
            guard bytes.count <= policy.largest, makeRoom(for: bytes.count, in: &state) else { return false }
            state.entries[reference.key] = Entry(reference: reference, bytes: bytes, isStored: isStored, addedAt: .now)
            if state.order.count > 2 * state.entries.count + 64 {
                let entries = state.entries
                state.order.removeAll { entries[$0] == nil }
            }
            state.order.append(reference.key)
            state.bytes += bytes.count
            return true
        }
    }

    func remove(_ keys: some Sequence<String>) {
        state.withLock { state in
            for key in keys { remove(key, from: &state) }
        }
    }

    /// Notes that the object is in the folder too.
    func stored(_ reference: ObjectReference) {
        state.withLock { state in
            guard state.entries[reference.key]?.reference == reference else { return }
            state.entries[reference.key]?.isStored = true
        }
    }

    // MARK: Writing out

    /// Returns whether the caller is to watch for objects that have waited long enough: one caller does.
    func beginWatch() -> Bool {
        state.withLock { state in
            defer { state.isWatched = true }
            return !state.isWatched
        }
    }

    /// Returns the objects that are nowhere else, the oldest first; with `due` only those that have waited long enough.
    /// - Returns: `next` is when to look again; nil when nothing is left to look for, which ends the watch.
    func unstored(due: Bool) -> (objects: [(reference: ObjectReference, bytes: [UInt8])], next: ContinuousClock.Instant?) {
        state.withLock { state in
            let waiting = state.entries.values.filter { !$0.isStored }.sorted { $0.addedAt < $1.addedAt }
            let limit = ContinuousClock.now - policy.writeDelay
            let taken = due ? waiting.filter { $0.addedAt <= limit } : waiting
            if waiting.isEmpty, due { state.isWatched = false }
            // With all of them due: at once, to see whether they could be written.
            let next = waiting.first.map { _ in waiting.dropFirst(taken.count).first.map { $0.addedAt + policy.writeDelay } ?? .now }
            return (taken.map { ($0.reference, $0.bytes) }, next)
        }
    }

    private func remove(_ key: String, from state: inout State) {
        guard let entry = state.entries.removeValue(forKey: key) else { return }
        state.bytes -= entry.bytes.count
    }

    /// Only objects that are in the folder too are forgotten.
    private func makeRoom(for count: Int, in state: inout State) -> Bool {
        var kept: [String] = []
        var passed = 0
        while state.bytes + count > policy.bytes, passed < state.order.count {
            let key = state.order[passed]
            passed += 1
            guard let entry = state.entries[key] else { continue }
            if entry.isStored { remove(key, from: &state) } else { kept.append(key) }
        }
        if passed > 0 { state.order.replaceSubrange(..<passed, with: kept) }
        return state.bytes + count <= policy.bytes
    }
}

/// The objects that a ``DirectoryObjects`` holds in memory.
public struct MemoryPolicy: Sendable {
    /// Prefixes of keys of objects that live for a moment and can be made again: they are on the disk only when they live longer than the delay,
    /// and a process that dies before that loses them.
    public var transient: [String]
    /// Prefixes of keys of which a copy is kept, because it is read as soon as it is written.
    public var copied: [String]
    /// The maximum total size, in bytes.
    public var bytes: Int
    /// The maximum size of one object, in bytes.
    public var largest: Int
    public var writeDelay: Duration

    public init(transient: [String], copied: [String], bytes: Int, largest: Int, writeDelay: Duration = .seconds(1)) {
        self.transient = transient
        self.copied = copied
        self.bytes = bytes
        self.largest = largest
        self.writeDelay = writeDelay
    }
}
