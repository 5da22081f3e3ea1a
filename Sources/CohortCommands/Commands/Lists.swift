import ArgumentParser
import CohortAPI
import CohortClient
import CohortCore
import CohortSession
import CohortTraining
import CohortWire
import FoundationEssentials
import TorchEngine

struct Peers: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List the peers of the server.")

    @OptionGroup var connection: ConnectionOptions
    @Flag(help: "Those too that have been gone for more than a day.")
    var all = false

    func run() async throws {
        try await signedIn(connection) { client in
            let known = try await client.peers()
            let yesterday = Date(timeIntervalSinceNow: -86_400)
            let peers = known.filter { all || $0.status != .offline || $0.lastSeen > yesterday }
            if connection.json { return try Terminal.print(json: peers) }
            let left = known.count - peers.count
            if peers.isEmpty, left > 0 {
                return Terminal.printLine("all \(left) peers have been gone for more than a day: `cohort peers --all` lists them")
            }
            guard !peers.isEmpty else {
                return Terminal.printLine("no peers yet: on a machine that should train, run `cohort peer --server URL --token TOKEN`")
            }
            var table = TextTable(header: ["name", "status", "engine", "device", "cores", "memory", "samples/s", "id"])
            for peer in peers {
                table.rows.append([
                    peer.name, peer.status.rawValue, peer.engine, peer.device, "\(peer.cores)", Figure.bytes(peer.memoryBytes),
                    Figure.whole(Int(min(peer.samplesPerSecond, 1e15))), peer.id,
                ])
            }
            Terminal.printLine(table.text(width: Terminal.room, dropping: ["device", "engine", "memory", "cores", "id"]))
            if left > 0 { Terminal.printLine("\(left) more gone for more than a day: --all") }
        }
    }
}

struct Sessions: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List my sessions, newest first.")

    /// Sessions that are shown unless all are asked for.
    private static let newest = 200

    @OptionGroup var connection: ConnectionOptions
    @Flag(help: "Up to 1,000, not only the newest 200.")
    var all = false

    func run() async throws {
        try await signedIn(connection) { client in
            // One more than is shown tells whether there are more.
            let found = try await client.sessions(limit: all ? 1_000 : Self.newest + 1)
            let sessions = all ? found : Array(found.prefix(Self.newest))
            if connection.json { return try Terminal.print(json: sessions) }
            var table = TextTable(header: ["id", "started", "status", "score", "strategy", "peers", "name", "file", "target", "seed"])
            // As much of an id as tells it from the others.
            let length = (8...36).first { length in Set(sessions.map { $0.id.prefix(length) }).count == sessions.count } ?? 36
            for session in sessions {
                table.rows.append([
                    String(session.id.prefix(length)), Figure.time(session.createdAt),
                    session.status == .running ? Figure.percent(session.progress) : session.status.rawValue,
                    session.score, session.strategy, "\(session.peers.count)", session.name ?? "-", session.filename,
                    session.target ?? "-", "\(session.seed)",
                ])
            }
            Terminal.printLine(
                sessions.isEmpty
                    ? "no sessions yet: start one with `cohort train FILE`"
                    : table.text(width: Terminal.room, dropping: ["seed", "strategy", "peers", "file", "name", "target"]))
            if found.count > sessions.count { Terminal.printNote("older sessions are not shown: --all") }
        }
    }
}

extension SessionSummary {
    /// Accuracy or R² on the held-out rows.
    fileprivate var score: String {
        guard let metrics else { return "-" }
        return task == .regression ? "R² \(Figure.decimal(metrics.r2, digits: 3))" : Figure.percent(metrics.accuracy)
    }
}

struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "How far a session is.")

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var session: SessionArgument

    func run() async throws {
        try await signedIn(connection) { client in
            let status = try await client.trainingStatus(id: try await session.id(client))
            if connection.json { return try Terminal.print(json: status) }
            Terminal.printLine(
                "\(status.sessionId): \(status.message) (\(status.status.rawValue)), \(Figure.percent(status.progress)), round \(min(status.round + 1, status.rounds))/\(status.rounds), epoch \(status.epoch)"
            )
            if let target = status.target { Terminal.printLine("predicting: \(target)") }
            if let waiting = status.waitingFor { Terminal.printLine("waiting for: \(waiting)") }
            if let error = status.error { Terminal.printLine("error: \(error)") }
            var table = TextTable(header: ["peer", "state", "rows", "epoch", "loss", "accuracy", "samples/s"])
            for peer in status.peers {
                table.rows.append([
                    peer.name, peer.state.rawValue, Figure.whole(peer.rows), "\(peer.epoch)", Figure.decimal(peer.loss),
                    Figure.percent(peer.accuracy), peer.samplesPerSecond.map { Figure.whole(Int(min($0, 1e15))) } ?? "-",
                ])
            }
            Terminal.printLine(table.text(width: Terminal.room, dropping: ["samples/s", "rows", "epoch"]))
        }
    }
}

struct Results: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "What came out of a session.")

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var session: SessionArgument

    func run() async throws {
        try await signedIn(connection) { client in
            let results = try await client.results(id: try await session.id(client))
            try connection.json ? Terminal.print(json: results) : Terminal.printLine(ResultsText.make(results))
        }
    }
}

struct Model: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Download a session's model.")

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var session: SessionArgument
    @Option(name: .shortAndLong, help: "Where to write it; else SESSION.safetensors (.onnx, .pt).")
    var output: String?
    @Option(
        help:
            "safetensors; onnx, which takes raw values and predicts without Cohort; torchscript, which takes features (needs the torch engine): docs/model-file.md."
    )
    var format = Format.safetensors

    enum Format: String, ExpressibleByArgument, CaseIterable {
        case safetensors
        case onnx
        case torchscript

        var suffix: String { self == .torchscript ? "pt" : rawValue }
    }

    private struct Written: Encodable {
        var sessionId: String
        var path: String
    }

    func run() async throws {
        // Said before anything is loaded.
        let engines = format == .torchscript ? try Engines(settings: await Settings(file: nil)) : nil
        let plugin: TorchPlugin?
        do {
            plugin = try engines?.openPlugin()
        } catch let error as CohortError where error.code == .unavailable {
            // Waiting does not bring PyTorch here.
            throw CohortError(.notFound, error.message)
        }
        try await signedIn(connection) { client in
            let id = try await session.id(client)
            let path = output ?? "\(id).\(format.suffix)"
            let place = try OutputPlace(path)
            switch format {
            case .safetensors: try await place.fill { _ = try await client.downloadModel(id: id, to: $0) }
            case .onnx, .torchscript:
                let own = FileManager.default.temporaryDirectory.appending(path: "cohort-model-\(newIdentifier()).safetensors").path
                defer { try? FileManager.default.removeItem(atPath: own) }  // The system clears what is left there.
                try await client.downloadModel(id: id, to: own)
                let file = try ModelFile.read(own)
                switch format {
                case .torchscript:
                    guard let plugin, let engines else { throw CohortError(.internal, "there is no plugin") }
                    if let module = file.module {
                        try place.write(
                            try plugin.torchScript(file.spec, module: module, weights: file.parameters, in: try engines.moduleHost))
                    } else {
                        try await place.fill { try plugin.saveTorchScript(file.spec, weights: file.parameters, to: $0) }
                    }
                default: try place.write(try ONNXModel.encode(file))
                }
            }
            guard !place.isStandardOutput else { return }
            try connection.json ? Terminal.print(json: Written(sessionId: id, path: path)) : Terminal.printLine(path)
        }
    }

}
