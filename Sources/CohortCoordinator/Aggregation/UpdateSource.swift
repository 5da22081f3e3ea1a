import CohortCore
import CohortSystem
import CohortTraining
import Crypto

/// An object's bytes, a chunk at a time. The next one is read while the last is worked on; those of several are fetched at once.
actor ChunkFeed {
    private var chunks: AsyncThrowingStream<[UInt8], any Error>.AsyncIterator
    /// Unstructured, because it runs between two calls; it ends after one chunk, whatever happens to the source.
    private var ahead: Task<[UInt8]?, any Error>?

    init(_ chunks: AsyncThrowingStream<[UInt8], any Error>) { self.chunks = chunks.makeAsyncIterator() }

    /// - Returns: nil at the end.
    func next() async throws -> [UInt8]? {
        let chunk =
            if let ahead {
                try await withTaskCancellationHandler {
                    try await ahead.value
                } onCancel: {
                    ahead.cancel()
                }
            } else {
                try await read()
            }
        ahead = chunk == nil ? nil : Task { try await read() }
        return chunk
    }

    private func read() async throws -> [UInt8]? {
        // The iterator is this actor's alone, and asked for one chunk at a time.
        var chunks = chunks
        let chunk = try await chunks.next(isolation: self)
        self.chunks = chunks
        // A stream that is cancelled ends: that is not the end of the bytes.
        if chunk == nil { try Task.checkCancellation() }
        return chunk
    }
}

/// Numbers that are read in lockstep with others, a slice of each at a time, hashed as they come.
final class UpdateSource {
    /// The peer whose update it is; nil: the server's weights.
    let peerId: String?
    /// nil: all is in memory.
    let feed: ChunkFeed?
    private var stream: WeightsStream?
    private var memory: ArraySlice<Float> = []
    /// Bytes in memory that the stream has not read yet.
    private var chunks: ArraySlice<[UInt8]> = []
    /// Numbers that are still wanted; behind them come zeros. nil: all there are.
    private var left: Int?
    /// nil: the store itself has proved its bytes to be right, or they are a part.
    private var digest: SHA256?
    private let sha256: String
    /// The bytes after the numbers belong to it.
    private let isWhole: Bool

    /// A source of numbers in memory.
    /// - Parameter count: of them that are wanted; nil: all.
    init(_ numbers: [Float], of peerId: String?, values count: Int? = nil) {
        self.peerId = peerId
        memory = numbers[...]
        left = count
        feed = nil
        sha256 = ""
        isWhole = true
    }

    /// A source of an update that was inspected.
    init(_ chunks: [[UInt8]], _ layout: WeightsLayout, of peerId: String) {
        self.peerId = peerId
        self.chunks = chunks[...]
        stream = WeightsStream(layout, allowsChange: true)
        feed = nil
        sha256 = ""
        isWhole = true
    }

    /// A source of stored weights, or of an update.
    /// - Throws: ``CohortError`` `notFound`.
    init(
        _ reference: ObjectReference, in objects: any ObjectStore, _ layout: WeightsLayout, of peerId: String?, values count: Int? = nil
    ) async throws {
        self.peerId = peerId
        left = count
        sha256 = reference.sha256.lowercased()
        stream = WeightsStream(layout, allowsChange: peerId != nil)
        isWhole = true
        let (stored, chunks) = try await objects.readVerified(reference.key)
        // Hashed here only where the store does not check the same hash.
        if stored != sha256 { digest = SHA256() }
        feed = ChunkFeed(chunks)
    }

    /// A source of stored numbers in an object, from a byte offset.
    /// - Throws: ``CohortError`` `notFound`.
    init(numbers count: Int, at offset: Int, of key: String, in objects: any ObjectStore) async throws {
        peerId = nil
        left = count
        sha256 = ""
        stream = WeightsStream(numbers: count)
        isWhole = false
        feed = ChunkFeed(try await objects.read(key, from: offset))
    }

    /// The numbers are the change from the round's weights; known after the first numbers.
    var isChange: Bool { stream?.isChange ?? false }

    /// Takes numbers that are there.
    /// - Returns: how many; fewer than there is room for when a chunk has to come first.
    /// - Throws: ``CohortError`` `invalid` for bytes that are no such weights.
    func fill(_ row: UnsafeMutableBufferPointer<Float>) throws -> Int {
        let wanted = min(row.count, left ?? row.count)
        let room = UnsafeMutableBufferPointer(rebasing: row[..<wanted])
        var filled = 0
        if wanted > 0, stream != nil {
            filled = try stream?.read(into: room) ?? 0
            while filled < wanted, let chunk = chunks.popFirst() {
                stream?.append(chunk)
                filled += try stream?.read(into: UnsafeMutableBufferPointer(rebasing: room[filled...])) ?? 0
            }
            guard filled == wanted || feed != nil else { throw CohortError(.invalid, "the weights end early") }
        } else if wanted > 0 {
            guard memory.count >= wanted else {
                throw CohortError(.internal, "\(memory.count) numbers are left where \(wanted) are wanted")
            }
            filled = memory.withUnsafeBufferPointer { room.update(fromContentsOf: $0.prefix(wanted)) }
            memory = memory.dropFirst(filled)
        }
        if let left { self.left = left - filled }
        guard filled == wanted, wanted < row.count else { return filled }
        UnsafeMutableBufferPointer(rebasing: row[wanted...]).update(repeating: 0)
        return row.count
    }

    /// - Parameter chunk: nil at the end.
    /// - Throws: ``CohortError`` `invalid` for bytes that end early, or are too many.
    func append(_ chunk: [UInt8]?) throws {
        guard let chunk else {
            try stream?.finish()
            throw CohortError(.invalid, "the weights end early")
        }
        digest?.update(data: chunk)
        stream?.append(chunk)
    }

    /// Reads what is behind the numbers that were wanted.
    /// - Throws: ``CohortError`` `invalid` when its bytes are not those that were accepted.
    func end(isolation: isolated any Actor) async throws {
        guard let feed, isWhole else { return }
        var isOver = false
        repeat {
            // Weights that were not read to their end.
            try stream?.skip()
            if let chunk = try await feed.next() { try append(chunk) } else { isOver = true }
        } while !isOver
        try stream?.finish()
        if let digest, digest.finalize().hexadecimal != sha256 { throw CohortError(.invalid, "its bytes changed") }
    }
}
