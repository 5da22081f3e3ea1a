import ArgumentParser
import CohortAPI
import CohortClient
import CohortCore
import CohortSession
import CohortWire

/// Which of one's sessions a command is about.
struct SessionArgument: ParsableArguments {
    @Argument(help: ArgumentHelp("The session: its id or the first letters of it; else the newest.", valueName: "id"))
    var given: String?

    /// - Throws: ``CohortError`` `notFound` when there is none, `invalid` when several begin so.
    func id(_ client: CohortClient) async throws -> String {
        guard let given else { return try await client.trainingStatus().sessionId }
        return try await client.sessionId(startingWith: given)
    }
}

extension CohortClient {
    /// The session whose id begins so.
    func sessionId(startingWith text: String) async throws -> String {
        // A whole id need not be looked for: it may be older than what a list shows.
        if text.utf8.count == newIdentifier().utf8.count { return text }
        let found = try await sessions().map(\.id).filter { $0.hasPrefix(text.lowercased()) }
        switch found.count {
        case 1: return found[0]
        case 0: throw CohortError(.notFound, "none of your sessions begins with '\(text.printable(max: 60))': `cohort sessions` lists them")
        default:
            throw CohortError(
                .invalid,
                "\(found.count) of your sessions begin with '\(text.printable(max: 60))': \(found.prefix(4).joined(separator: ", "))")
        }
    }
}

struct Watch: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show a session live, then what came out.")

    @OptionGroup var connection: ConnectionOptions
    @OptionGroup var session: SessionArgument
    @Option(name: .shortAndLong, help: "Download the model here when done.")
    var output: String?

    func run() async throws {
        if let output { try Preflight.checkWritable(output, mixes: true) }
        try await signedIn(connection) { client in
            try await TrainingRun(client: client, json: connection.json).attach(id: try await session.id(client), output: output)
        }
    }
}

struct Delete: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Delete ended sessions, with their data and models.")

    @OptionGroup var connection: ConnectionOptions
    @Argument(help: ArgumentHelp("The sessions: their ids or the first letters of them.", valueName: "id"))
    var ids: [String]

    func run() async throws {
        try await signedIn(connection) { client in
            // All are found before the first is gone.
            var found: [String] = []
            for id in ids { found.append(try await client.sessionId(startingWith: id)) }
            for id in found {
                try await client.deleteSession(id: id)
                if !connection.json { Terminal.printLine("deleted \(id)") }
            }
            if connection.json { try Terminal.print(json: found) }
        }
    }
}

struct Cancel: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Stop a session; what was trained stays.")

    @OptionGroup var connection: ConnectionOptions
    @Argument(help: "The session: its id or the first letters of it.")
    var id: String

    func run() async throws {
        try await signedIn(connection) { client in
            let id = try await client.sessionId(startingWith: id)
            try await client.cancel(id: id)
            let status = try await client.trainingStatus(id: id)
            if connection.json { return try Terminal.print(json: status) }
            Terminal.printLine(
                status.status.isFinal
                    ? "\(id): \(status.message) (\(status.status.rawValue))" : "\(id) is being cancelled: cohort watch \(id)")
        }
    }
}
