import CohortCore
import CohortSystem
import Crypto
import FoundationEssentials
import Hummingbird
import NIOCore
import SystemPackage

/// A request's body as a file of the data folder, which goes with this value.
final class BodyFile: Sendable {
    let path: String
    let bytes: Int
    /// Lowercase hexadecimal.
    let sha256: String

    /// - Parameters:
    ///   - path: of a file that is not there yet.
    ///   - isUnpacked: it is taken out of the gzip or ZIP that it may be packed in; `limit`, `bytes` and `sha256` are of what comes out.
    ///   - tooLarge: thrown for more than `limit` bytes.
    ///   - what: what the body must be.
    /// - Throws: ``CohortError`` `invalid` for an empty body and one that breaks off, `storageFull`.
    init(_ request: Request, at path: String, limit: Int, isUnpacked: Bool = false, tooLarge: CohortError, what: String) async throws {
        if let length = request.contentLength, length > limit { throw tooLarge }
        let file = try Self.open(path)
        var count = 0
        var digest = SHA256()
        do {
            let unpacker = Unpacker()
            func keep(_ bytes: ByteBufferView) throws {
                count += bytes.count
                guard count <= limit else { throw tooLarge }
                bytes.withUnsafeBytes { digest.update(bufferPointer: $0) }
                _ = try file.writeAll(bytes)
            }
            func keepUnpacked() throws {
                while let bytes = try unpacker.next() { try keep(ByteBuffer(bytes: bytes).readableBytesView) }
            }
            for try await chunk in request.body {
                guard isUnpacked, !unpacker.isPlain else {
                    try keep(chunk.readableBytesView)
                    continue
                }
                unpacker.feed(chunk.readableBytesView)
                try keepUnpacked()
            }
            unpacker.finish()
            try keepUnpacked()
            try unpacker.checkWhole()
            guard count > 0 else { throw CohortError(.invalid, "the body is empty; it must be \(what)") }
            try file.close()
        } catch {
            try? file.close()  // The first error is the one to tell.
            Self.remove(path)
            switch error {
            case let error as CohortError: throw error
            case let error as Errno: throw CohortError(.storageFull, "the body could not be written: \(error)")
            case is CancellationError: throw error
            default: throw CohortError(.invalid, "the connection broke while the body was read")
            }
        }
        self.path = path
        bytes = count
        sha256 = digest.finalize().hexadecimal
    }

    deinit { Self.remove(path) }

    /// A new file, to write.
    static func open(_ path: String) throws -> SystemPackage.FileDescriptor {
        do {
            return try SystemPackage.FileDescriptor.open(
                FilePath(path), .writeOnly, options: [.create, .exclusiveCreate, .closeOnExec], permissions: [.ownerRead, .ownerWrite])
        } catch {
            throw CohortError(.storageFull, "a file could not be created in the data folder: \(error)")
        }
    }

    /// One that is not there, or stays, is no reason to fail.
    static func remove(_ path: String) { try? FileManager.default.removeItem(atPath: path) }
}
