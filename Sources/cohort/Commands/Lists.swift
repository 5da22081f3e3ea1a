import ArgumentParser
import CohortClient
import CohortCore

struct Peers: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List the peers of the server.")

    @OptionGroup var connection: ConnectionOptions

    func run() async throws {
        try await signedIn(connection) { client in
            let peers = try await client.peers()
            if connection.json { return try Terminal.say(json: peers) }
            guard !peers.isEmpty else {
                return Terminal.say("no peers yet: on a machine that should train, run `cohort peer --server URL --token TOKEN`")
            }
            var table = TextTable(header: ["name", "status", "engine", "device", "cores", "memory", "samples/s", "id"])
            for peer in peers {
                table.rows.append([
                    peer.name, peer.status.rawValue, peer.engine, peer.device, "\(peer.cores)", Figure.bytes(peer.memoryBytes),
                    Figure.whole(Int(min(peer.samplesPerSecond, 1e15))), peer.id,
                ])
            }
            Terminal.say(table.text)
        }
    }
}

struct Sessions: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List my sessions, newest first.")

    @OptionGroup var connection: ConnectionOptions

    func run() async throws {
        try await signedIn(connection) { client in
            let sessions = try await client.sessions()
            if connection.json { return try Terminal.say(json: sessions) }
            var table = TextTable(header: ["id", "status", "progress", "strategy", "peers", "file"])
            for session in sessions {
                table.rows.append([
                    session.id, session.status.rawValue, Figure.percent(session.progress), session.settings.strategy,
                    "\(session.peers.count)", session.filename,
                ])
            }
            Terminal.say(sessions.isEmpty ? "no sessions yet: start one with `cohort train FILE`" : table.text)
        }
    }
}

struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "How far a session is.")

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var session: SessionArgument

    func run() async throws {
        try await signedIn(connection) { client in
            let status = try await client.trainingStatus(id: try await session.id(client))
            if connection.json { return try Terminal.say(json: status) }
            Terminal.say(
                "\(status.sessionId): \(status.message) (\(status.status.rawValue)), \(Figure.percent(status.progress)), round \(min(status.round + 1, status.rounds))/\(status.rounds), epoch \(status.epoch)"
            )
            if let target = status.target { Terminal.say("predicting: \(target)") }
            if let waiting = status.waitingFor { Terminal.say("waiting for: \(waiting)") }
            if let error = status.error { Terminal.say("error: \(error)") }
            var table = TextTable(header: ["peer", "state", "rows", "epoch", "loss", "accuracy", "samples/s"])
            for peer in status.peers {
                table.rows.append([
                    peer.name, peer.state.rawValue, Figure.whole(peer.rows), "\(peer.epoch)", Figure.decimal(peer.loss),
                    Figure.percent(peer.accuracy), peer.samplesPerSecond.map { Figure.whole(Int(min($0, 1e15))) } ?? "-",
                ])
            }
            Terminal.say(table.text)
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
            try connection.json ? Terminal.say(json: results) : Terminal.say(ResultsText.make(results))
        }
    }
}

struct Model: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Download a session's model.")

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var session: SessionArgument
    @Option(name: .shortAndLong, help: "Where to write it; else SESSION.safetensors.")
    var output: String?

    func run() async throws {
        try await signedIn(connection) { client in
            let id = try await session.id(client)
            let path = output ?? "\(id).safetensors"
            try await client.downloadModel(id: id, to: path)
            Terminal.say(path)
        }
    }
}
