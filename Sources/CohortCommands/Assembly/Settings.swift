import CohortCore
import Configuration
import FoundationEssentials
import Logging
import SystemPackage

/// Everything that can be set, each from a flag, else `COHORT_…` in the environment or in the file that `COHORT_…_FILE` names, else the
/// configuration file, else its default. docs/settings.md has a row for each.
struct Settings {
    private let reader: ConfigReader
    /// Warnings about unknown names in the environment.
    let warnings: [String]

    /// - Parameter file: lines of `COHORT_NAME=value`, as in an environment file; nil: `COHORT_CONFIG`, else none.
    /// - Throws: ``CohortError`` `invalid` for a file that cannot be read, or a setting that is given twice.
    init(file: String?, environment: [String: String] = ProcessInfo.processInfo.environment) async throws {
        warnings = Self.unknown(in: environment.keys.sorted()).map { name in
            "\(name) in the environment is not a Cohort setting and was ignored\(Self.hint(for: name))"
        }
        let environment = try Self.withSecrets(environment)
        var providers: [any ConfigProvider] = [EnvironmentVariablesProvider(environmentVariables: environment)]
        if let file = file ?? environment["COHORT_CONFIG"] {
            try Self.checkLines(of: file)
            do {
                providers.append(try await EnvironmentVariablesProvider(environmentFilePath: FilePath(file)))
            } catch {
                throw CohortError(.invalid, "the configuration file \(file) cannot be read: \(error)")
            }
        }
        reader = ConfigReader(providers: providers)
    }

    /// Every setting, as docs/settings.md has them.
    static let names = [
        "ALLOW_MODELS", "ARCHIVE", "BASE_PATH", "BEHIND_PROXY", "BROKER_ADMIN_URL", "BROKER_CA_FILE", "BROKER_PEER_URL", "BROKER_QUORUM",
        "BROKER_URL",
        "CACHE_LIMIT",
        "CA_FILE",
        "CONFIG",
        "CORS_ORIGIN",
        "COORDINATE",
        "DATABASE_URL", "DATA_DIR", "DEAD_AFTER", "DEVICE", "ENGINE", "FINGERPRINT", "HEARTBEAT_INTERVAL", "HOST", "INSECURE_HTTP",
        "INVITATION", "INVITATION_CODES", "JWT_SECRET",
        "KEEP_DATA",
        "LEASE_SECONDS",
        "LOG_LEVEL", "LONGEST_RUN", "MACHINES_PER_TOKEN", "MODEL_MEMORY",
        "MAX_LOAD", "NAME", "OBJECTS_URL", "OTLP_URL", "PEER_WAIT", "POOL_SHARE", "PORT", "PROGRESS_WAIT", "ROUND_GRACE", "SERVE", "SERVER",
        "SIGN_UP",
        "SUSPECT_AFTER",
        "THREADS", "TLS", "TLS_CERTIFICATE", "TLS_KEY", "TOKEN", "TOKEN_LIFETIME", "TORCH_PLUGIN", "TORCH_PRECISION", "TRANSPORT",
        "TRUSTED_PROXIES",
        "UPLOAD_LIMIT",
    ].map { "COHORT_\($0)" }

    /// Settings that tests and scripts use.
    private static let inner = [
        "COHORT_CHECK_POINTS", "COHORT_ENDS_WITH_PARENT", "COHORT_ONLY", "COHORT_BINARY", "COHORT_DOCKER_FOLDER", "COHORT_TORCH",
    ]

    private static func unknown(in given: [String]) -> [String] {
        given.filter { name in
            name.hasPrefix("COHORT_") && !names.contains(name) && !inner.contains(name) && !name.hasPrefix("COHORT_TEST_")
                && !name.hasPrefix("COHORT_FUZZ_") && !(name.hasSuffix("_FILE") && names.contains(String(name.dropLast(5))))
        }
    }

    private static func hint(for name: String) -> String {
        Spelling.nearest(to: name, in: names).map { ": did you mean \($0)?" } ?? ""
    }

    /// - Throws: ``CohortError`` `invalid` for a line that is no setting, naming it.
    private static func checkLines(of file: String) throws {
        guard let text = try? String(contentsOfFile: file, encoding: .utf8) else { return }  // A later read reports the reason.
        for (number, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let line = line.drop { $0 == " " || $0 == "\t" }
            guard let first = line.first, first != "#" else { continue }
            let sides = line.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = String(sides[0].prefix { $0 != " " && $0 != "\t" })
            guard sides.count == 2, name.count == sides[0].count else {
                throw CohortError(.invalid, "line \(number + 1) of \(file) is not COHORT_NAME=value: '\(name.printable(max: 40))'")
            }
            // Other lines are of those who share the file with Cohort.
            if let unknown = unknown(in: [name]).first {
                throw CohortError(
                    .invalid, "line \(number + 1) of \(file): there is no setting \(unknown.printable(max: 60))\(hint(for: unknown))")
            }
            if name.hasSuffix("_FILE"), !names.contains(name), name.hasPrefix("COHORT_") {
                throw CohortError(.invalid, "line \(number + 1) of \(file): \(name) is taken from the environment alone")
            }
        }
    }

    /// Adds the contents of files that `COHORT_…_FILE` names, as containers receive secrets; a line break at the end is removed.
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

    /// - Throws: ``CohortError`` `invalid`, with what there is to choose from.
    func choice<Value: RawRepresentable & CaseIterable>(_ name: String, flag: String? = nil, standard: Value) throws -> Value
    where Value.RawValue == String {
        guard let text = text(name, flag: flag) else { return standard }
        guard let value = Value(rawValue: text) else {
            throw CohortError(
                .invalid,
                "COHORT_\(name.uppercased()) is '\(text.printable(max: 40))'; it must be one of \(Value.allCases.map(\.rawValue).joined(separator: ", "))"
            )
        }
        return value
    }

    func whole(_ name: String, flag: Int? = nil, in range: ClosedRange<Int>, default standard: Int) throws -> Int {
        let value: Int
        if let flag {
            value = flag
        } else if let text = text(name) {
            guard let parsed = Int(text) else {
                throw wrong(name, value: text, expected: "a whole number from \(range.lowerBound) to \(range.upperBound)")
            }
            value = parsed
        } else {
            return standard
        }
        guard range.contains(value) else {
            throw wrong(name, value: "\(value)", expected: "a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    func yesOrNo(_ name: String, default standard: Bool) throws -> Bool {
        guard let text = text(name) else { return standard }
        guard ["yes", "no"].contains(text) else { throw wrong(name, value: String(text.prefix(40)), expected: "yes or no") }
        return text == "yes"
    }

    func seconds(_ name: String, in range: ClosedRange<Double>, default standard: Double) throws -> Double {
        guard let text = text(name) else { return standard }
        guard let value = Double(text), range.contains(value) else {
            throw wrong(name, value: text, expected: "seconds from \(range.lowerBound) to \(range.upperBound)")
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
        else { throw wrong(name, value: text, expected: "bytes such as 1048576, 512M or 10G") }
        return value
    }

    func logLevel(flag: String?, standard: Logger.Level = .info) throws -> Logger.Level {
        let name = text("log_level", flag: flag, default: standard.rawValue)
        guard let level = Logger.Level(rawValue: name.lowercased()) else {
            throw wrong("log_level", value: name, expected: "one of \(Logger.Level.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        return level
    }

    private func wrong(_ name: String, value: String, expected right: String) -> CohortError {
        CohortError(.invalid, "COHORT_\(name.uppercased()) is '\(value)'; it must be \(right)")
    }
}

/// The default folders.
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
