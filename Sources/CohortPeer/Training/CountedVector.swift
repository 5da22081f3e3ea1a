import CohortCore
import CohortSystem
import CohortTraining
import CohortWire
import Crypto
import FoundationEssentials
import Logging

/// A vector that a peer makes with each of its answers, and needs for the next one: that of its last answer which counted. One that did not count
/// is void. It is in memory and in a file, so that a peer that is started again goes on from it.
struct CountedVector {
    private let name: String
    private let folder: String
    private let logger: Logger
    private var session = ""
    /// The vectors by round: that of the last answer that counted, and that of the last answer, which may not count.
    private var known: [Int: [Float]] = [:]

    /// - Parameters:
    ///   - name: of the files.
    ///   - folder: is made when there is something to keep.
    init(_ name: String, folder: String, logger: Logger) {
        self.name = name
        self.folder = folder
        self.logger = logger
    }

    /// That of the last answer that counted, as `command` says; nil: there was none, or it is gone.
    mutating func counted(for command: TrainCommand, _ layout: WeightsLayout) -> [Float]? {
        begin(command.work.sessionId)
        let round = command.update?.countedRound
        known = known.filter { $0.key == round }
        if let round, known[round] == nil { known[round] = read(round, layout) }
        removeFiles { $0 != round }
        return round.flatMap { known[$0] }
    }

    /// Keeps the vector of the answer to `command`.
    mutating func keep(_ values: [Float], of command: TrainCommand, _ layout: WeightsLayout) {
        begin(command.work.sessionId)
        known[command.work.round] = values
        do {
            if let reason = createPrivateFolder(folder) {
                throw CohortError(.invalid, "the folder \(folder) could not be created: \(reason)")
            }
            try AtomicFile.write(Weights.encode(layout, values), to: path(command.work.round))
        } catch {
            logger.warning("\(error); a restarted peer would begin without it")
        }
    }

    private mutating func begin(_ id: String) {
        guard id != session else { return }
        known = [:]
        session = id
    }

    /// Releases the memory; the files stay.
    mutating func forget() {
        known = [:]
        session = ""
    }

    private func read(_ round: Int, _ layout: WeightsLayout) -> [Float]? {
        guard FileManager.default.fileExists(atPath: path(round)) else { return nil }
        do {
            return try Weights.decode([UInt8](Data(contentsOf: URL(filePath: path(round)))), layout)
        } catch {
            logger.warning("\(path(round)) is damaged and was ignored: \(error)")
            return nil
        }
    }

    /// A session's id comes from outside: it does not become a part of a path.
    private var prefix: String { "\(name)-\(SHA256.hash(data: [UInt8](session.utf8)).hexadecimal.prefix(16))-" }

    private func path(_ round: Int) -> String { "\(folder)/\(prefix)\(round).safetensors" }

    /// Removes the files of other sessions, and of this session those of the rounds that `isVoid` names.
    private func removeFiles(_ isVoid: (Int) -> Bool) {
        guard let files = try? FileManager.default.contentsOfDirectory(atPath: folder) else { return }  // There is none yet.
        for file in files where file.hasPrefix("\(name)-") {
            let round = file.hasPrefix(prefix) ? Int(file.dropFirst(prefix.count).prefix { $0 != "." }) : nil
            guard round.map(isVoid) ?? true else { continue }
            do {
                try FileManager.default.removeItem(atPath: "\(folder)/\(file)")
            } catch {
                logger.warning("\(folder)/\(file) could not be removed: \(error)")
            }
        }
    }
}
