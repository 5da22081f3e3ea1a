import CohortCore
import FoundationEssentials
import Logging

/// Files in the data folder that a request needs while it is answered: all have one beginning of their names, and a server that starts removes
/// what one that was killed has left.
enum TemporaryFiles {
    private static let beginning = "request-"

    /// A path that no other request has.
    static func path(_ what: String, in folder: String) -> String { "\(folder)/\(beginning)\(what)-\(newIdentifier())" }

    /// Removes all; before any request is taken.
    static func removeAll(in folder: String, _ logger: Logger) {
        let names: [String]
        do { names = try FileManager.default.contentsOfDirectory(atPath: folder) } catch {
            return logger.warning("\(folder) could not be searched for files that an earlier server left: \(error)")
        }
        for name in names where name.hasPrefix(beginning) {
            do {
                try FileManager.default.removeItem(atPath: "\(folder)/\(name)")
                logger.notice("removed \(name), which an earlier server left")
            } catch {
                logger.warning("\(folder)/\(name) is left over: \(error)")
            }
        }
    }
}
