import CohortCore
import CohortSystem
import Crypto
import Synchronization

/// A read of one object from an offset on, chunk by chunk as its reader asks; it blocks.
final class ObjectReading: Sendable {
    static let chunkSize = 256 << 10

    private struct Position {
        var offset: Int
        /// The digest of all bytes up to `offset`; nil when the read began later.
        var digest: SHA256?
        /// Read before anybody asked.
        var first: [UInt8]?
        /// The end was seen, and the bytes proved to be right.
        var isOver = false
    }

    enum Fetched {
        case chunk([UInt8])
        case end
        /// It has to be read.
        case nothing
    }

    private let file: OpenFile
    let reference: ObjectReference
    /// The position of the one task that reads.
    private let position: Mutex<Position>

    /// - Throws: `invalid` for an offset outside of the object; `internal` when the file has not the size it was stored with.
    init(_ key: ObjectKey, from offset: Int, in folder: ObjectFolder) throws {
        (file, reference) = try folder.open(key)
        guard (0...reference.bytes).contains(offset) else {
            throw CohortError.noByte(at: offset, of: reference)
        }
        position = Mutex(Position(offset: offset, digest: offset == 0 ? SHA256() : nil))
        let size = try file.status().size
        guard size == reference.bytes else { throw damaged("it has \(size) bytes instead of \(reference.bytes)") }
    }

    /// Reads the first chunk, and proves a small object right in the same go.
    func prefetch() throws {
        let first = try next()
        let isWhole = try position.withLock { $0.offset == reference.bytes } && next() == nil
        position.withLock { position in
            position.first = first
            position.isOver = isWhole
        }
    }

    /// Returns fetched bytes without blocking.
    func fetched() -> Fetched {
        position.withLock { position in
            if let first = position.first.take() { return .chunk(first) }
            return position.isOver ? .end : .nothing
        }
    }

    /// nil at the end, once the bytes have proved to be those that were stored.
    func next() throws -> [UInt8]? {
        try position.withLock { position in
            let count = min(Self.chunkSize, reference.bytes - position.offset)
            guard count > 0 else {
                if let digest = position.digest {
                    guard digest.finalize().hexadecimal == reference.sha256 else { throw damaged("its bytes do not match its SHA-256") }
                }
                return nil
            }
            let bytes = try file.read(at: position.offset, count: count)
            guard bytes.count == count else { throw damaged("it ends at \(position.offset + bytes.count) of \(reference.bytes) bytes") }
            position.digest?.update(data: bytes)
            position.offset += count
            return bytes
        }
    }

    private func damaged(_ how: String) -> CohortError {
        CohortError(.internal, "object \(reference.key) is damaged: \(how). The file is kept for inspection: \(file.path)")
    }
}
