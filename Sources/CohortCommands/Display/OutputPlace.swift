import CohortCore
import CohortSystem
import FoundationEssentials
import SystemPackage

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// The destination that `-o` names: a file, which is replaced as a whole or not at all, or a stream such as `/dev/null`, a FIFO or `-`.
enum OutputPlace: Equatable {
    case standardOutput
    /// A device, a FIFO or a socket: opened as it is, never replaced.
    case stream(String)
    /// A regular file, or one that is not there yet; symbolic links are followed.
    case file(String)

    /// - Throws: ``CohortError`` `invalid` for a folder, a place that cannot be written, and links that lead nowhere.
    init(_ path: String) throws {
        guard !path.isEmpty else { throw CohortError(.invalid, "-o is empty; it must be a file's name, or - for standard output") }
        if ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].contains(path) {
            self = .standardOutput
            return
        }
        guard let status = FileStatus(of: path) else {
            guard errno == ENOENT else { throw Self.failure(path, errno) }
            self = .file(try Self.target(of: path))
            try checkFolder(path)
            return
        }
        switch status.kind {
        case .folder: throw CohortError(.invalid, "-o \(path) is a folder; it must be a file's name")
        // A redirection behind a descriptor keeps its file.
        case .regular where !path.hasPrefix("/dev/") && !path.hasPrefix("/proc/"):
            self = .file(try Self.target(of: path))
            try checkFolder(path)
        default:
            guard access(path, W_OK) == 0 else { throw Self.failure(path, errno) }
            self = .stream(path)
        }
    }

    /// Follows symbolic links, also to a file that is not there yet.
    private static func target(of path: String) throws -> String {
        var current = path
        for _ in 0..<40 {
            guard FileStatus(of: current, followsLinks: false)?.kind == .link else { return current }
            // A link that was removed this moment: the name itself is what is written to.
            guard let link = try? FileManager.default.destinationOfSymbolicLink(atPath: current) else { return current }
            let folder = FilePath(current).removingLastComponent()
            current = link.hasPrefix("/") ? link : folder.appending(link).string
        }
        throw CohortError(.invalid, "-o \(path) cannot be written: its symbolic links lead in a circle")
    }

    private func checkFolder(_ path: String) throws {
        guard case .file(let target) = self else { return }
        let folder = FilePath(target).removingLastComponent()
        let place = folder.string.isEmpty ? "." : folder.string
        var isFolder = false
        guard FileManager.default.fileExists(atPath: place, isDirectory: &isFolder), isFolder else {
            throw CohortError(.invalid, "-o \(path) cannot be written: there is no folder \(place)")
        }
        guard FileManager.default.isWritableFile(atPath: place) else {
            throw CohortError(.invalid, "-o \(path) cannot be written: the folder \(place) does not let you")
        }
    }

    static func failure(_ path: String, _ number: Int32) -> CohortError {
        CohortError(number == ENOSPC ? .storageFull : .invalid, "\(path) cannot be written: \(Errno(rawValue: number))")
    }

    /// `true` when results go to the same place as messages for people.
    var isStandardOutput: Bool { self == .standardOutput }
}

/// Bytes on their way to an ``OutputPlace``: a file appears when all are there, everything else takes them as they come.
final class OutputSink {
    private let place: OutputPlace
    private let shown: String
    /// The temporary file beside the target.
    private let temporary: String
    private let descriptor: FileDescriptor
    private var isOpen = true

    /// - Throws: ``CohortError`` `invalid` when it cannot be opened.
    init(_ place: OutputPlace) throws {
        self.place = place
        switch place {
        case .standardOutput:
            (shown, temporary, descriptor) = ("the output", "", .standardOutput)
        case .stream(let path):
            (shown, temporary) = (path, "")
            do { descriptor = try FileDescriptor.open(path, .writeOnly, options: [.closeOnExec]) } catch let error as Errno {
                throw OutputPlace.failure(path, error.rawValue)
            }
        case .file(let path):
            (shown, temporary) = (path, "\(path).\(newIdentifier()).part")
            do {
                descriptor = try FileDescriptor.open(
                    temporary, .writeOnly, options: [.create, .exclusiveCreate, .closeOnExec],
                    permissions: [.ownerReadWrite, .groupRead, .otherRead])
            } catch let error as Errno {
                throw OutputPlace.failure(path, error.rawValue)
            }
            // A file that is replaced keeps its rights.
            if let status = FileStatus(of: path) { FileStatus.set(permissions: status.permissions, of: temporary) }
        }
    }

    /// - Throws: ``CohortError`` `storageFull` or `invalid`. A reader of standard output that has gone ends the process quietly.
    func write(_ bytes: some Sequence<UInt8>) throws {
        do {
            try descriptor.writeAll(bytes)
        } catch Errno.brokenPipe where place == .standardOutput {
            Terminal.end(0)
        } catch let error as Errno {
            throw error == .noSpace || error == .ioError
                ? CohortError(.storageFull, "\(shown) cannot be written: \(error)") : OutputPlace.failure(shown, error.rawValue)
        }
    }

    /// After the last byte.
    func finish() throws {
        guard place != .standardOutput else { return }
        isOpen = false
        do { try descriptor.close() } catch let error as Errno { throw CohortError(.storageFull, "\(shown) cannot be written: \(error)") }
        guard case .file(let path) = place else { return }
        guard rename(temporary, path) == 0 else { throw OutputPlace.failure(path, errno) }
    }

    /// Leaves no file.
    func discard() {
        guard place != .standardOutput else { return }
        if isOpen { try? descriptor.close() }  // What it holds is not wanted.
        if !temporary.isEmpty { unlink(temporary) }
    }
}

extension OutputPlace {
    func write(_ bytes: [UInt8]) throws {
        let sink = try OutputSink(self)
        do {
            try sink.write(bytes)
            try sink.finish()
        } catch {
            sink.discard()
            throw error
        }
    }

    /// Writes a file under a temporary name: `make` writes it whole, then it is renamed.
    func fill(_ make: (_ path: String) async throws -> Void) async throws {
        let beside = if case .file(let path) = self { path } else { FileManager.default.temporaryDirectory.appending(path: "cohort").path }
        let temporary = "\(beside).\(newIdentifier()).part"
        defer { unlink(temporary) }
        try await make(temporary)
        if case .file(let path) = self {
            if let status = FileStatus(of: path) { FileStatus.set(permissions: status.permissions, of: temporary) }
            guard rename(temporary, path) == 0 else { throw Self.failure(path, errno) }
            return
        }
        let file = try FileDescriptor.open(temporary, .readOnly, options: [.closeOnExec])
        defer { try? file.close() }  // It was only read.
        let sink = try OutputSink(self)
        do {
            var block = [UInt8](repeating: 0, count: 1 << 20)
            while true {
                let count = try block.withUnsafeMutableBytes { try file.read(into: $0) }
                guard count > 0 else { break }
                try sink.write(block[..<count])
            }
            try sink.finish()
        } catch {
            sink.discard()
            throw error
        }
    }
}
