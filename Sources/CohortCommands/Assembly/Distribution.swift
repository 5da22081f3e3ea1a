import CohortCore
import FoundationEssentials

/// The files beside an installed executable, as `make dist` places them: `PREFIX/bin/cohort`, `PREFIX/share/cohort/…`.
enum Distribution {
    private static var prefix: String? {
        // Without it nothing is found, which is reported where a file is needed.
        guard let path = try? executablePath() else { return nil }
        return path.split(separator: "/", omittingEmptySubsequences: false).dropLast(2).joined(separator: "/")
    }

    /// A CSV to try Cohort with, and what to predict in it.
    static var sample: (file: String, target: String) {
        let installed = prefix.map { "\($0)/share/cohort/penguins.csv" } ?? ""
        let own = "Examples/penguins.csv"
        return (
            FileManager.default.fileExists(atPath: own) || !FileManager.default.fileExists(atPath: installed) ? own : installed, "species"
        )
    }

    private static var archiveName: String {
        #if arch(x86_64)
            let machine = "x86_64"
        #else
            let machine = "aarch64"
        #endif
        return "cohort-\(CohortVersion.current)-linux-\(machine).tar.gz"
    }

    /// The archive to hand out: the one that is given, else the package's own, else the one that lies where it was unpacked.
    /// - Throws: ``CohortError`` `invalid` when the given one is not there.
    static func archive(given: String?) throws -> String? {
        if let given {
            guard FileManager.default.isReadableFile(atPath: given) else {
                throw CohortError(.invalid, "COHORT_ARCHIVE is \(given), which is not there or cannot be read: `make dist` makes it")
            }
            return given
        }
        guard let prefix else { return nil }
        let parent = prefix.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
        return ["\(prefix)/share/cohort/\(archiveName)", "\(parent)/\(archiveName)"].first {
            FileManager.default.isReadableFile(atPath: $0)
        }
    }
}
