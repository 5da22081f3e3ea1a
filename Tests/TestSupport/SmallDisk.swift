import CohortCore
import Foundation
public import Testing

#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif

/// A separate file system, so small that a test fills it.
public struct SmallDisk: Sendable {
    public static let reason: Comment = "needs the right to mount a file system (root on Linux)"

    public let path: String

    /// - Parameter path: the mount point, which is created.
    /// - Throws: an error when mounting fails.
    public init(at path: String, kilobytes: Int, readOnly: Bool = false) throws {
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        try #require(Self.attach(path, "size=\(kilobytes)k,mode=700", readOnly: readOnly), "no file system can be mounted at \(path)")
        self.path = path
    }

    /// Fills it with one file.
    public func fill() throws {
        guard let file = fopen("\(path)/filler", "w") else { throw TestFailure("no filler: \(errno)") }
        let block = [UInt8](repeating: 1, count: 4_096)
        while fwrite(block, 1, block.count, file) == block.count {}
        fclose(file)
    }

    /// Removes the file that fills it.
    public func makeRoom() throws { try FileManager.default.removeItem(atPath: "\(path)/filler") }

    public func unmount() { Self.detach(path) }

    /// Runs `body` with the mount point of an empty file system of `kilobytes`.
    public static func with(kilobytes: Int, readOnly: Bool = false, _ body: (TemporaryFolder) async throws -> Void) async throws {
        try await TemporaryFolder.with { folder in
            let disk = try SmallDisk(at: folder.path, kilobytes: kilobytes, readOnly: readOnly)
            defer { disk.unmount() }
            try await body(folder)
        }
    }

    public static let isPossible: Bool = {
        let path = "\(FileManager.default.temporaryDirectory.path)/cohort-mount-\(newIdentifier())"
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
