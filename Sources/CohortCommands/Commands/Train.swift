import ArgumentParser
import CohortAPI
import CohortClient
import CohortCore
import CohortSession
import CohortStrategies
import CohortTraining
import CohortWire
import FoundationEssentials
import Synchronization
import SystemPackage
import UnixSignals

import struct CohortSystem.Backoff

struct Train: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Train on a CSV with peers, and show it live.",
        discussion: """
            cohort train data.csv --target species --peers all
            cohort train data.csv --peers 3 --rounds 20 --epochs 2 --lr 0.002 -o model.safetensors
            cohort train data.csv --strategy independent --epochs 50 --wait --json
            cohort train newer.csv --from 3f2a91 --rounds 5
            cohort train images.csv --model net.pt --input-shape 1,28,28
            """)

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var options: SessionSettings.Options
    @Argument(help: "The CSV; or tensors: a .safetensors with inputs and targets, or a .npy with --targets.")
    var file: String
    @Option(help: ArgumentHelp("The targets of inputs that are a .npy: a .npy too, a number a row.", valueName: "file"))
    var targets: String?
    @Option(
        help: ArgumentHelp(
            "Go on from the model of an earlier session: its id or the first letters of it, or the file that came out.", valueName: "model")
    )
    var from: String?
    @Option(
        help: ArgumentHelp(
            "Train a module of your own: net.pt, as torch.jit.save wrote it, or Python's cohort.save_module.", valueName: "file"))
    var model: String?
    @Option(
        name: .customLong("input-shape"),
        help: ArgumentHelp("How --model takes one row's features, such as 1,28,28; else as a list.", valueName: "lengths"))
    var inputShape: String?
    @Option(name: .shortAndLong, help: "Download the model here when done.")
    var output: String?
    @Flag(help: "Return once the session has started.")
    var detach = false
    @Flag(help: "When too few peers are free, wait until they are.")
    var wait = false

    func run() async throws {
        let data = try TrainingData(file: file, targets: targets)
        let file = data.path
        var settings = try options.settings()
        if let from {
            try options.checkGoesOn()
            settings.from = try Self.sessionNamed(in: from)
        }
        guard !detach || output == nil else {
            throw CohortError(.invalid, "-o does not go with --detach: when the session is done, run `cohort model -o FILE`")
        }
        var module: ModuleOption?
        if let model {
            guard from == nil else { throw CohortError(.invalid, "--model does not go with --from: that model has its own") }
            try options.checkHasOwnLayers()
            module = try ModuleOption(path: model, shape: inputShape, data: file, settings: try await Settings(file: nil))
        } else if inputShape != nil {
            throw CohortError(.invalid, "--input-shape is for --model")
        }
        let known = try await Preflight(file: file, settings: settings, output: output, module: module).run()
        try await signedIn(connection) { [settings] client in
            var settings = settings
            if let file = known.module {
                settings.module = file.sha256
                if try await !client.modules().contains(where: { $0.sha256 == file.sha256 }) {
                    _ = try await client.addModule(at: file.path)
                }
            }
            if let from = settings.from { settings.from = try await client.sessionId(startingWith: from) }
            var training = TrainingRun(client: client, json: connection.json)
            training.waits = wait
            training.takesAll = options.takesAll
            defer { withExtendedLifetime(data) {} }
            _ = try await training.run(file: file, sha256: known.sha256, settings: settings, output: output, detach: detach)
        }
    }
}

extension Train {
    /// A model file names the session that it came of; anything else is a session's id.
    private static func sessionNamed(in model: String) throws -> String {
        guard model.hasSuffix(".safetensors") || FileManager.default.fileExists(atPath: model) else { return model }
        guard let data = FileManager.default.contents(atPath: model) else { throw CohortError(.notFound, "\(model) cannot be read") }
        guard let id = try ModelFile.decode([UInt8](data)).sessionId else {
            throw CohortError(.invalid, "\(model) does not say which session it came of: give the session's id")
        }
        return id
    }
}

/// Starts a session, shows it until it ends, and tells its results.
struct TrainingRun {
    let client: CohortClient
    let json: Bool
    /// Ctrl-C asks what to do, instead of ending the process.
    var asks = true
    /// It waits for peers that are busy or away.
    var waits = false
    /// All free peers are used.
    var takesAll = false

    /// - Parameter sha256: of the file: one that the server has from an earlier session is not sent again.
    /// - Throws: ``ExitCode`` 1 when the session did not complete.
    func run(
        file: String, sha256: String, settings: SessionSettings, output: String? = nil, detach: Bool = false
    ) async throws -> API.SessionStarted {
        let started = try await start(file, sha256: sha256, settings: settings)
        if json {
            try Terminal.print(line: "started", started)
        } else {
            Terminal.printLine("session \(started.sessionId) with \(started.peers.map(\.name).bounded(to: 10)); seed \(settings.seed)")
        }
        if !detach { try await show(started.sessionId, peers: started.peers, settings: settings, output: output) }
        return started
    }

    /// Starts the session; with `waits`, as soon as enough peers are free.
    private func start(_ file: String, sha256: String, settings: SessionSettings) async throws -> API.SessionStarted {
        guard waits else { return try await startNow(file, sha256: sha256, settings: settings) }
        let (looks, look) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        return try await withThrowingTaskGroup(of: Void.self) { group in
            defer { group.cancelAll() }
            var reasons = looks.makeAsyncIterator()
            var said: String?
            while true {
                do {
                    return try await startNow(file, sha256: sha256, settings: settings)
                } catch let error as CohortError where error.isTransient {
                    if said == nil { group.addTask { await watchPool(look) } }
                    if error.message != said { Terminal.printNote("waiting: \(error.message)") }
                    said = error.message
                    await reasons.next()
                }
            }
        }
    }

    /// Asks for another look whenever the pool has changed, and now and then for what no change of the pool tells, such as a user's share of it.
    private func watchPool(_ look: AsyncStream<Void>.Continuation) async {
        await withDiscardingTaskGroup { group in
            group.addTask {
                // Cancelled: it ends.
                while (try? await Task.sleep(for: .seconds(15))) != nil { look.yield() }
            }
            group.addTask {
                var backoff = Backoff(first: 0.5, longest: 4)
                while !Task.isCancelled {
                    do {
                        for try await _ in try await client.poolChanges() {
                            backoff.reset()
                            look.yield()
                        }
                    } catch {
                        // The next look says what is wrong.
                        look.yield()
                    }
                    try? await Task.sleep(for: backoff.next())  // Cancelled: the loop ends.
                }
            }
        }
    }

    /// Asks before it sends: a busy pool is no reason to send a long file.
    private func startNow(_ file: String, sha256: String, settings: SessionSettings) async throws -> API.SessionStarted {
        let check = try await client.check(settings, sha256: sha256)
        var settings = settings
        if takesAll {
            settings.peers = max(1, check.free)
            try settings.check()
        }
        if check.isKnown {
            do {
                return try await client.startSession(
                    settings, sha256: sha256, filename: FilePath(file).lastComponent?.string ?? file)
            } catch let error as CohortError where error.code == .notFound {
                // The session that had it was deleted this moment.
            }
        }
        return try await client.startSession(settings, file: file, progress: uploadProgress())
    }

    /// Shows a session that runs already, or has ended.
    /// - Throws: ``ExitCode`` 1 when the session did not complete.
    func attach(id: String, output: String? = nil) async throws {
        let session = try await client.session(id: id)
        if !json {
            Terminal.printLine("session \(id) with \(session.peers.map(\.name).bounded(to: 10)); seed \(session.settings.seed)")
        }
        try await show(id, peers: session.peers, settings: session.settings, output: output)
    }

    private func show(_ id: String, peers: [API.SessionPeerView], settings: SessionSettings, output: String?) async throws {
        let status = try await watch(id, peers: peers, settings: settings)
        guard status.status == .completed else {
            try json
                ? Terminal.print(line: "ended", status)
                : Terminal.printError(status.error ?? status.message, prefix: "\(status.status.rawValue): ")
            throw ExitCode(1)
        }
        let results = try await client.results(id: id)
        try json ? Terminal.print(line: "results", results) : Terminal.printLine("\n" + ResultsText.make(results))
        if let output {
            try await OutputPlace(output).fill { _ = try await client.downloadModel(id: id, to: $0) }
            if !json { Terminal.printLine("model file: \(output)") }
        }
    }

    /// A line that counts the bytes of a large upload, on a terminal.
    private func uploadProgress() -> @Sendable (Int, Int) -> Void {
        guard Terminal.isInteractive, !json else { return { _, _ in } }
        return { sent, total in
            guard total >= 16 << 20 else { return }
            Terminal.print("\r\u{1B}[Kuploading \(Figure.bytes(sent)) of \(Figure.bytes(total))\(sent >= total ? "\n" : "")")
        }
    }

    /// The state of the question after Ctrl-C, whose answer a thread waits for.
    private final class Question: Sendable {
        let stands = Mutex(false)
    }

    private enum Happening {
        case notice(SessionNotice)
        case interrupt
        case ended
    }

    private func watch(_ id: String, peers: [API.SessionPeerView], settings: SessionSettings) async throws -> API.TrainingStatus {
        let interactive = Terminal.isInteractive && !json
        // One that only the server knows has its rounds as they are set.
        let strategy = CohortCommand.strategies.all.first { $0.name == settings.strategy }
        let rounds = strategy?.roundCount(settings) ?? settings.rounds
        let blank = TrainingDisplay(
            peers: peers, rounds: rounds, localEpochs: settings.epochs,
            interactive: interactive)
        let question = Question()
        let (happenings, source) = AsyncStream.makeStream(of: Happening.self, bufferingPolicy: .bufferingNewest(1_000))
        return try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                try await follow(id) { source.yield(.notice($0)) }
                source.yield(.ended)
            }
            if interactive, asks {
                group.addTask {
                    for await _ in await UnixSignalsSequence(trapping: .sigint) {
                        if question.stands.withLock({ $0 }) {
                            Terminal.printLine("\nThe session goes on: cohort watch \(id)")
                            Terminal.end(130)
                        }
                        source.yield(.interrupt)
                    }
                }
            }
            group.addTask {
                var display = blank
                for await happening in happenings {
                    switch happening {
                    case .notice(let notice):
                        if json { try Terminal.print(json: notice) } else { Terminal.print(display.show(notice, width: Terminal.width)) }
                    case .interrupt:
                        Terminal.print(display.clear())
                        question.stands.withLock { $0 = true }
                        if try await ask(id) { return }
                        question.stands.withLock { $0 = false }
                    case .ended:
                        return
                    }
                }
            }
            // The display's task ends after `.ended`, the signals' never: the first end that finds the session over is the end.
            while try await group.next() != nil {
                let status = try await client.trainingStatus(id: id)
                guard status.status.isFinal else { continue }
                group.cancelAll()
                return status
            }
            return try await client.trainingStatus(id: id)
        }
    }

    /// Passes on the session's notices until it has ended, across restarts of the server.
    private func follow(_ id: String, _ tell: (SessionNotice) -> Void) async throws {
        var backoff = Backoff(first: 0.2, longest: 3)
        var said = false
        while true {
            do {
                for try await notice in try await client.events(id: id) {
                    backoff.reset()
                    said = false
                    tell(notice)
                }
                if try await client.trainingStatus(id: id).status.isFinal { return }
            } catch let error as CohortError where error.code == .unavailable {
                if !said { tell(SessionNotice(sessionId: id, kind: .note, time: Date(), message: "The server is away; trying again")) }
                said = true
            }
            try await Task.sleep(for: backoff.next())
        }
    }

    /// Ctrl-C: cancel, leave it running, or go on.
    /// - Returns: whether to stop showing it.
    private func ask(_ id: String) async throws -> Bool {
        Terminal.print("\nCancel the session (c), leave it running and go (l), or go on watching (Enter)? Ctrl-C leaves as well. ")
        switch readLine(strippingNewline: true)?.lowercased().first {
        case "c":
            try await client.cancel(id: id)
            return false
        case "l", nil:
            Terminal.printLine("It goes on: cohort watch \(id)")
            throw ExitCode(0)
        default:
            return false
        }
    }
}
