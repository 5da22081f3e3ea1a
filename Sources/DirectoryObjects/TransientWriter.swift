import CohortCore
import CohortSystem
import Crypto
import Synchronization

/// A streamed write of a short-lived object: in memory while there is room, else, from then on, into a file.
final class TransientWriter: ObjectWriter {
    private struct State {
        var bytes: [UInt8] = []
        var digest = SHA256()
        /// Bytes that are set aside in the memory for this object.
        var reserved = 0
        var file: DirectoryObjectWriter?
        var isOver = false
    }

    private static let firstReserve = 256 << 10

    private let key: ObjectKey
    private let memory: ObjectMemory
    private let store: DirectoryObjects
    private let state = Mutex(State())

    init(key: ObjectKey, memory: ObjectMemory, store: DirectoryObjects) {
        self.key = key
        self.memory = memory
        self.store = store
    }

    deinit { memory.release(state.withLock { $0.reserved }) }

    func take(_ bytes: UnsafeRawBufferPointer) -> Bool {
        state.withLock { state in !state.isOver && state.file == nil && append(bytes, to: &state) }
    }

    func write(_ bytes: [UInt8]) async throws {
        let file = try state.withLock { state in
            guard !state.isOver else { throw isOver }
            return state.file
        }
        if let file { return try await file.write(bytes) }
        if !bytes.withUnsafeBytes({ take($0) }) { try await moveToFile().write(bytes) }
    }

    /// - Returns: false when there is no room.
    private func append(_ bytes: UnsafeRawBufferPointer, to state: inout State) -> Bool {
        let count = state.bytes.count + bytes.count
        if count > state.reserved {
            let more = max(count, 2 * state.reserved, Self.firstReserve) - state.reserved
            guard count <= memory.policy.largest, memory.reserve(more) else { return false }
            state.reserved += more
            state.bytes.reserveCapacity(state.reserved)
        }
        state.digest.update(bufferPointer: bytes)
        state.bytes += bytes
        return true
    }

    private func moveToFile() async throws -> DirectoryObjectWriter {
        let file = try await store.fileWriter(key: key)
        let bytes = state.withLock { state in
            state.file = file
            return clear(&state)
        }
        try await file.write(bytes)
        return file
    }

    private func clear(_ state: inout State) -> [UInt8] {
        defer { (state.bytes, state.reserved) = ([], 0) }
        memory.release(state.reserved)
        return state.bytes
    }

    func finish() async throws -> ObjectReference {
        let file: DirectoryObjectWriter? = try state.withLock { state in
            guard !state.isOver else { throw isOver }
            state.isOver = true
            return state.file
        }
        if let file { return try await file.finish() }
        if let reference = state.withLock({ taken(&$0) }) { return reference }
        return try await moveToFile().finish()
    }

    /// - Returns: nil when there is no room after all.
    private func taken(_ state: inout State) -> ObjectReference? {
        let reference = ObjectReference(key: key.text, sha256: state.digest.finalize().hexadecimal, bytes: state.bytes.count)
        let reserved = state.reserved
        state.reserved = 0
        return store.take(reference, state.bytes, in: memory, reserved: reserved) ? reference : nil
    }

    func abort() async {
        let file = state.withLock { state in
            state.isOver = true
            _ = clear(&state)
            return state.file
        }
        await file?.abort()
    }

    private var isOver: CohortError { CohortError(.internal, "the write of object \(key.text) has ended: begin a new one") }
}
