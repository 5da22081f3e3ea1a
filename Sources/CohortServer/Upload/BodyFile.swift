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
    ///   - tooLarge: thrown for more than `limit` bytes.
    ///   - what: what the body must be.
    /// - Throws: ``CohortError`` `invalid` for an empty body and one that breaks off, `storageFull`.
    init(_ request: Request, at path: String, limit: Int, tooLarge: CohortError, what: String) async throws {
        if let length = request.contentLength, length > limit { throw tooLarge }
        let file = try Self.open(path)
        var count = 0
        var digest = SHA256()
        do {
            for try await chunk in request.body {
                count += chunk.readableBytes
                guard count <= limit else { throw tooLarge }
                chunk.withUnsafeReadableBytes { digest.update(bufferPointer: $0) }
                _ = try file.writeAll(chunk.readableBytesView)
            }
            guard count > 0 else { throw CohortError(.invalid, "the body is empty; it must be \(what)") }
            try file.close()
        } catch {
            try? file.close()  // The first error is the one to tell.
            Self.remove(path)
            switch error {
            case let error as CohortError: throw error
            case let error as Errno: throw CohortError(.storageFull, "what was sent cannot be kept: \(error)")
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
            throw CohortError(.storageFull, "a file cannot be made in the data folder: \(error)")
        }
    }

    /// One that is not there, or stays, is no reason to fail.
    static func remove(_ path: String) { try? FileManager.default.removeItem(atPath: path) }
}
