import ArgumentParser
import CohortClient
import CohortCoordinator
import CohortCore
import CohortSession
import CohortStrategies
import CohortSystem
import CohortTraining
import DirectoryObjects
import Foundation

struct ReplayCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replay",
        abstract: "Compute a model again from its updates.",
        discussion: """
            The session must have been started with --keep-updates. Every round's weights are held against the session's receipt: they come to the same bits.
            With --without, each round's change is computed without that peer's update; the others' are as they were.
            """)

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var session: SessionArgument
    @Option(help: ArgumentHelp("A peer whose part is left out; may be given several times.", valueName: "peer"))
    var without: [String] = []
    @Option(name: .shortAndLong, help: "Write the model here.")
    var output: String?

    private struct Report: Encodable {
        var sessionId: String
        var rounds: Int
        var peers: [String]
        var without: [String]
        var isSame: Bool
        var output: String?
    }

    func run() async throws {
        if let output { try Preflight.checkWritable(output, mixes: true) }
        let folder = FileManager.default.temporaryDirectory.appending(path: "cohort-replay-\(newIdentifier())").path
        defer {
            // A temporary folder; the system removes what is left.
            try? FileManager.default.removeItem(atPath: folder)
        }
        try await signedIn(connection) { client in
            let id = try await session.id(client)
            let receipt = try await client.receipt(id: id)
            let objects = try DirectoryObjects(path: folder, secret: [UInt8](repeating: 0, count: 32))
            let executor = try ThreadExecutor()
            defer { executor.end() }
            let replay = try Replay(
                receipt, in: objects, on: executor,
                outer: try CohortCommand.strategies.named(receipt.settings.strategy).outerOptimizer(receipt.settings), without: without)
            let path = "\(folder)/model.safetensors"
            _ = try await client.downloadModel(id: id, to: path)
            var model = try ModelFile.read(path)
            let trained = model.parameters
            var isSame = false
            var peers: Set<String> = []
            try await replay.run(fetch: { try await client.update(id: id, key: $0) }) { round in
                peers.formUnion(round.peers)
                // Of the round that the model is of: the last or the best.
                if round.parameters == trained {
                    isSame = true
                    model.parameters = round.without ?? round.parameters
                }
                if !connection.json {
                    Terminal.printLine("round \(round.round + 1): \(round.peers.count) updates, the same weights as the receipt's")
                }
            }
            guard isSame else { throw CohortError(.invalid, "the model's weights are those of none of its rounds") }
            if let output {
                if !without.isEmpty {
                    // It was not measured.
                    model.metrics = nil
                    model.evaluation = nil
                }
                try OutputPlace(output).write(try model.encode())
            }
            if connection.json {
                try Terminal.print(
                    json: Report(
                        sessionId: id, rounds: receipt.rounds.count, peers: peers.sorted(), without: without, isSame: isSame, output: output
                    ))
            } else {
                Terminal.printLine(
                    "the model is what its updates come to"
                        + (output.map { ": \(without.isEmpty ? "it" : "the model without \(without.joined(separator: ", "))") is in \($0)" }
                            ?? ""))
            }
        }
    }
}
