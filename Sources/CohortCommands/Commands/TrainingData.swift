import CohortCore
import CohortSystem
import CohortTraining
import FoundationEssentials
import SystemPackage

/// The training data as a file that the server accepts.
final class TrainingData: Sendable {
    let path: String
    private let isTemporary: Bool

    /// - Parameters:
    ///   - targets: of a `.npy`.
    ///   - isPredicted: it needs none.
    /// - Throws: ``CohortError`` `invalid` for files that do not go together.
    init(file: String, targets: String? = nil, isPredicted: Bool = false) throws {
        guard targets != nil || file.hasSuffix(".npy") else {
            (path, isTemporary) = try Self.readable(file)
            return
        }
        guard targets != nil || isPredicted else {
            throw CohortError(.invalid, "\(file) has no targets: --targets names the .npy that has them, a number a row")
        }
        let place = FileManager.default.temporaryDirectory.appending(path: "cohort-data-\(newIdentifier()).safetensors").path
        let (x, y) = (try NumPyFile(path: file), try targets.map { try NumPyFile(path: $0) })
        do {
            try NumPyFile.pack(inputs: x, targets: y, to: place)
        } catch {
            try? FileManager.default.removeItem(atPath: place)  // The first error is the one to tell.
            throw error
        }
        (path, isTemporary) = (place, true)
    }

    deinit {
        if isTemporary { try? FileManager.default.removeItem(atPath: path) }  // The system clears what is left there.
    }

    /// A file is read more than once: what comes through a pipe (`-`, /dev/stdin, a FIFO) is copied first, and what is packed (.gz, .zip) unpacked.
    private static func readable(_ file: String) throws -> (path: String, isTemporary: Bool) {
        var isFolder = false
        guard file == "-" || FileManager.default.fileExists(atPath: file, isDirectory: &isFolder) else { return (file, false) }
        let isPipe = file == "-" || file.hasPrefix("/dev/") || file.hasPrefix("/proc/self/fd/")
        guard !isFolder, isPipe || FileStatus(of: file)?.kind == .fifo || isPacked(file) else { return (file, false) }
        let place = FileManager.default.temporaryDirectory.appending(path: "cohort-data-\(newIdentifier()).csv").path
        do {
            let source = file == "-" ? FileDescriptor.standardInput : try FileDescriptor.open(file, .readOnly, options: [.closeOnExec])
            let copy = try FileDescriptor.open(
                place, .writeOnly, options: [.create, .exclusiveCreate, .closeOnExec], permissions: [.ownerReadWrite])
            var block = [UInt8](repeating: 0, count: 1 << 20)
            let unpacker = Unpacker()
            while case let count = try block.withUnsafeMutableBytes({ try source.read(into: $0) }), count > 0 {
                unpacker.feed(block[..<count])
                while let bytes = try unpacker.next() { try copy.writeAll(bytes) }
            }
            unpacker.finish()
            while let bytes = try unpacker.next() { try copy.writeAll(bytes) }
            try unpacker.checkWhole()
            try copy.close()
            if file != "-" { try source.close() }
        } catch let error as Errno {
            try? FileManager.default.removeItem(atPath: place)  // The first error is the one to tell.
            throw CohortError(error == .noSpace ? .storageFull : .invalid, "\(file) cannot be read: \(error)")
        } catch let error as CohortError {
            try? FileManager.default.removeItem(atPath: place)  // The first error is the one to tell.
            throw CohortError(error.code, "\(file): \(error.message)")
        }
        return (place, true)
    }

    /// Returns whether the file is a gzip or a ZIP. Faults are left to the reading that follows, which reports them.
    private static func isPacked(_ file: String) -> Bool {
        guard let descriptor = try? FileDescriptor.open(file, .readOnly, options: [.closeOnExec]) else { return false }
        defer { try? descriptor.close() }  // Only read from.
        var head = [UInt8](repeating: 0, count: 9)
        let count = (try? head.withUnsafeMutableBytes { try descriptor.read(into: $0) }) ?? 0
        return Unpacker.isPacked(head[..<count])
    }
}
