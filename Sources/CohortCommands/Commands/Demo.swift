import ArgumentParser
import CohortAPI
import CohortClient
import CohortCore
import CohortSession
import FoundationEssentials
import Logging

struct Demo: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "See all of it work on this machine.",
        discussion: "Starts a server and peers as processes, trains one session, and predicts with its model; the processes end with it.")

    @Option(help: "The CSV to train on; else the penguins that come with Cohort.")
    var file: String?
    @Option(help: "The column to predict; else the last.")
    var target: String?
    @Option(help: "How many peers.")
    var peers = 3
    @Option(name: .customLong("data-dir"), help: "Where to keep everything; else a new folder beside the system's temporary files.")
    var dataDir: String?

    func run() async throws {
        let sample = Distribution.sample
        let file = file ?? sample.file
        let target = target ?? (self.file == nil ? sample.target : nil)
        guard FileManager.default.fileExists(atPath: file) else {
            throw CohortError(.invalid, "\(file) is not there: pass --file with a CSV")
        }
        guard (1...64).contains(peers) else { throw CohortError(.invalid, "--peers is \(peers); it must be from 1 to 64") }
        let folder = dataDir ?? "\(FileManager.default.temporaryDirectory.path)/cohort-demo-\(newIdentifier().prefix(8))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try await withProcesses { processes in
            Terminal.printLine("Starting a server and \(peers) peers in \(folder)")
            let server = try await processes.start(
                ["serve", "--host", "127.0.0.1", "--port", "0", "--data-dir", "\(folder)/server", "--log-level", "warning"],
                log: "\(folder)/server.log")
            let ready = "listening on "
            guard let line = await server.firstLine(startingWith: ready) else {
                throw CohortError(.internal, "the server did not start: see \(folder)/server.log")
            }
            try await train(file, target: target, at: String(line.dropFirst(ready.count)), in: folder, processes)
        }
    }

    private func train(_ file: String, target: String?, at url: String, in folder: String, _ processes: Processes) async throws {
        try await withClient(server: url, token: nil) { client in
            let password = newIdentifier()
            let account = try await client.signup(email: "demo@example.org", password: password, name: "Demo")
            let person = client.authenticated(by: account.accessToken)
            let token = try await person.createToken(API.NewToken(name: "demo"))
            for index in 1...peers {
                _ = try await processes.start(
                    [
                        "peer", "--server", url, "--name", "peer-\(index)", "--data-dir", "\(folder)/peer-\(index)", "--threads", "1",
                        "--log-level", "warning",
                    ],
                    environment: ["COHORT_TOKEN": token.token ?? ""], log: "\(folder)/peer-\(index).log")
            }
            try await waitForPeers(person, logs: folder)
            let settings = SessionSettings(
                peers: peers, strategy: "fedavg", rounds: 10, epochs: 3, batchSize: 8, lr: 0.002, hidden: [32, 16], target: target, seed: 42
            )
            try settings.check()
            let known = try await Preflight(file: file, settings: settings, output: nil).run()
            let started = try await TrainingRun(client: person, json: false, asks: false).run(
                file: file, sha256: known.sha256, settings: settings)
            let model = "\(folder)/model.safetensors"
            try await person.downloadModel(id: started.sessionId, to: model)
            Terminal.printLine("model file: \(model)\n\nThree predictions for rows of \(file):")
            try Terminal.printLine(Predictions.table(model: model, csv: file, limit: 3))
        }
    }

    private func waitForPeers(_ client: CohortClient, logs folder: String) async throws {
        let clock = ContinuousClock()
        let deadline = clock.now + .seconds(60)
        while try await client.peers().count(where: { $0.status == .online }) < peers {
            guard clock.now < deadline else {
                throw CohortError(.unavailable, "the peers did not come online within 60 s: see \(folder)/peer-1.log")
            }
            // The API has no stream of peers to wait on.
            try await clock.sleep(for: .milliseconds(50))
        }
    }
}
