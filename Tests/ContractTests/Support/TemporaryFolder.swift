import CohortCore
import Foundation
import Testing

#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif

/// A folder of one test, removed with all that is in it.
struct TemporaryFolder: Sendable {
    let path: String

    func path(_ name: String) -> String { "\(path)/\(name)" }

    static func with(_ body: (TemporaryFolder) async throws -> Void) async throws {
        let folder = TemporaryFolder(path: "\(FileManager.default.temporaryDirectory.path)/cohort-\(UUID().uuidString)")
        try FileManager.default.createDirectory(atPath: folder.path, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder.path) }
        try await body(folder)
    }

    func write(_ bytes: [UInt8], to name: String) throws -> String {
        try Data(bytes).write(to: URL(fileURLWithPath: path(name)))
        return path(name)
    }

    /// Every file below, by its path, hidden ones too.
    func files() -> [String] {
        let names = FileManager.default.enumerator(atPath: path)?.compactMap { $0 as? String } ?? []
        return names.filter { name in
            let attributes = try? FileManager.default.attributesOfItem(atPath: self.path(name))
            return attributes?[.type] as? FileAttributeType == .typeRegular
        }.sorted()
    }
}

/// A file system of its own, so small that a test fills it.
enum SmallDisk {
    static let reason: Comment = "needs the right to mount a file system (root on Linux)"

    /// Runs `body` with the mount point of an empty file system of `kilobytes`.
    static func with(kilobytes: Int, readOnly: Bool = false, _ body: (TemporaryFolder) async throws -> Void) async throws {
        try await TemporaryFolder.with { folder in
            try #require(attach(folder.path, "size=\(kilobytes)k", readOnly: readOnly))
            do {
                try await body(folder)
            } catch {
                detach(folder.path)
                throw error
            }
            detach(folder.path)
        }
    }

    static let isPossible: Bool = {
        let path = "\(FileManager.default.temporaryDirectory.path)/cohort-mount-\(UUID().uuidString)"
        mkdir(path, 0o700)
        defer { rmdir(path) }
        guard attach(path, "size=64k", readOnly: false) else { return false }
        detach(path)
        return true
    }()

    private static func attach(_ path: String, _ options: String, readOnly: Bool) -> Bool {
        #if os(Linux)
            mount("tmpfs", path, "tmpfs", readOnly ? UInt(MS_RDONLY) : 0, options) == 0
        #else
            false
        #endif
    }

    private static func detach(_ path: String) {
        #if os(Linux)
            _ = umount2(path, Int32(MNT_DETACH))
        #endif
    }
}

/// Expects `body` to throw a ``CohortError`` of `code`, and gives it back for a look at its sentence.
@discardableResult
func expectError<Value>(
    _ code: CohortError.Code, sourceLocation: SourceLocation = #_sourceLocation, _ body: () async throws -> Value
) async -> String {
    do {
        _ = try await body()
        Issue.record("nothing was thrown; \(code) was expected", sourceLocation: sourceLocation)
        return ""
    } catch let error as CohortError {
        #expect(error.code == code, "\(error.message)", sourceLocation: sourceLocation)
        return error.message
    } catch {
        Issue.record("\(error) was thrown; \(code) was expected", sourceLocation: sourceLocation)
        return ""
    }
}
