import CohortCore
import CohortSystem
import Crypto
import NIOCore
import _NIOFileSystem

/// The size and hash of a file.
public struct FileDigest: Hashable, Sendable {
    /// Lowercase hexadecimal.
    public let sha256: String
    public let bytes: Int

    /// Reads the file once.
    /// - Throws: ``CohortError`` `invalid` when there is no such file, it is none, or it cannot be read.
    public init(of path: String) async throws {
        let path = FilePath(path)
        (sha256, bytes) = try await CohortClient.readableFile(path) {
            try await FileSystem.shared.withFileHandle(forReadingAt: path) { handle in
                guard try await handle.info().type == .regular else { throw CohortError(.invalid, "\(path) is not a file") }
                var hash = SHA256()
                var bytes = 0
                for try await chunk in handle.readChunks(chunkLength: .mebibytes(1)) {
                    bytes += chunk.readableBytes
                    chunk.withUnsafeReadableBytes { hash.update(bufferPointer: $0) }
                }
                return (hash.finalize().hexadecimal, bytes)
            }
        }
    }
}
