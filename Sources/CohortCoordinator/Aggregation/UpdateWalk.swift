import CohortCore
import CohortSystem
import CohortTraining

/// Several sources in lockstep: in memory is a slice of each.
final class UpdateWalk {
    /// Chunks that are fetched at once.
    private static let atOnce = 8

    private let sources: [UpdateSource]
    private let width: Int
    private let buffer: UnsafeMutableBufferPointer<Float>
    private var count = 0

    /// - Parameters:
    ///   - values: of each source.
    ///   - width: of a slice.
    init(_ sources: [UpdateSource], values: Int, width: Int) {
        self.sources = sources
        self.width = max(1, min(width, values))
        buffer = .allocate(capacity: sources.count * self.width)
        buffer.initialize(repeating: 0)
    }

    deinit { buffer.deallocate() }

    /// Reads the next `count` values of every source, at most a slice.
    /// - Parameter isModel: whether they are the model's: then changes become weights by the first source, which has those that the round began with.
    /// - Throws: ``Aggregator/Changed`` for a peer's update that is not what was accepted.
    func next(_ count: Int, isModel: Bool, isolation: isolated any Actor) async throws {
        self.count = count
        var filled = [Int](repeating: 0, count: sources.count)
        while true {
            var feeds: [(index: Int, feed: ChunkFeed)] = []
            for (index, source) in sources.enumerated() where filled[index] < count {
                let room = UnsafeMutableBufferPointer(rebasing: buffer[(index * width + filled[index])..<(index * width + count)])
                do { filled[index] += try source.fill(room) } catch let error as CohortError { throw Self.problem(error, source) }
                if filled[index] < count, let feed = source.feed { feeds.append((index, feed)) }
            }
            guard !feeds.isEmpty else { break }
            for first in stride(from: 0, to: feeds.count, by: Self.atOnce) {
                // In the sources' order, so that the first one at fault is the same every time.
                for fetched in await Self.fetch(feeds[first..<min(feeds.count, first + Self.atOnce)]).sorted(by: { $0.index < $1.index }) {
                    let source = sources[fetched.index]
                    do { try source.append(try fetched.chunk.get()) } catch let error as CohortError { throw Self.problem(error, source) }
                }
            }
        }
        for (index, source) in sources.enumerated() where isModel && source.isChange {
            UpdateFile.add(row(0), to: UnsafeMutableBufferPointer(rebasing: buffer[(index * width)..<(index * width + count)]))
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

    /// Multiplies the current values of a source.
    func scale(_ index: Int, by factor: Double) {
        let row = UnsafeMutableBufferPointer(rebasing: buffer[(index * width)..<(index * width + count)])
        for place in row.indices { row[place] = Float(Double(row[place]) * factor) }
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
        return Aggregator.Changed(peerId: peerId, reason: "its update is not what was accepted: \(error.message)")
    }
}
