import ArgumentParser
import CohortClient
import CohortCore
import CohortTraining
import FoundationEssentials

import var CohortSystem.maxDescriptors

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

struct Doctor: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Check this machine and its connection to a server.",
        discussion:
            "Checks this machine, its disk and libraries, the sign-in, and the server: whether it answers, its clock, the upload speed. Each problem is reported with how to fix it. Exit code 1 when there is a problem."
    )

    @Option(help: "The server's URL; else that of the last sign-in (COHORT_SERVER).")
    var server: String?
    @Flag(help: "Print JSON, for scripts.")
    var json = false

    struct Finding: Encodable {
        enum State: String, Encodable {
            case fine = "ok"
            case note
            case wrong
        }
        var about: String
        var state: State
        var message: String
        /// The suggested fix.
        var fix: String?
    }

    func run() async throws {
        let settings = try await Settings(file: nil)
        var findings = [
            machine, blas, library("RabbitMQ", named: "librabbitmq.so.4", package: "librabbitmq4"),
            library("MongoDB", named: "libmongoc-1.0.so.0", package: "libmongoc-1.0-0"),
        ]
        findings += [descriptors, try folder("configuration", StandardFolder.configuration(), least: 1 << 20)]
        findings.append(try folder("data", settings.text("data_dir", default: StandardFolder.data()), least: 1 << 30))
        for warning in settings.warnings { findings.append(Finding(about: "settings", state: .wrong, message: warning, fix: "unset it")) }
        let (signedIn, credentials) = signIn()
        findings.append(signedIn)
        if let server = settings.text("server", flag: server) ?? credentials?.server {
            findings += await inspect(server, token: credentials.flatMap { $0.server == server ? $0.accessToken : nil })
        } else {
            findings.append(
                Finding(
                    about: "server", state: .note, message: "none is known here",
                    fix: "pass --server URL, or start one with `cohort serve`"))
        }
        if json { try Terminal.print(json: findings) } else { Terminal.printLine(text(findings)) }
        if findings.contains(where: { $0.state == .wrong }) { throw ExitCode(1) }
    }

    private func text(_ findings: [Finding]) -> String {
        let width = findings.map(\.about.count).max() ?? 0
        return findings.map { finding in
            let mark = finding.state.rawValue + String(repeating: " ", count: 5 - finding.state.rawValue.count)
            let about = finding.about + String(repeating: " ", count: width - finding.about.count)
            return "\(mark)  \(about)  \(finding.message)" + (finding.fix.map { ": \($0)" } ?? "")
        }.joined(separator: "\n")
    }

    // MARK: This machine

    private var machine: Finding {
        let cores = max(1, ProcessInfo.processInfo.activeProcessorCount)
        let words =
            "Cohort \(CohortVersion.current), \(cores) \(cores == 1 ? "core" : "cores"), \(Figure.bytes(Int(clamping: ProcessInfo.processInfo.physicalMemory))) of memory"
        do {
            let speed = try NativeEngine(threads: cores).measureSamplesPerSecond(for: 0.3)
            return Finding(
                about: "machine", state: .fine,
                message: "\(words); trains \(Figure.whole(Int(min(speed, 1e15)))) samples/s on the CPU (a net 64-128-64-10)")
        } catch {
            return Finding(about: "machine", state: .wrong, message: "\(words); the engine cannot train: \(error)", fix: "report this")
        }
    }

    private var blas: Finding {
        if let description = BLAS.description { return Finding(about: "BLAS", state: .fine, message: description) }
        return Finding(
            about: "BLAS", state: .note, message: "none is on this machine, so large nets train more slowly",
            fix: "apt-get install libopenblas0")
    }

    private func library(_ what: String, named name: String, package: String) -> Finding {
        if let library = dlopen(name, RTLD_NOW | RTLD_LOCAL) {
            dlclose(library)
            return Finding(about: what, state: .fine, message: "\(name) is here")
        }
        return Finding(
            about: what, state: .note,
            message: "\(name) is not here; only a server over \(what) (or a peer that speaks to it itself) needs it",
            fix: "apt-get install \(package)")
    }

    private var descriptors: Finding {
        guard let most = maxDescriptors else {
            return Finding(about: "open files", state: .note, message: "the limit cannot be read")
        }
        let words = "up to \(most == .max ? "any number" : Figure.whole(most)) of files and connections"
        guard most < 1_024 else { return Finding(about: "open files", state: .fine, message: words) }
        return Finding(
            about: "open files", state: .note, message: "\(words): too few for a server of many peers", fix: "raise `ulimit -Hn`")
    }

    /// The folder, or the first above it that is there.
    private func folder(_ what: String, _ path: String, least: Int) throws -> Finding {
        var there = path
        while !FileManager.default.fileExists(atPath: there), there.contains("/"), there != "/" {
            there = there.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
            if there.isEmpty { there = "/" }
        }
        guard access(there, W_OK | X_OK) == 0 else {
            return Finding(
                about: what, state: .wrong, message: "\(there) cannot be written to",
                fix: "make it yours, or set \(what == "data" ? "COHORT_DATA_DIR" : "XDG_CONFIG_HOME")")
        }
        var about = statvfs()
        guard statvfs(there, &about) == 0 else {
            return Finding(about: what, state: .note, message: "the space at \(there) cannot be read")
        }
        let free = Int(clamping: UInt64(about.f_bavail)).multipliedReportingOverflow(by: Int(clamping: UInt64(about.f_frsize)))
        let bytes = free.overflow ? .max : free.partialValue
        let words = "\(path): \(Figure.bytes(bytes)) free"
        guard bytes < least else { return Finding(about: what, state: .fine, message: words) }
        return Finding(about: what, state: .wrong, message: words, fix: "free at least \(Figure.bytes(least))")
    }

    // MARK: The server

    private func signIn() -> (Finding, Credentials?) {
        do {
            let credentials = try Credentials.load()
            return (
                Finding(
                    about: "sign-in", state: .fine,
                    message: "\(credentials.email) at \(credentials.server), until \(Figure.time(credentials.expiresAt))"),
                credentials
            )
        } catch let error as CohortError where error.code == .unauthenticated {
            return (Finding(about: "sign-in", state: .note, message: error.message), nil)
        } catch {
            return (Finding(about: "sign-in", state: .wrong, message: "\(error)"), nil)
        }
    }

    private func inspect(_ server: String, token: String?) async -> [Finding] {
        var findings: [Finding] = []
        do {
            try await withClient(server: server, token: token) { client in
                let probe = try await client.probe()
                findings.append(
                    Finding(
                        about: "server", state: .fine,
                        message: "\(server) is ready and answers in \(Figure.decimal(probe.seconds * 1_000, digits: 1)) ms"))
                if !client.server.isTLS, !["127.0.0.1", "localhost", "[::1]"].contains(where: { client.server.place.hasPrefix("\($0):") }) {
                    findings.append(
                        Finding(
                            about: "encryption", state: .note, message: "passwords and data go to \(server) unencrypted",
                            fix: "start it with --tls auto, or use it on a network that you trust"))
                }
                if let difference = probe.clockDifference { findings.append(clock(difference)) }
                guard token != nil else { return }
                do {
                    let speed = try await client.measureUpload(bytes: 4_000_000)
                    findings.append(
                        Finding(
                            about: "upload", state: .fine,
                            message: "\(Figure.bytes(Int(min(speed, 1e15)))) a second: 100 MB in \(Figure.seconds(1e8 / speed))"))
                } catch let error as CohortError where error.code == .unauthenticated {
                    findings.append(
                        Finding(
                            about: "sign-in", state: .wrong, message: "the server does not take it (\(error.message))",
                            fix: "`cohort login`"))
                }
            }
        } catch {
            let message = (error as? CohortError)?.message ?? "\(error)"
            findings.append(Finding(about: "server", state: .wrong, message: message))
        }
        return findings
    }

    /// The Date header has whole seconds.
    private func clock(_ difference: Double) -> Finding {
        let seconds = Int(min(abs(difference), 1e9))
        guard seconds >= 60 else { return Finding(about: "clock", state: .fine, message: "goes with the server's") }
        return Finding(
            about: "clock", state: .wrong,
            message: "\(seconds) s \(difference > 0 ? "behind" : "ahead of") the server's, so that certificates and sign-ins may not hold",
            fix: "`timedatectl set-ntp true` here or there")
    }
}
