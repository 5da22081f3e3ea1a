import CohortCore
import Configuration
import FoundationEssentials
import Logging
import SystemPackage

/// Everything that can be set, each from a flag, else `COHORT_…` in the environment or in the file that `COHORT_…_FILE` names, else the
/// configuration file, else its default. docs/settings.md has a row for each.
struct Settings {
    private let reader: ConfigReader

    /// - Parameter file: lines of `COHORT_NAME=value`, as in an environment file; nil: `COHORT_CONFIG`, else none.
    /// - Throws: ``CohortError`` `invalid` for a file that cannot be read, or a setting that is given twice.
    init(file: String?, environment: [String: String] = ProcessInfo.processInfo.environment) async throws {
        let environment = try Self.withSecrets(environment)
        var providers: [any ConfigProvider] = [EnvironmentVariablesProvider(environmentVariables: environment)]
        if let file = file ?? environment["COHORT_CONFIG"] {
            do {
                providers.append(try await EnvironmentVariablesProvider(environmentFilePath: FilePath(file)))
            } catch {
                throw CohortError(.invalid, "the configuration file \(file) cannot be read: \(error)")
            }
        }
        reader = ConfigReader(providers: providers)
    }

    /// With what stands in the files that `COHORT_…_FILE` names, as containers are given secrets; a line break at its end does not count.
    private static func withSecrets(_ environment: [String: String]) throws -> [String: String] {
        var result = environment
        for (name, path) in environment
        where name.hasPrefix("COHORT_") && name.hasSuffix("_FILE") && !ownFiles.contains(name) && !path.isEmpty {
            let setting = String(name.dropLast(5))
            guard environment[setting, default: ""].isEmpty else {
                throw CohortError(.invalid, "\(setting) and \(name) are both set: leave one out")
            }
            do {
                result[setting] = try String(contentsOfFile: path, encoding: .utf8).trimmingTrailingNewlines
            } catch {
                throw CohortError(.invalid, "\(name): the file \(path) cannot be read")
            }
        }
        return result
    }

    /// Settings that are themselves paths.
    private static let ownFiles = ["COHORT_BROKER_CA_FILE"]

    /// `data_dir` is `COHORT_DATA_DIR`.
    func text(_ name: String, flag: String? = nil) -> String? {
        let value = flag ?? reader.string(forKey: ConfigKey(["cohort"] + name.split(separator: "_").map(String.init)), isSecret: true)
        return value.flatMap { $0.isEmpty ? nil : $0 }
    }

    func text(_ name: String, flag: String? = nil, default standard: @autoclosure () -> String) -> String {
        text(name, flag: flag) ?? standard()
    }

    func whole(_ name: String, flag: Int? = nil, in range: ClosedRange<Int>, default standard: Int) throws -> Int {
        let value: Int
        if let flag {
            value = flag
        } else if let text = text(name) {
            guard let parsed = Int(text) else { throw wrong(name, text, "a whole number from \(range.lowerBound) to \(range.upperBound)") }
            value = parsed
        } else {
            return standard
        }
        guard range.contains(value) else { throw wrong(name, "\(value)", "a whole number from \(range.lowerBound) to \(range.upperBound)") }
        return value
    }

    func yesOrNo(_ name: String, default standard: Bool) throws -> Bool {
        guard let text = text(name) else { return standard }
        guard ["yes", "no"].contains(text) else { throw wrong(name, String(text.prefix(40)), "yes or no") }
        return text == "yes"
    }

    func seconds(_ name: String, in range: ClosedRange<Double>, default standard: Double) throws -> Double {
        guard let text = text(name) else { return standard }
        guard let value = Double(text), range.contains(value) else {
            throw wrong(name, text, "seconds from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    /// Bytes, with an optional suffix K, M, G or T (powers of 1024).
    func bytes(_ name: String, default standard: Int) throws -> Int {
        guard let text = text(name) else { return standard }
        let units: [Character: Int] = ["K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40]
        let unit = text.last.flatMap { units[Character($0.uppercased())] }
        let digits = unit == nil ? text[...] : text.dropLast()
        guard let count = Int(digits), count > 0, case let (value, overflow) = count.multipliedReportingOverflow(by: unit ?? 1), !overflow
        else { throw wrong(name, text, "bytes such as 1048576, 512M or 10G") }
        return value
    }

    func logLevel(flag: String?) throws -> Logger.Level {
        let name = text("log_level", flag: flag, default: "info")
        guard let level = Logger.Level(rawValue: name.lowercased()) else {
            throw wrong("log_level", name, "one of \(Logger.Level.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        return level
    }

    private func wrong(_ name: String, _ value: String, _ right: String) -> CohortError {
        CohortError(.invalid, "COHORT_\(name.uppercased()) is '\(value)'; it must be \(right)")
    }
}

/// Where things are kept when nothing else is said.
enum StandardFolder {
    /// `$XDG_DATA_HOME/cohort`, else `~/.local/share/cohort`.
    static func data(environment: [String: String] = ProcessInfo.processInfo.environment) -> String {
        folder(environment["XDG_DATA_HOME"], else: ".local/share", environment)
    }

    /// `$XDG_CONFIG_HOME/cohort`, else `~/.config/cohort`.
    static func configuration(environment: [String: String] = ProcessInfo.processInfo.environment) -> String {
        folder(environment["XDG_CONFIG_HOME"], else: ".config", environment)
    }

    private static func folder(_ base: String?, else standard: String, _ environment: [String: String]) -> String {
        let base = base.flatMap { $0.hasPrefix("/") ? $0 : nil } ?? "\(environment["HOME"] ?? "/tmp")/\(standard)"
        return "\(base)/cohort"
    }
}

extension String {
    fileprivate var trimmingTrailingNewlines: String {
        String(self[..<(lastIndex { !$0.isNewline }.map(index(after:)) ?? startIndex)])
    }
}
