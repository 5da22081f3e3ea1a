import CohortAPI
import CohortClient
import CohortCore
import CohortPeer
import CohortSession
import CohortWire
import FoundationEssentials
import Subprocess
import TestSupport
import Testing

extension SystemSuite {
    /// What a room full of people does: waits for each other's peers, trains on one file again, tidies up.
    @Suite(.serialized) struct Room {
        private static let settings = SessionSettings(peers: 2, rounds: 2, epochs: 2, batchSize: 8, lr: 0.01, hidden: [8], seed: 5)

        private func signedIn(_ world: World, _ server: World.Server) async throws {
            let login = world.start(
                "login-\(newIdentifier())",
                ["login", "--server", server.url, "--email", "ada@example.org", "--password", World.password])
            #expect(try await login.end() == .exited(0), "\(login.standardError)")
        }

        @Test func `a busy pool is refused at once with whose session has it, and waited for when asked`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                let peers = try await world.peers(2, of: server, for: person)
                let csv = try world.blobs(rows: 60)
                let point = try await world.points.hold(.midEpoch, of: peers[0], round: 0)
                let first = try await person.startSession(Self.settings, file: csv)
                let held = try await world.points.reached(point)
                try await signedIn(world, server)
                let words = "2 train in session \(first.sessionId.prefix(8)) of yours (peer-1, peer-2)"
                let refused = world.start("refused", ["train", csv, "--peers", "2"])
                #expect(try await refused.end() == .exited(3), "\(refused.standardError)")
                #expect(refused.standardError.contains("0 are online and free, \(words)"), "\(refused.standardError)")
                #expect(try await person.sessions().map(\.id) == [first.sessionId], "nothing was started")

                let waiting = world.start(
                    "waiting", ["train", csv, "--peers", "2", "--rounds", "1", "--wait", "--name", "the second", "--json"])
                try await eventually("it says what it waits for") { waiting.standardError.contains("waiting: ") }
                #expect(waiting.standardError.contains(words), "\(waiting.standardError)")
                held.release()
                #expect(try await waiting.end(within: .seconds(120)) == .exited(0), "\(waiting.standardError)")
                let sessions = try await person.sessions()
                #expect(sessions.map(\.name) == ["the second", nil] && sessions.allSatisfy { $0.status == .completed })
                #expect(sessions[0].metrics?.accuracy != nil && sessions[0].target == "y" && sessions[0].peers == ["peer-1", "peer-2"])

                let all = world.start("all", ["train", csv, "--peers", "all", "--rounds", "1", "--json"])
                #expect(try await all.end(within: .seconds(120)) == .exited(0), "\(all.standardError)")
                #expect(try await person.sessions(limit: 1).first?.peers.count == 2)
            }
        }

        @Test func `a file is sent once, a session that is deleted leaves nothing, and a running one is not deleted`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                let peers = try await world.peers(2, of: server, for: person)
                let csv = try world.blobs(rows: 60)
                let digest = try await FileDigest(of: csv)
                #expect(try await !person.check(Self.settings, sha256: digest.sha256).isKnown)
                await #expect(throws: CohortError.self) {
                    _ = try await person.startSession(Self.settings, sha256: digest.sha256, filename: "blobs.csv")
                }
                let first = try await person.startSession(Self.settings, file: csv)
                #expect(try await person.final(first.sessionId).status == .completed)
                try await eventually("its peers are free") { try await person.check(Self.settings).free == 2 }
                #expect(try await person.check(Self.settings, sha256: digest.sha256).isKnown)
                let eve = try await world.person(server, email: "eve@example.org")
                let theirs = try await world.peers(2, of: server, for: eve, prefix: "eve")
                #expect(try await !eve.check(Self.settings, sha256: digest.sha256).isKnown, "another's file is not told of")
                for peer in theirs { try await peer.send(15) }

                let point = try await world.points.hold(.midEpoch, of: peers[0], round: 0)
                let second = try await person.startSession(Self.settings, sha256: digest.sha256, filename: "again.csv")
                let held = try await world.points.reached(point)
                let busy = await #expect(throws: CohortError.self) { try await person.deleteSession(id: second.sessionId) }
                #expect(busy?.code == .conflict && busy?.message.contains("cancel it first") == true)
                held.release()
                #expect(try await person.final(second.sessionId).status == .completed)
                // The same rows, settings and seed: the same numbers.
                let results = (try await person.results(id: first.sessionId), try await person.results(id: second.sessionId))
                #expect(results.0.metrics == results.1.metrics && results.0.rows == results.1.rows)
                #expect(try await person.session(id: second.sessionId).filename == "again.csv")

                #expect(try await eve.sessions().isEmpty)
                await #expect(throws: CohortError.self) { try await eve.deleteSession(id: first.sessionId) }
                try await eventually("both have ended") {
                    for id in [first.sessionId, second.sessionId] { try await person.deleteSession(id: id) }
                    return true
                }
                #expect(try await person.sessions().isEmpty)
                let files = try FileManager.default.subpathsOfDirectory(atPath: "\(world.folder)/server/objects")
                let left = files.filter { !$0.hasSuffix("/") && isFile("\(world.folder)/server/objects/\($0)") }
                #expect(left.isEmpty, "\(left)")
                #expect(try await !person.check(Self.settings, sha256: digest.sha256).isKnown)
            }
        }

        private func isFile(_ path: String) -> Bool {
            var isFolder = false
            return FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) && !isFolder
        }

        /// No dump of a library's error: what is wrong, and what to do.
        @Test func `faults of a connection or a server are a sentence`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let tls = server.url.replacing("http://", with: "https://")
                let login = ["--email", "a@example.org", "--password", "correct horse"]
                for (index, (arguments, exit, said)) in [
                    (["login", "--server", tls] + login, 2, "\(tls) does not speak TLS: its URL begins with http://"),
                    (["login", "--server", "http://nosuchhost.invalid:80"] + login, 3, "there is no host 'nosuchhost.invalid'"),
                    (["login", "--server", "http://127.0.0.1:9"] + login, 3, "is `cohort serve` running?"),
                    (["serve", "--port", "0", "--data-dir", "/proc/x"], 2, "/proc/x could not be created: No such file or directory"),
                    (["serve", "--port", "0", "--data-dir", try world.write("", to: "file")], 2, "there is a file of that name"),
                    (
                        ["serve", "--host", "nosuchhost.invalid", "--insecure-http", "--port", "0", "--data-dir", "\(world.folder)/s"], 2,
                        "cannot listen on 'nosuchhost.invalid'"
                    ),
                    (["peer", "--server", server.url, "--token", "x", "--data-dir", "/proc/x"], 2, "/proc/x could not be created"),
                    (["signup", "--server", server.url, "--email", "unknown", "--password", "correct horse"], 2, "is no e-mail address"),
                ].enumerated() {
                    let process = world.start("sentence-\(index)", arguments)
                    #expect(try await process.end() == .exited(Int32(exit)), "\(arguments): \(process.standardError)")
                    let lines = process.standardError.split(separator: "\n")
                    #expect(lines.last?.contains(said) == true, "\(arguments): \(process.standardError)")
                    #expect(!process.standardError.contains("NSError") && !process.standardError.contains("NIOSSL"))
                }
                let refused = world.start("refused", ["serve", "--host", "0.0.0.0", "--port", "0", "--data-dir", "\(world.folder)/open"])
                #expect(try await refused.end() == .exited(2))
                #expect(refused.standardError.contains("passwords and data would cross the network unencrypted: say --tls auto"))
                let open = world.start(
                    "open", ["serve", "--host", "0.0.0.0", "--port", "0", "--data-dir", "\(world.folder)/open", "--insecure-http"])
                _ = try await open.firstLine(startingWith: "listening on ")
                try await eventually("it warns") {
                    open.standardError.contains("warning: passwords and data cross the network unencrypted")
                }
                // An account takes the code that it prints.
                let code = String(try await open.firstLine(startingWith: "invitation code ").dropFirst("invitation code ".count))
                let listening = try await open.firstLine(startingWith: "listening on ")
                let address = listening.replacing("listening on ", with: "").replacing("0.0.0.0", with: "127.0.0.1")
                let tries: [([String], Int32)] = [([], 1), (["--invitation", code], 0)]
                for (index, (arguments, status)) in tries.enumerated() {
                    let signup = world.start(
                        "signup-\(index)",
                        ["signup", "--server", address, "--email", "ada@example.org", "--password", "correct horse"] + arguments)
                    #expect(try await signup.end() == .exited(status), "\(signup.standardError)")
                    #expect(status == 0 || signup.standardError.contains("need an invitation code"))
                }
                let proxied = world.start(
                    "proxied", ["serve", "--host", "0.0.0.0", "--port", "0", "--data-dir", "\(world.folder)/proxied", "--behind-proxy"])
                _ = try await proxied.firstLine(startingWith: "listening on ")
                #expect(!server.process.standardError.contains("unencrypted"), "no warning on loopback")
            }
        }

        @Test func `invalid input is reported before anything is sent`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                _ = try await world.peers(1, of: server, for: person)
                try await signedIn(world, server)
                let csv = try world.blobs(rows: 60)
                let broken = try world.write("a,b,y\n1,2,x\n1,2\n", to: "broken.csv")
                let kinds = try world.write("size,kind\n" + (0..<30).map { "\($0),\($0 % 2)\n" }.joined(), to: "kinds.csv")
                for (index, (arguments, said)) in [
                    ([csv, "-o", "\(world.folder)/nowhere/m.safetensors"], "there is no folder \(world.folder)/nowhere"),
                    ([csv, "-o", world.folder], "is a folder"),
                    ([csv, "-o", "m.safetensors", "--detach"], "cohort model -o FILE"),
                    ([kinds, "--target", "kint"], "did you mean 'kind'?"),
                    (["\(world.folder)/none.csv"], "there is no file"),
                    ([world.folder], "is not a file"),
                    ([broken], "line 3"),
                    ([csv, "--class-weight", #"{"frodo": 5}"#], "frodo"),
                    ([csv, "--peers", "many"], "--peers is 'many'; it must be a number, or all"),
                    ([csv, "--per-peer", #"{"peer-1": {"learning_rate": 0.5}}"#], "there is no field 'per_peer.peer-1.learning_rate'"),
                    ([csv, "--per-peer", "{ana:1}"], "--per-peer must be JSON such as"),
                    ([csv, "--name", String(repeating: "x", count: 100)], "name is '"),
                ].enumerated() {
                    let process = world.start("refused-\(index)", ["train"] + arguments)
                    #expect(try await process.end() == .exited(2), "\(arguments): \(process.standardError)")
                    #expect(process.standardError.contains(said), "\(arguments): \(process.standardError)")
                }
                #expect(try await person.sessions().isEmpty)
            }
        }
    }
}
