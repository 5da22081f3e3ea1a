import CohortCore
import CohortSystem
import FoundationEssentials

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

/// A peer's data folder. Its methods block for small files.
final class PeerFolder: Sendable {
    private let folder: LockedFolder

    /// - Throws: ``CohortError`` `conflict` when another peer uses the folder, `invalid` when it is not writable.
    init(path: String) throws(CohortError) {
        folder = try LockedFolder(path: path, lockName: "peer.lock", role: "peer")
        if let reason = createPrivateFolder(cachePath) {
            throw CohortError(.invalid, "the folder \(cachePath) could not be created: \(reason)")
        }
    }

    var path: String { folder.path }
    var cachePath: String { Self.cachePath(in: path) }
    static func cachePath(in folder: String) -> String { "\(folder)/cache" }
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

    /// - Throws: ``CohortError`` when the file cannot be written.
    func save(_ record: PeerRecord) throws {
        // It holds a credential: no other user may read it.
        try AtomicFile.write(CohortJSON.encode(record), to: recordPath)
    }
}
