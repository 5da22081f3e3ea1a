import CohortCore
import FoundationEssentials
import Logging

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Data sets by the hash of their contents, within a size limit: CSVs as they came, and tables as the engines read them. What was used
/// last stays longest. Blocks; called on the training thread only.
struct DatasetCache: Sendable {
    let folder: String
    let limit: Int
    let logger: Logger

    func csvPath(sha256: String) -> String { "\(folder)/\(sha256).csv" }

    /// A table is one CSV read by one schema.
    func tablePath(csvSha256: String, schemaHash: String) -> String { "\(folder)/\(csvSha256)-\(schemaHash.prefix(16)).table" }

    /// Returns whether the file exists with this size, and marks it as used.
    func has(_ path: String, bytes: Int) -> Bool {
        guard let status = Self.status(path), Int(status.st_size) == bytes else { return false }
        markUsed(path)
        return true
    }

    func markUsed(_ path: String) { _ = utimensat(AT_FDCWD, path, nil, 0) }

    func remove(_ path: String) { _ = unlink(path) }

    /// Deletes everything but `keeping`.
    /// - Returns: whether there was anything to delete.
    func clear(keeping: Set<String>) -> Bool {
        let files = names.map { "\(folder)/\($0)" }.filter { !keeping.contains($0) }
        for file in files { remove(file) }
        if !files.isEmpty { logger.info("the disk is full: removed \(files.count) other files from the cache") }
        return !files.isEmpty
    }

    /// Deletes tables that a process that died was writing.
    func removeLeftovers() {
        for name in names where name.contains(".table.") && name.hasSuffix(".part") { remove("\(folder)/\(name)") }
    }

    private var names: [String] { (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [] }

    /// Deletes what was used longest ago until `bytes` more fit.
    /// - Parameter keeping: paths that are in use.
    func makeRoom(for bytes: Int, keeping: Set<String>) {
        var files = names.compactMap { name -> (path: String, bytes: Int, used: timespec)? in
            let path = "\(folder)/\(name)"
            #if canImport(Glibc)
                return Self.status(path).map { (path, Int($0.st_size), $0.st_mtim) }
            #else
                return Self.status(path).map { (path, Int($0.st_size), $0.st_mtimespec) }
            #endif
        }
        var total = files.reduce(bytes) { $0 + $1.bytes }
        guard total > limit else { return }
        files.sort { ($0.used.tv_sec, $0.used.tv_nsec) < ($1.used.tv_sec, $1.used.tv_nsec) }
        for file in files where total > limit && !keeping.contains(file.path) {
            remove(file.path)
            total -= file.bytes
            logger.info("removed \(file.path) (\(file.bytes) bytes), which was used longest ago, from the cache")
        }
        if total > limit {
            logger.warning(
                "the data set in use takes \(total) bytes, more than the cache's limit of \(limit); it is kept until it is not needed")
        }
    }

    private static func status(_ path: String) -> stat? {
        var status = stat()
        return stat(path, &status) == 0 ? status : nil
    }
}
