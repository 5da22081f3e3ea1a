import CohortCore
import CohortSystem
import FoundationEssentials

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// The peer's state between runs, in `peer.json`.
struct PeerRecord: Codable, Equatable, Sendable {
    /// Given by the server when it first registered.
    var peerId: String?
    /// The credential of the last registration, which proves that the id is this machine's.
    var credential: String?
    var measurement: Measurement?

    struct Measurement: Codable, Equatable, Sendable {
        var samplesPerSecond: Double
        /// The engine, device and thread count of the measurement: others are measured again.
        var engine: String
        var device: String
        var threads: Int
    }
}

/// A peer's data folder, made with mode 0700 and in the hands of one process: the lock vanishes with the process, however it ends.
/// Its methods block for small files.
final class PeerFolder: Sendable {
    let path: String
    private let descriptor: Int32

    /// - Throws: ``CohortError`` `conflict` when another peer uses the folder, `invalid` when it is not writable.
    init(path: String) throws {
        if let why = createPrivateFolder("\(path)/cache") {
            throw CohortError(.invalid, "the data folder \(path) could not be created: \(why)")
        }
        let descriptor = open("\(path)/peer.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw CohortError(.invalid, "the data folder \(path) cannot be written to: \(String(cString: strerror(errno)))")
        }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            close(descriptor)
            throw CohortError(
                .conflict, "another peer is running on the data folder \(path): stop it, or choose another folder with --data-dir")
        }
        self.path = path
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    var cachePath: String { "\(path)/cache" }
    /// The folder of state between the rounds of a session.
    var roundsPath: String { "\(path)/rounds" }
    private var recordPath: String { "\(path)/peer.json" }

    /// - Throws: ``CohortError`` `invalid` when the file is damaged; it is left as it is.
    func loadRecord() throws -> PeerRecord {
        guard FileManager.default.fileExists(atPath: recordPath) else { return PeerRecord() }
        do {
            return try CohortJSON.decode(PeerRecord.self, from: Data(contentsOf: URL(filePath: recordPath)))
        } catch {
            throw CohortError(
                .invalid,
                "\(recordPath) is damaged (\(error)): put it back from a backup, or move it away and this machine joins as a new peer")
        }
    }

    /// Written beside and renamed: a crash leaves the old one or the new one.
    func save(_ record: PeerRecord) throws {
        do {
            try Data(CohortJSON.encode(record)).write(to: URL(filePath: recordPath), options: .atomic)
            // It holds a credential; the folder is this user's alone already, unless it was there before.
            try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: recordPath)
        } catch {
            throw CohortError(.storageFull, "\(recordPath) cannot be written: \(error)")
        }
    }
}
