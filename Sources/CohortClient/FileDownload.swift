import AsyncHTTPClient
import CohortCore
import CohortSystem
import Crypto
import NIOCore
import _NIOFileSystem

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Bytes from the network into a file that appears whole or not at all. File work runs on NIO's threads for blocking work.
enum FileDownload {
    /// Writes a body beside `path` and renames it.
    static func write(_ body: HTTPClientResponse.Body, to path: String, remote: Remote) async throws -> Int {
        let temporary = FilePath("\(path).\(newIdentifier()).part")
        do {
            return try await FileSystem.shared.withFileHandle(
                forWritingAt: temporary,
                // Under its temporary name from the start: NIO would give it none until it is closed.
                options: OpenOptions.Write(
                    existingFile: .none, newFile: OpenOptions.NewFile(permissions: nil, transactionalCreation: false))
            ) { handle in
                var offset: Int64 = 0
                try await append(body, to: handle, offset: &offset, remote: remote)
                try await publish(handle, from: temporary, to: path)
                return Int(offset)
            }
        } catch {
            _ = try? await FileSystem.shared.removeItem(at: temporary)
            throw fileError(error, path: path)
        }
    }

    /// Appends a body at `offset`, which is kept up to date also when it throws.
    static func append(
        _ body: HTTPClientResponse.Body, to handle: some WritableFileHandleProtocol, offset: inout Int64, limit: Int64 = .max,
        remote: Remote, each: (ByteBuffer) -> Void = { _ in }
    ) async throws {
        var iterator = body.makeAsyncIterator()
        while true {
            let chunk: ByteBuffer?
            do {
                chunk = try await iterator.next()
            } catch {
                throw BrokenConnection(error, remote: remote).error
            }
            guard let chunk else {
                // A cancelled task ends the body early, without an error.
                try Task.checkCancellation()
                return
            }
            guard offset + Int64(chunk.readableBytes) <= limit else {
                throw CohortError(.invalid, "more than the \(limit) bytes that were announced came from \(remote)")
            }
            try await handle.write(contentsOf: chunk, toAbsoluteOffset: offset)
            offset += Int64(chunk.readableBytes)
            each(chunk)
        }
    }

    /// Makes the bytes durable and gives the file its name.
    static func publish(_ handle: some WritableFileHandleProtocol, from temporary: FilePath, to path: String) async throws {
        let source = temporary.string
        try await handle.withUnsafeDescriptor { descriptor in
            guard fsync(descriptor.rawValue) == 0, rename(source, path) == 0 else { throw Errno(rawValue: errno) }
        }
    }

    /// SHA-256 of the first `length` bytes of a file.
    static func hash(_ handle: some ReadableFileHandleProtocol, length: Int64) async throws -> SHA256 {
        var hash = SHA256()
        var offset: Int64 = 0
        while offset < length {
            let chunk = try await handle.readChunk(fromAbsoluteOffset: offset, length: .bytes(min(1 << 20, length - offset)))
            guard chunk.readableBytes > 0 else { break }
            hash.update(chunk)
            offset += Int64(chunk.readableBytes)
        }
        return hash
    }

    /// The error for a failed file operation.
    static func fileError(_ error: any Error, path: String) -> any Error {
        var number: Int32?
        if let error = error as? Errno { number = error.rawValue }
        if let error = (error as? FileSystemError)?.cause as? FileSystemError.SystemCallError { number = error.errno.rawValue }
        switch number {
        case nil where !(error is FileSystemError): return error
        case ENOSPC, EDQUOT: return CohortError(.storageFull, "the disk is full: \(path) cannot be written; free some space and try again")
        default: return CohortError(.invalid, "\(path) cannot be written: \(error)")
        }
    }
}

extension SHA256 {
    mutating func update(_ buffer: ByteBuffer) {
        buffer.withUnsafeReadableBytes { update(bufferPointer: $0) }
    }
}
