public import AsyncHTTPClient
public import CohortCore
import CohortSystem
import Crypto
import FoundationEssentials
public import Logging
import NIOCore
import NIOHTTP1
import Synchronization
import _NIOFileSystem

/// Carries objects to and from presigned links: no token goes along, broken transfers go on where they stopped, hashes are checked.
public struct ObjectTransfer: Sendable {
    private let http: HTTPClient
    private let server: ServerURL
    private let logger: Logger
    private let patience: Duration
    private let time: any TimeSource

    /// - Parameters:
    ///   - server: relative links are resolved against it.
    ///   - patience: the longest time without a byte of progress before a transfer fails.
    ///   - time: measures the time between attempts and pauses between them.
    public init(
        http: HTTPClient, server: ServerURL, logger: Logger, patience: Duration = .seconds(60), time: any TimeSource = SystemTime()
    ) {
        self.time = time
        self.http = http
        self.server = server
        self.logger = logger
        self.patience = patience
    }

    /// Brings an object to `path`, which appears whole or not at all. What an earlier attempt left in `PATH.part` is gone on from.
    /// - Parameters:
    ///   - sha256: lowercase hexadecimal; a download that does not match is thrown away and tried once more.
    ///   - bytes: how many there must be.
    /// - Throws: `unavailable` when the connection fails for longer than the patience, `invalid` when the bytes are not the announced
    ///   ones, `storageFull`, `forbidden` when the link has expired.
    ///   - onProgress: told the share that is there, 0 … 1, as bytes come.
    public func download(
        _ link: String, to path: String, sha256: String, bytes: Int, onProgress: @escaping @Sendable (Double) -> Void = { _ in }
    ) async throws {
        let url = try server.resolve(link)
        let part = FilePath("\(path).part")
        do {
            for attempt in 1... {
                let found = try await FileSystem.shared.withFileHandle(
                    forReadingAndWritingAt: part, options: .modifyFile(createIfNecessary: true)
                ) { handle in
                    let found = try await fill(handle, from: url, bytes: Int64(bytes), onProgress)
                    if found == sha256 { try await FileDownload.publish(handle, from: part, to: path) }
                    return found
                }
                if found == sha256 { return }
                _ = try await FileSystem.shared.removeItem(at: part)
                guard attempt < 2 else {
                    throw CohortError(
                        .invalid, "the object at \(address(url)) has SHA-256 \(found), not \(sha256): it is damaged or another one")
                }
                logger.warning("the object at \(address(url)) came damaged; getting it once more")
            }
        } catch {
            throw FileDownload.fileError(error, path: path)
        }
    }

    /// An object in memory: weights, a part of a table.
    /// - Parameters:
    ///   - sha256: checked when given; else the one that the answer's `Repr-Digest` (RFC 9530) tells, if it does.
    ///   - credential: goes to the server alone, not to where it redirects.
    public func get(_ link: String, sha256: String? = nil, limit: Int = 1 << 30, credential: String? = nil) async throws -> [UInt8] {
        let url = try server.resolve(link)
        return try await persistently("getting \(address(url))") {
            var request = server.request(url)
            if let credential { request.headers.add(name: "Authorization", value: "Bearer \(credential)") }
            let response = try await execute(request, follows: true)
            let expected = sha256 ?? Self.digest(of: response)
            var bytes: [UInt8] = []
            bytes.reserveCapacity(min(limit, response.headers.first(name: "Content-Length").flatMap { Int($0) } ?? 0))
            var hash = SHA256()
            do {
                for try await chunk in response.body {
                    guard bytes.count + chunk.readableBytes <= limit else { throw NIOTooManyBytesError(maxBytes: limit) }
                    bytes += chunk.readableBytesView
                    if expected != nil { hash.update(chunk) }
                }
            } catch is NIOTooManyBytesError {
                throw CohortError(.tooLarge, "the object at \(address(url)) is larger than \(limit) bytes")
            } catch {
                throw BrokenConnection(error, remote: Remote(url, from: server)).error
            }
            if let expected {
                let found = hash.finalize().hexadecimal
                guard found == expected else {
                    throw CohortError(.invalid, "the object at \(address(url)) has SHA-256 \(found), not \(expected)")
                }
            }
            return bytes
        }
    }

    private static func digest(of response: HTTPClientResponse) -> String? {
        guard let field = response.headers.first(name: "Repr-Digest"), field.hasPrefix("sha-256=:"), field.hasSuffix(":"),
            let bytes = Data(base64Encoded: String(field.dropFirst("sha-256=:".count).dropLast())), bytes.count == 32
        else { return nil }
        return bytes.hexadecimal
    }

    /// Puts bytes to a presigned link. It may take as long as bytes go through, and waits while the server's disk is full: that is not this
    /// machine's to mend. Repeating a PUT is harmless.
    /// - Parameter onProgress: told the share that was sent, 0 … 1, as bytes go, and at each try.
    /// - Throws: `unavailable` when nothing goes through for longer than the patience.
    public func upload(_ bytes: [UInt8], to link: String, onProgress: @escaping @Sendable (Double) -> Void = { _ in }) async throws {
        let url = try server.resolve(link)
        let sent = UploadProgress(time)
        let total = Double(max(bytes.count, 1))
        try await persistently("putting \(address(url))", waitsForSpace: true, since: { sent.movedAt }) {
            var request = server.request(url)
            request.method = .PUT
            let parts = UploadParts(bytes: bytes) { count in
                sent.reached(count)
                onProgress(Double(count) / total)
            }
            request.body = .stream(parts, length: .known(Int64(bytes.count)))
            let finished = request
            try await withThrowingTaskGroup(of: Void.self) { tasks in
                tasks.addTask {
                    // The watch beside it says when it takes too long.
                    let response = try await execute(finished, timeout: .hours(24))
                    do {
                        _ = try await response.body.collect(upTo: 1 << 20)
                    } catch {
                        throw BrokenConnection(error, remote: Remote(url, from: server)).error
                    }
                }
                tasks.addTask {
                    while true {
                        let left = patience - (ContinuousClock.now - sent.attemptMovedAt)
                        guard left > .zero else {
                            throw CohortError(.unavailable, "nothing went through to \(address(url)) for \(patience)")
                        }
                        try await Task.sleep(for: left)
                    }
                }
                defer { tasks.cancelAll() }
                sent.begin()
                try await tasks.next()
            }
        }
    }

    /// Appends to the part file until it is as long as it must be.
    /// - Returns: the SHA-256 of the file.
    private func fill(
        _ handle: ReadWriteFileHandle, from url: String, bytes: Int64, _ onProgress: @Sendable (Double) -> Void
    ) async throws -> String {
        var offset = try await handle.info().size
        if offset > bytes {
            try await handle.resize(to: .bytes(0))
            offset = 0
        }
        var hash = try await FileDownload.hash(handle, length: offset)
        var backoff = Backoff()
        var progressAt = time.monotonic
        while offset < bytes {
            let before = offset
            do {
                var request = server.request(url)
                if offset > 0 { request.headers.add(name: "Range", value: "bytes=\(offset)-") }
                let response = try await execute(request)
                if offset > 0, !continues(response, at: offset) {
                    try await handle.resize(to: .bytes(0))
                    offset = 0
                    hash = SHA256()
                }
                var seen = offset
                try await FileDownload.append(response.body, to: handle, offset: &offset, limit: bytes, remote: Remote(url, from: server)) {
                    hash.update($0)
                    seen += Int64($0.readableBytes)
                    onProgress(Double(seen) / Double(max(bytes, 1)))
                }
                guard offset == bytes else {
                    throw CohortError(.unavailable, "\(address(url)) ended after \(offset) of \(bytes) bytes")
                }
            } catch let error as CohortError where error.code == .unavailable || error.code == .internal {
                if offset > before {
                    progressAt = time.monotonic
                    backoff.reset()
                }
                guard .seconds(time.monotonic - progressAt) < patience else { throw error }
                logger.info("the download broke after \(offset) of \(bytes) bytes, going on from there: \(error)")
                try await time.sleep(seconds: backoff.next() / .seconds(1))
            }
        }
        return hash.finalize().hexadecimal
    }

    /// Returns whether a partial answer begins at the requested offset.
    private func continues(_ response: HTTPClientResponse, at offset: Int64) -> Bool {
        response.status == .partialContent && response.headers.first(name: "Content-Range")?.hasPrefix("bytes \(offset)-") == true
    }

    /// - Parameter follows: one redirect, as the server gives to its object store.
    private func execute(
        _ request: HTTPClientRequest, timeout: TimeAmount = .seconds(60), follows: Bool = false
    ) async throws -> HTTPClientResponse {
        do {
            let response = try await http.execute(request, timeout: timeout)
            if follows, response.status == .temporaryRedirect, let target = response.headers.first(name: "Location") {
                return try await execute(server.request(try server.resolve(target)), timeout: timeout)
            }
            try await HTTPCaller.check(response, from: Remote(request.url, from: server))
            return response
        } catch {
            throw BrokenConnection(error, remote: Remote(request.url, from: server)).error
        }
    }

    /// - Parameters:
    ///   - waitsForSpace: whether a full disk of the server is waited out, however long that takes.
    ///   - since: when something last went further than ever before; nil: never.
    private func persistently<Value: Sendable>(
        _ what: String, waitsForSpace: Bool = false, since: () -> Double? = { nil }, _ attempt: () async throws -> Value
    ) async throws -> Value {
        var backoff = Backoff()
        let start = time.monotonic
        var isFirst = true
        while true {
            do {
                return try await attempt()
            } catch let error as CohortError where error.code == .storageFull && waitsForSpace {
                logger.log(level: isFirst ? .warning : .debug, "\(what): the server has no room just now, trying until it has: \(error)")
                isFirst = false
                try await time.sleep(seconds: backoff.next() / .seconds(1))
            } catch let error as CohortError where error.code == .unavailable || error.code == .internal {
                guard .seconds(time.monotonic - max(start, since() ?? start)) < patience else { throw error }
                logger.log(level: isFirst ? .info : .debug, "\(what) failed, trying again: \(error)")
                isFirst = false
                try await time.sleep(seconds: backoff.next() / .seconds(1))
            }
        }
    }

    /// The link without its signature, for logs.
    private func address(_ url: String) -> Substring { url.prefix { $0 != "?" } }
}

/// The progress of an upload, over all its attempts.
private final class UploadProgress: Sendable {
    private struct State {
        var furthest = 0
        var movedAt: Double?
        var attemptMovedAt = ContinuousClock.now
    }

    private let state = Mutex(State())
    private let time: any TimeSource

    init(_ time: any TimeSource) { self.time = time }

    func begin() { state.withLock { $0.attemptMovedAt = .now } }

    func reached(_ count: Int) {
        state.withLock { state in
            state.attemptMovedAt = .now
            guard count > state.furthest else { return }
            state.furthest = count
            state.movedAt = time.monotonic
        }
    }

    /// When it last came further than any attempt before, in seconds of `time`.
    var movedAt: Double? { state.withLock { $0.movedAt } }
    /// When this attempt last moved.
    var attemptMovedAt: ContinuousClock.Instant { state.withLock { $0.attemptMovedAt } }
}

/// Bytes in parts, told of as each is taken.
private struct UploadParts: AsyncSequence, Sendable {
    typealias Element = ByteBuffer
    static let part = 256 << 10
    let bytes: [UInt8]
    let onTaken: @Sendable (Int) -> Void

    struct AsyncIterator: AsyncIteratorProtocol {
        let bytes: [UInt8]
        let onTaken: @Sendable (Int) -> Void
        var offset = 0

        mutating func next() async throws -> ByteBuffer? {
            onTaken(offset)
            guard offset < bytes.count else { return nil }
            let end = Swift.min(offset + UploadParts.part, bytes.count)
            defer { offset = end }
            return ByteBuffer(bytes: bytes[offset..<end])
        }
    }

    func makeAsyncIterator() -> AsyncIterator { AsyncIterator(bytes: bytes, onTaken: onTaken) }
}
