import CohortCore
import CohortSystem
import CohortTraining
import Crypto

/// An object's bytes, a chunk at a time. Those of several are fetched at once, while nobody waits.
actor ChunkFeed {
    private var chunks: AsyncThrowingStream<[UInt8], any Error>.AsyncIterator

    init(_ chunks: AsyncThrowingStream<[UInt8], any Error>) { self.chunks = chunks.makeAsyncIterator() }

    func next() async throws -> [UInt8]? {
        // The iterator is this actor's alone, and asked for one chunk at a time.
        var chunks = chunks
        let chunk = try await chunks.next(isolation: self)
        self.chunks = chunks
        return chunk
    }
}

/// Weights that are read in lockstep with others, a slice of each at a time, hashed as they come.
final class UpdateSource {
    /// Whose update it is; nil: the server's own.
    let peerId: String?
    /// Read and not used yet.
    private var values: ArraySlice<Float>
    /// nil: all is in memory.
    let feed: ChunkFeed?
    private var stream: WeightsStream?
    /// nil: the store itself has proved its bytes to be right.
    private var digest: SHA256?
    private let sha256: String

    /// Values that are still wanted; behind them come zeros. nil: all there are.
    private var left: Int?

    /// One that is in memory.
    /// - Parameter count: of its values that are wanted; nil: all.
    init(_ parameters: [Float], of peerId: String?, values count: Int? = nil) {
        self.peerId = peerId
        values = parameters[...]
        left = count
        feed = nil
        sha256 = ""
    }

    /// - Throws: ``CohortError`` `notFound`.
    init(
        _ reference: ObjectReference, in objects: any ObjectStore, _ layout: WeightsLayout, of peerId: String?, values count: Int? = nil
    ) async throws {
        self.peerId = peerId
        left = count
        sha256 = reference.sha256.lowercased()
        values = []
        stream = WeightsStream(layout, allowsChange: peerId != nil)
        if let served = objects as? any ServedObjectStore {
            let (stored, chunks) = try await served.open(reference.key)
            // What it is read as is what it was stored as: then its being whole is proved by the store.
            if stored.sha256 != sha256 { digest = SHA256() }
            feed = ChunkFeed(chunks)
        } else {
            feed = ChunkFeed(try await objects.read(reference.key, from: 0))
            digest = SHA256()
        }
    }

    /// What comes is the change of the round's weights. Known once the first values have come.
    var isChange: Bool { stream?.isChange ?? false }

    func has(_ count: Int) -> Bool { values.count >= min(count, left ?? count) }

    /// Takes values that are there.
    func fill(_ row: UnsafeMutableBufferPointer<Float>) {
        let count = min(row.count, left ?? row.count)
        values.withUnsafeBufferPointer { values in _ = row.update(fromContentsOf: values.prefix(count)) }
        if count < row.count { UnsafeMutableBufferPointer(rebasing: row[count...]).update(repeating: 0) }
        values.removeFirst(count)
        if let left { self.left = left - count }
    }

    /// - Parameter chunk: nil at the end.
    /// - Throws: ``CohortError`` `invalid` for bytes that are no such weights, or not those that were accepted, and when they end early.
    func take(_ chunk: [UInt8]?) throws {
        guard let chunk else {
            try stream?.finish()
            throw CohortError(.invalid, "the weights end early")
        }
        digest?.update(data: chunk)
        try stream?.feed(chunk) { floats in
            if values.isEmpty { values = floats[...] } else { values += floats }
        }
    }

    /// Reads what is behind the values, which should be nothing.
    /// - Throws: ``CohortError`` `invalid` when its bytes are not those that were accepted.
    func end(isolation: isolated any Actor) async throws {
        guard let feed else { return }
        while let chunk = try await feed.next() {
            try take(chunk)
            values = []
        }
        try stream?.finish()
        if let digest, digest.finalize().hexadecimal != sha256 { throw CohortError(.invalid, "its bytes changed") }
    }
}

/// Several sources in lockstep: in memory is a slice of each.
final class UpdateWalk {
    /// 256 KiB of each source.
    static let width = 64 << 10
    /// Chunks that are fetched at once: each is held twice for a moment.
    private static let atOnce = 8

    private let sources: [UpdateSource]
    private let width: Int
    private let buffer: UnsafeMutableBufferPointer<Float>
    private var count = 0

    /// - Parameter values: of each source.
    init(_ sources: [UpdateSource], values: Int) {
        self.sources = sources
        width = max(1, min(Self.width, values))
        buffer = .allocate(capacity: sources.count * width)
        buffer.initialize(repeating: 0)
    }

    deinit { buffer.deallocate() }

    /// Reads the next `count` values of every source, at most ``width``.
    /// - Parameter isModel: whether they are the model's: then changes become weights by the first source, which has those that the round began with.
    /// - Throws: ``UpdateReader/Changed`` for a peer's update that is not what was accepted.
    func next(_ count: Int, isModel: Bool, isolation: isolated any Actor) async throws {
        self.count = count
        while true {
            let feeds = sources.enumerated().compactMap { index, source in
                source.has(count) ? nil : source.feed.map { (index: index, feed: $0) }
            }
            guard !feeds.isEmpty else { break }
            for first in stride(from: 0, to: feeds.count, by: Self.atOnce) {
                // In the sources' order, so that the first one at fault is the same every time.
                for fetched in await Self.fetch(feeds[first..<min(feeds.count, first + Self.atOnce)]).sorted(by: { $0.index < $1.index }) {
                    let source = sources[fetched.index]
                    do { try source.take(try fetched.chunk.get()) } catch let error as CohortError { throw Self.problem(error, source) }
                }
            }
        }
        for (index, source) in sources.enumerated() {
            let row = UnsafeMutableBufferPointer(rebasing: buffer[(index * width)..<(index * width + count)])
            source.fill(row)
            if isModel, source.isChange { UpdateFile.add(self.row(0), to: row) }
        }
    }

    private struct Fetched: Sendable {
        let index: Int
        let chunk: Result<[UInt8]?, any Error>
    }

    /// The next chunk of each, several at a time.
    private static func fetch(_ feeds: ArraySlice<(index: Int, feed: ChunkFeed)>) async -> [Fetched] {
        await withTaskGroup(of: Fetched.self) { group in
            for (index, feed) in feeds {
                group.addTask {
                    do {
                        return Fetched(index: index, chunk: .success(try await feed.next()))
                    } catch {
                        return Fetched(index: index, chunk: .failure(error))
                    }
                }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
    }

    /// Good until ``next(_:isModel:isolation:)``.
    func row(_ index: Int) -> UnsafeBufferPointer<Float> {
        UnsafeBufferPointer(rebasing: buffer[(index * width)..<(index * width + count)])
    }

    func end(isolation: isolated any Actor) async throws {
        for source in sources {
            do { try await source.end(isolation: isolation) } catch let error as CohortError { throw Self.problem(error, source) }
        }
    }

    private static func problem(_ error: CohortError, _ source: UpdateSource) -> any Error {
        guard error.code == .invalid || error.code == .notFound else { return error }
        guard let peerId = source.peerId else {
            return CohortError(.internal, "the round's weights are not what was stored: \(error.message)")
        }
        return UpdateReader.Changed(peerId: peerId, why: "its update is not what was accepted: \(error.message)")
    }
}
