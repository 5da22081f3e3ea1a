import ArgumentParser
import CohortAPI
import CohortClient
import CohortCore
import FoundationEssentials

struct Signup: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Make an account on a server and sign in.")

    @Option(help: "The server's URL (COHORT_SERVER).")
    var server: String?
    @Option(help: "Your e-mail address.")
    var email: String
    @Option(help: "The fingerprint of the self-signed certificate, as the server prints it when it starts (COHORT_FINGERPRINT).")
    var fingerprint: String?
    @Option(help: "How others see you; else the e-mail's first part.")
    var name: String?
    @Option(help: ArgumentHelp("Your password; better left out: it is then asked for, or read from standard input.", valueName: "secret"))
    var password: String?
    @Option(help: "The code from the server's operator; asked for where it is needed (COHORT_INVITATION).")
    var invitation: String?

    func run() async throws {
        let given = try await Settings(file: nil).text("invitation", flag: invitation)
        try await signIn(server: server, fingerprint: fingerprint, email: email, password: password, isNew: true) { client, password in
            do {
                return try await client.signup(email: email, password: password, name: name, invitation: given)
            } catch let error as CohortError where error.code == .invitationRequired && given == nil && Terminal.asksForPasswords {
                Terminal.printStatus("Invitation code: ")
                guard let code = readLine(strippingNewline: true), !code.isEmpty else { throw error }
                return try await client.signup(email: email, password: password, name: name, invitation: code)
            }
        }
    }
}

struct Login: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Sign in to a server.")

    @Option(help: "The server's URL (COHORT_SERVER).")
    var server: String?
    @Option(help: "Your e-mail address.")
    var email: String
    @Option(help: "The fingerprint of the self-signed certificate, as the server prints it when it starts (COHORT_FINGERPRINT).")
    var fingerprint: String?
    @Option(help: ArgumentHelp("Your password; better left out: it is then asked for, or read from standard input.", valueName: "secret"))
    var password: String?

    func run() async throws {
        try await signIn(server: server, fingerprint: fingerprint, email: email, password: password) { client, password in
            try await client.signin(email: email, password: password)
        }
    }
}

struct Logout: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Sign out on this machine.")

    func run() async throws {
        let credentials = try? Credentials.load()  // One that has expired or is damaged goes as well.
        guard try Credentials.remove() else { return Terminal.printLine("not signed in") }
        if let credentials {
            do {
                try await withClient(server: credentials.server, token: credentials.accessToken) { try await $0.signout() }
            } catch let error as CohortError where error.code != .unauthenticated {
                Terminal.printNote(
                    "the server was not told (\(error.message)): there the sign-in holds until \(Figure.time(credentials.expiresAt))")
            } catch is CohortError {}  // It holds no more.
        }
        Terminal.printLine("signed out\(credentials.map { " of \($0.server)" } ?? "")")
    }
}

struct SignIns: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "signins", abstract: "List or end your sign-ins.")

    @OptionGroup var connection: ConnectionOptions
    @Option(help: ArgumentHelp("End the sign-in with this id.", valueName: "id"))
    var end: String?

    func run() async throws {
        try await signedIn(connection) { client in
            if let end {
                try await client.endSignIn(id: end)
                return Terminal.printLine("ended")
            }
            let signIns = try await client.signIns()
            if connection.json { return try Terminal.print(json: signIns) }
            var table = TextTable(header: ["id", "program", "network", "since", ""])
            for signIn in signIns {
                table.rows.append([
                    signIn.id, signIn.client.printable(max: 60), signIn.network, Figure.time(signIn.createdAt),
                    signIn.current ? "this one" : "",
                ])
            }
            Terminal.printLine(table.text)
        }
    }
}

struct WhoAmI: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "whoami", abstract: "Who is signed in, and where.")

    @Flag(help: "Print JSON, for scripts.")
    var json = false

    private struct Answer: Encodable {
        var email: String
        var server: String
        var expiresAt: Date
    }

    func run() throws {
        let credentials = try Credentials.load()
        if json {
            return try Terminal.print(
                json: Answer(email: credentials.email, server: credentials.server, expiresAt: credentials.expiresAt))
        }
        Terminal.printLine("\(credentials.email) at \(credentials.server)")
    }
}

private func signIn(
    server: String?, fingerprint: String?, email: String, password: String?, isNew: Bool = false,
    with call: (CohortClient, String) async throws -> API.AccessToken
) async throws {
    let settings = try await Settings(file: nil)
    let url = settings.text("server", flag: server, default: "http://127.0.0.1:8080")
    if isNew, !email.contains("@") { throw CohortError(.invalid, "--email is '\(email.printable(max: 60))', which is no e-mail address") }
    // A server that is new here is confirmed before a password is typed, let alone sent.
    _ = try await KnownServers.server(
        url, fingerprint: settings.text("fingerprint", flag: fingerprint), authorities: settings.authorities, asks: true)
    let password = try password ?? (isNew ? newPassword("Password for \(email): ") : oldPassword("Password for \(email): "))
    try await withClient(server: url, token: nil, fingerprint: fingerprint) { client in
        let token = try await call(client, password)
        try Credentials(
            server: url, email: email.lowercased(), accessToken: token.accessToken,
            expiresAt: Date(timeIntervalSinceNow: Double(token.expiresIn))
        ).save()
    }
    Terminal.printLine("signed in to \(url) as \(email.lowercased())")
}

private func oldPassword(_ prompt: String) throws -> String {
    guard let password = Terminal.password(prompt: prompt), !password.isEmpty else {
        throw CohortError(.invalid, "a password is needed: type it when asked, pass --password, or pipe it to standard input")
    }
    return password
}

/// Typed twice on a terminal: one that is misspelt is an account lost.
private func newPassword(_ prompt: String) throws -> String {
    let password = try oldPassword(prompt)
    if Terminal.asksForPasswords, Terminal.password(prompt: "The same again: ") != password {
        throw CohortError(.invalid, "the two passwords are not the same: nothing was done")
    }
    return password
}

struct Passwd: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Change your password.",
        discussion:
            "Sign-ins on other machines end with it. Asks for the password until now and for the new one, or reads them from two lines of standard input."
    )

    func run() async throws {
        let credentials = try Credentials.load()
        let old = try oldPassword("Password of \(credentials.email) until now: ")
        let new = try newPassword("New password: ")
        try await withClient(server: credentials.server, token: credentials.accessToken) { client in
            let token = try await client.changePassword(from: old, to: new)
            try Credentials(
                server: credentials.server, email: credentials.email, accessToken: token.accessToken,
                expiresAt: Date(timeIntervalSinceNow: Double(token.expiresIn))
            ).save()
        }
        Terminal.printLine("the password of \(credentials.email) is changed; this machine stays signed in")
    }
}

struct DeleteAccount: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "delete-account",
        abstract: "Delete your account and everything in it.",
        discussion:
            "Sessions, data sets, models, modules, join tokens and machines of the account are deleted; running sessions are cancelled first. This is irreversible. Asks for the password, or reads it from standard input."
    )

    func run() async throws {
        let credentials = try Credentials.load()
        let password = try oldPassword("Password of \(credentials.email), to delete the account and everything in it: ")
        try await withClient(server: credentials.server, token: credentials.accessToken) { client in
            try await client.deleteAccount(password: password)
        }
        _ = try Credentials.remove()
        Terminal.printLine("the account \(credentials.email) at \(credentials.server) is deleted")
    }
}

struct Token: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make, list or revoke join tokens for peers.")

    @OptionGroup var connection: ConnectionOptions
    @Option(help: "What it is for, such as 'lab room 2'.")
    var name: String?
    @Option(name: .customLong("expires-in"), help: "Days until it expires; else it does not.")
    var days: Int?
    @Flag(help: "List my tokens.")
    var list = false
    @Option(help: "Revoke the token with this id.")
    var revoke: String?

    func run() async throws {
        try await signedIn(connection) { client in
            if let revoke {
                try await client.revokeToken(id: revoke)
                Terminal.printLine("revoked")
            } else if list {
                let tokens = try await client.tokens()
                if connection.json { return try Terminal.print(json: tokens) }
                var table = TextTable(header: ["id", "name", "made", "expires", "state"])
                for token in tokens {
                    let expired = token.expiresAt.map { $0 <= Date() } ?? false
                    let day = Date.ISO8601FormatStyle().year().month().day()
                    table.rows.append([
                        token.id, token.name, token.createdAt.formatted(day), token.expiresAt?.formatted(day) ?? "never",
                        token.revokedAt != nil ? "revoked" : expired ? "expired" : "valid",
                    ])
                }
                Terminal.printLine(table.text)
            } else {
                if let days, days < 1 { throw CohortError(.invalid, "--expires-in is \(days); it must be 1 or more days") }
                let token = try await client.createToken(API.NewToken(name: name, expiresIn: days.map { $0 * 86_400 }))
                if connection.json { return try Terminal.print(json: token) }
                // Alone on standard output, for `COHORT_TOKEN=$(cohort token)`.
                if Terminal.isInteractive {
                    Terminal.printNote("A machine joins with COHORT_TOKEN=TOKEN cohort peer; the token is shown once:")
                }
                Terminal.printLine(token.token ?? "")
            }
        }
    }
}
