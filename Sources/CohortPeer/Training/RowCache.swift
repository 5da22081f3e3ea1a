import CohortCore
import CohortTraining
import FoundationEssentials
import Logging

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// The rows of sessions' tables on disk, within a limit. They go with their session, unless they are to be kept; what was used last stays longest.
/// Blocks.
struct RowCache: Sendable {
    let folder: String
    /// Bytes.
    let limit: Int
    /// Rows of sessions that are over stay.
    let keepsData: Bool
    let logger: Logger

    /// The file with the rows of a session.
    /// - Throws: ``CohortError`` `invalid` for an id that is no name of a file.
    func path(session: String) throws -> String {
        guard 1...128 ~= session.utf8.count, session.utf8.allSatisfy({ Self.isNameByte($0) }) else {
            throw CohortError(.invalid, "session_id '\(session.printable(max: 60))' has characters other than letters, digits, - and _")
        }
        return "\(folder)/\(session).rows"
    }

    private static func isNameByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
            UInt8(ascii: "-"), UInt8(ascii: "_"):
            true
        default: false
        }
    }

    func markUsed(_ path: String) { _ = utimensat(AT_FDCWD, path, nil, 0) }

    /// Removes the rows of a session that is over, unless they are to be kept.
    func end(session: String) {
        // An id that is no file name has no rows here: opening its table was refused.
        guard !keepsData, let path = try? path(session: session) else { return }
        LocalTable.remove(path)
    }

    /// Removes the rows of other sessions, unless they are to be kept: a machine is in one session at a time.
    func begin(session: String) {
        guard !keepsData else { return }
        for name in names where name.hasSuffix(".rows") && name != "\(session).rows" { LocalTable.remove("\(folder)/\(name)") }
    }

    /// Removes all rows but those of `session`.
    /// - Returns: whether there were any.
    func clear(keeping session: String) -> Bool {
        let others = names.filter { $0.hasSuffix(".rows") && $0 != "\(session).rows" }
        for name in others { LocalTable.remove("\(folder)/\(name)") }
        if !others.isEmpty { logger.info("the disk is full: removed the rows of \(others.count) other sessions") }
        return !others.isEmpty
    }

    /// Removes what a process that died was writing, and what versions before this one kept.
    func removeLeftovers() {
        for name in names where !name.hasSuffix(".rows") && !name.hasSuffix(".rows.json") { unlink("\(folder)/\(name)") }
    }

    /// Empty for a folder that cannot be read: opening a table in it reports the reason.
    private var names: [String] { (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [] }

    /// Removes what was used longest ago until `bytes` more fit.
    /// - Parameter session: its rows stay.
    func makeRoom(for bytes: Int, keeping session: String) {
        var files = names.filter { $0.hasSuffix(".rows") }.compactMap { name -> (name: String, bytes: Int, used: timespec)? in
            var status = stat()
            guard stat("\(folder)/\(name)", &status) == 0 else { return nil }
            // Of a file with holes, what it takes on the disk.
            let taken = Int(status.st_blocks) * 512
            #if canImport(Glibc)
                return (name, taken, status.st_mtim)
            #else
                return (name, taken, status.st_mtimespec)
            #endif
        }
        var total = files.reduce(bytes) { $0 + $1.bytes }
        guard total > limit else { return }
        files.sort { ($0.used.tv_sec, $0.used.tv_nsec) < ($1.used.tv_sec, $1.used.tv_nsec) }
        for file in files where total > limit && file.name != "\(session).rows" {
            LocalTable.remove("\(folder)/\(file.name)")
            total -= file.bytes
            logger.info("removed \(file.name) (\(file.bytes) bytes), which was used longest ago, from the cache")
        }
        if total > limit {
            logger.warning(
                "the rows in use take \(total) bytes, more than the cache's limit of \(limit); they stay until they are not needed")
        }
    }
}
