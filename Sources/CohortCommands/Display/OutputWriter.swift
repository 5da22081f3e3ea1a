import CohortCore
import SystemPackage

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Lines to standard output, or to a file that is there whole or not at all. A full disk is an error, not a short file.
final class OutputWriter {
    private static let block = 1 << 16

    private let path: String?
    /// Beside the file, and nobody else's.
    private let temporary: String
    private let descriptor: FileDescriptor
    private var buffer: [UInt8] = []
    private var isOpen = true

    /// - Parameter path: nil: standard output.
    /// - Throws: ``CohortError`` `invalid` when the file cannot be made.
    init(to path: String?) throws {
        self.path = path
        temporary = "\(path ?? "").\(newIdentifier()).part"
        guard let path else {
            descriptor = .standardOutput
            return
        }
        do {
            descriptor = try FileDescriptor.open(
                temporary, .writeOnly, options: [.create, .exclusiveCreate], permissions: [.ownerReadWrite, .groupRead, .otherRead])
        } catch let error as Errno {
            throw CohortError(.invalid, "\(path) cannot be written: \(error)")
        }
    }

    func line(_ text: String) throws {
        buffer.append(contentsOf: text.utf8)
        buffer.append(0x0a)
        if buffer.count >= Self.block { try flush() }
    }

    /// After the last line.
    func finish() throws {
        try flush()
        guard let path else { return }
        isOpen = false
        do {
            try descriptor.close()
        } catch let error as Errno {
            throw CohortError(.storageFull, "\(path) cannot be written: \(error)")
        }
        guard rename(temporary, path) == 0 else {
            throw CohortError(.invalid, "\(path) cannot be written: \(Errno(rawValue: errno))")
        }
    }

    /// Leaves no file.
    func discard() {
        guard path != nil else { return }
        if isOpen { try? descriptor.close() }  // What it holds is not wanted.
        unlink(temporary)
    }

    private func flush() throws {
        guard !buffer.isEmpty else { return }
        do {
            try descriptor.writeAll(buffer)
        } catch Errno.brokenPipe where path == nil {
            // Whoever reads has read enough.
            Terminal.end(0)
        } catch let error as Errno {
            throw CohortError(.storageFull, "\(path ?? "the output") cannot be written: \(error)")
        }
        buffer.removeAll(keepingCapacity: true)
    }
}
