import CohortAPI
import CohortClient
import CohortCore
import CohortPeer
import CohortSession
import CohortTraining
import FoundationEssentials
import Glibc
import Subprocess
import SystemPackage
import TestSupport
import Testing

extension SystemSuite {
    @Suite(.serialized) struct Commands {
        @Test func `invalid input is exit code 2 with a sentence`() async throws {
            try await withWorld { world in
                for (index, (arguments, sentence)) in [
                    (["frobnicate"], "there is no command 'frobnicate': `cohort help`"),
                    (["trian", "data.csv"], "there is no command 'trian': did you mean 'train'?"),
                    (["train", "data.csv", "--seed", "-1"], "--seed is '-1'; it must be a whole number from 0"),
                    (["serve", "--port", "99999", "--data-dir", "\(world.folder)/x"], "COHORT_PORT is '99999'"),
                    (["serve", "--port", "seven"], "--port"),
                    (["train"], "file"),
                    (["train", "data.csv", "--peers", "0"], "peers is 0"),
                    (["train", "data.csv", "--lr", "nan"], "lr is nan"),
                    (["train", "data.csv", "--hidden", "12,x"], "--hidden is '12,x'"),
                    (["peer", "--token", "x", "--server", "nonsense"], "nonsense"),
                    (["coordinate"], "embedded"),
                ].enumerated() {
                    let process = world.start("command-\(index)", arguments)
                    let status = try await process.end()
                    #expect(status == .exited(2), "\(arguments): \(process.standardError)")
                    #expect(process.standardError.contains(sentence), "\(arguments): \(process.standardError)")
                }
            }
        }

        @Test func `inspect says what columns are taken for, without a server, and where a file is wrong`() async throws {
            try await withWorld { world in
                let csv = try world.write("id,size,colour,y\n1,2.5,red,a\n2,3.5,blue,b\n3,,red,a\n4,4.5,red,b\n", to: "a.csv")
                let good = world.start("inspect", ["inspect", csv])
                #expect(try await good.end() == .exited(0), "\(good.standardError)")
                #expect(good.lines.contains { $0.hasPrefix("size") && $0.contains("numeric") }, "\(good.output)")
                #expect(good.lines.contains { $0.hasPrefix("colour") && $0.contains("categorical") }, "\(good.output)")
                #expect(good.output.contains("target: y (classification, 2 classes: a, b)"), "\(good.output)")
                let days = (1...28).map { "\($0 % 5),2024-01-\($0 < 10 ? "0" : "")\($0)" }
                let dated = world.start(
                    "dated", ["inspect", try world.write("a,when\n\((days + days).joined(separator: "\n"))\n", to: "d.csv")])
                #expect(try await dated.end() == .exited(2))
                #expect(dated.standardError.contains("the target column 'when' holds dates"), "\(dated.standardError)")
                let broken = world.start("broken", ["inspect", try world.write("a,b\n1,\"x\n", to: "b.csv")])
                #expect(try await broken.end() == .exited(2))
                #expect(broken.standardError.contains("line 2, column 2"), "\(broken.standardError)")
            }
        }

        @Test func `an invalid setting is named`() async throws {
            try await withWorld { world in
                for (index, (name, value)) in [
                    ("COHORT_UPLOAD_LIMIT", "lots"), ("COHORT_HEARTBEAT_INTERVAL", "-1"), ("COHORT_LOG_LEVEL", "loud"),
                    ("COHORT_DATABASE_URL", "oracle://x"), ("COHORT_BROKER_URL", "kafka://x"), ("COHORT_OBJECTS_URL", "ftp://x"),
                ].enumerated() {
                    let process = world.start(
                        "serve-\(index)", ["serve", "--port", "0", "--data-dir", "\(world.folder)/x"], environment: [name: value])
                    let status = try await process.end()
                    #expect(status == .exited(2))
                    #expect(process.standardError.contains(name), "\(process.standardError)")
                }
            }
        }

        @Test func `misspelt settings are reported`() async throws {
            try await withWorld { world in
                let named = world.start(
                    "named", ["peer", "--server", "http://127.0.0.1:1"], environment: ["COHORT_TOKENS": "x", "COHORT_ANOTHER_PROGRAM": "1"])
                #expect(try await named.end() == .exited(2))
                #expect(named.standardError.contains("COHORT_TOKENS in the environment is not a Cohort setting"), "\(named.standardError)")
                #expect(named.standardError.contains("did you mean COHORT_TOKEN?"), "\(named.standardError)")
                for (index, (text, said)) in [
                    (
                        "# mine\n\nCOHORT_PORTS=1\n",
                        "line 3 of \(world.folder)/0: there is no setting COHORT_PORTS: did you mean COHORT_PORT?"
                    ),
                    ("COHORT_PORT 1\n", "line 1 of \(world.folder)/1 is not COHORT_NAME=value: 'COHORT_PORT'"),
                    (
                        "OTHER=1\nCOHORT_JWT_SECRET_FILE=x\n",
                        "line 2 of \(world.folder)/2: COHORT_JWT_SECRET_FILE is taken from the environment alone"
                    ),
                    ("OTHER=1\nCOHORT_UPLOAD_LIMIT=lots\n", "COHORT_UPLOAD_LIMIT is 'lots'"),
                ].enumerated() {
                    let process = world.start(
                        "file-\(index)",
                        ["serve", "--port", "0", "--data-dir", "\(world.folder)/x", "--config", try world.write(text, to: "\(index)")])
                    #expect(try await process.end() == .exited(2))
                    #expect(process.standardError.contains(said), "\(process.standardError)")
                }
                // Every setting that the documentation has is one.
                let documented = try String(contentsOfFile: PythonPeer.file("docs/settings.md"), encoding: .utf8)
                    .matches(of: /^\| `(COHORT_[A-Z_]+)`/.anchorsMatchLineEndings()).map { String($0.1) }
                let known = world.start(
                    "known", ["peer"], environment: Dictionary(documented.map { ("\($0)X", "") }, uniquingKeysWith: { a, _ in a }))
                _ = try await known.end()
                for name in Set(documented) { #expect(known.standardError.contains("did you mean \(name)?"), "\(name)") }
            }
        }

        @Test func `a setting may stand in a file, and not in two places`() async throws {
            try await withWorld { world in
                let lots = try world.write("lots\n", to: "limit")
                for (index, (environment, said)) in [
                    (["COHORT_UPLOAD_LIMIT_FILE": lots], "COHORT_UPLOAD_LIMIT is 'lots';"),
                    (["COHORT_UPLOAD_LIMIT_FILE": lots, "COHORT_UPLOAD_LIMIT": "1G"], "COHORT_UPLOAD_LIMIT_FILE are both set"),
                    (["COHORT_UPLOAD_LIMIT_FILE": "\(lots).missing"], "COHORT_UPLOAD_LIMIT_FILE: the file \(lots).missing cannot be read"),
                    // A secret in a file with a line break at its end is the secret.
                    (["COHORT_JWT_SECRET_FILE": try world.write("0123456789\n", to: "secret")], "COHORT_JWT_SECRET has 10 bytes"),
                ].enumerated() {
                    let process = world.start(
                        "serve-\(index)", ["serve", "--port", "0", "--data-dir", "\(world.folder)/x"], environment: environment)
                    #expect(try await process.end() == .exited(2))
                    #expect(process.standardError.contains(said), "\(process.standardError)")
                }
            }
        }

        @Test func `a port in use and a folder in use are refused with a sentence`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let samePort = world.start("same-port", ["serve", "--port", "\(server.port)", "--data-dir", "\(world.folder)/other"])
                #expect(try await samePort.end() == .exited(1))
                #expect(samePort.standardError.contains("\(server.port)"), "\(samePort.standardError)")
                let sameFolder = world.start("same-folder", ["serve", "--port", "0", "--data-dir", "\(world.folder)/server"])
                #expect(try await sameFolder.end() == .exited(1))
                #expect(sameFolder.standardError.contains("another"), "\(sameFolder.standardError)")

                let person = try await world.person(server)
                _ = try await world.peers(1, of: server, for: person)
                let token = try #require(try await person.createToken().token)
                let second = world.start(
                    "second", ["peer", "--server", server.url, "--data-dir", "\(world.folder)/peer-1"], environment: ["COHORT_TOKEN": token]
                )
                #expect(try await second.end() == .exited(1))
                #expect(second.standardError.contains("\(world.folder)/peer-1"), "\(second.standardError)")
            }
        }

        @Test func `a session is watched and cancelled from another terminal than it was started from`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                let peers = try await world.peers(1, of: server, for: person)
                let login = world.start(
                    "login", ["login", "--server", server.url, "--email", "ada@example.org", "--password", World.password])
                #expect(try await login.end() == .exited(0), "\(login.standardError)")
                let point = try await world.points.hold(.firstBatch, of: peers[0], round: 1)
                let settings = SessionSettings(rounds: 4, epochs: 2, batchSize: 8, hidden: [8], seed: 5)
                let started = try await person.startSession(settings, file: try world.blobs(rows: 60))
                let held = try await world.points.reached(point)
                let watch = world.start("watch", ["watch", String(started.sessionId.prefix(8)), "--json"])
                _ = try await watch.firstLine(startingWith: "{")
                let cancel = world.start("cancel", ["cancel", String(started.sessionId.prefix(8))])
                #expect(try await cancel.end() == .exited(0), "\(cancel.standardError)")
                held.release()
                #expect(try await watch.end() == .exited(1), "\(watch.standardError)")
                #expect(watch.lines.last?.contains("\"CANCELLED\"") == true, "\(watch.output)")
                let again = world.start("again", ["cancel", started.sessionId])
                _ = try await again.end()
                #expect(
                    again.output.contains("CANCELLED") || again.standardError.contains("CANCELLED"),
                    "\(again.output) \(again.standardError)")
            }
        }

        @Test func `from sign-up to predictions by the command line alone`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let email = ["--email", "grace@example.org"]
                func run(_ name: String, _ arguments: [String], exit: TerminationStatus = .exited(0)) async throws -> TestProcess {
                    let process = world.start(name, arguments)
                    #expect(
                        try await process.end(within: .seconds(120)) == exit, "\(arguments): \(process.output) \(process.standardError)")
                    return process
                }
                let early = try await run("early", ["sessions"], exit: .exited(1))
                #expect(early.standardError.contains("cohort login"))
                _ = try await run("signup", ["signup", "--server", server.url, "--password", "correct horse"] + email)
                let wrong = try await run(
                    "wrong", ["login", "--server", server.url, "--password", "wrong horse"] + email, exit: .exited(1))
                #expect(wrong.standardError.contains("password"), "\(wrong.standardError)")

                let credentials = "\(world.folder)/config/cohort/credentials.json"
                let mode = try #require(try FileManager.default.attributesOfItem(atPath: credentials)[.posixPermissions])
                #expect("\(mode)" == "\(0o600)")

                let token = try await run("token", ["token"]).output
                let none = try await run("none", ["train", try world.blobs(rows: 60), "--peers", "2"], exit: .exited(3))
                #expect(none.standardError.contains("2") && none.standardError.contains("0"), "\(none.standardError)")
                for index in 1...2 { _ = world.peer("peer-\(index)", of: server, token: token) }
                #expect(try await run("empty", ["sessions", "--json"]).output == "[]", "nothing was started yet")
                try await eventually("two peers online") {
                    let peers = world.start("peers-\(newIdentifier())", ["peers"])
                    _ = try await peers.end()
                    return peers.lines.count { $0.contains("ONLINE") } == 2
                }

                let csv = try world.blobs(rows: 200)
                let model = "\(world.folder)/out.safetensors"
                let train = try await run(
                    "train",
                    [
                        "train", csv, "--peers", "2", "--rounds", "4", "--epochs", "5", "--batch-size", "16", "--lr", "0.01", "--hidden",
                        "16", "--seed", "4", "-o", model,
                    ])
                #expect(train.output.contains("accuracy") && train.output.contains("peer-2"), "\(train.output)")
                let sessions = try await run("sessions", ["sessions"])
                #expect(sessions.output.contains("COMPLETED"))
                let row = try #require(sessions.lines.dropFirst().first)
                #expect(
                    row.contains(#/ 20\d\d-\d\d-\d\d \d\d:\d\d /#) && row.contains(" y ") && row.hasSuffix(" 4") && row.contains(" % "),
                    "\(row)")
                let id = try #require(
                    train.lines.first { $0.hasPrefix("session ") }?.split(separator: " ").dropFirst().first.map(String.init))
                #expect(try await run("status", ["status", id]).output.contains("Training completed"))
                #expect(try await run("results", ["results", id, "--json"]).output.contains("\"metrics\""))
                let written = try await run("model-json", ["model", id, "-o", "\(world.folder)/again.safetensors", "--json"])
                let path = try CohortJSON.decode([String: String].self, from: written.output.utf8)["path"]
                #expect(path == "\(world.folder)/again.safetensors")
                let exported = try await run("model-onnx", ["model", id, "--format", "onnx", "-o", "\(world.folder)/again.onnx"])
                #expect(exported.output == "\(world.folder)/again.onnx")
                let onnx = try Data(contentsOf: URL(filePath: "\(world.folder)/again.onnx"))
                #expect(Array(onnx) == (try ONNXModel.encode(ModelFile.read("\(world.folder)/again.safetensors"))))
                // By its first letters; the newest.
                #expect(try await run("short", ["results", String(id.prefix(6)).uppercased()]).output.contains("predicting 'y'"))
                #expect(try await run("newest", ["status"]).output.contains(id))
                let unknown = try await run("unknown", ["results", "zz"], exit: .exited(1))
                #expect(unknown.standardError.contains("none of your sessions begins with 'zz'"), "\(unknown.standardError)")
                let watched = try await run("watch", ["watch", "-o", "\(model).again"])
                #expect(watched.output.contains("accuracy") && watched.output.contains("seed 4"), "\(watched.output)")
                #expect(try Data(contentsOf: URL(filePath: model)) == Data(contentsOf: URL(filePath: "\(model).again")))
                #expect(try await run("whoami", ["whoami"]).output == "grace@example.org at \(server.url)")
                let predictions = try await run("predict", ["predict", model, csv])
                #expect(predictions.lines.count == 201, "a header and 200 rows: \(predictions.lines.count)")
                let right = zip(predictions.lines.dropFirst(), 0...).count { line, row in line.hasPrefix("class\(row % 3)") }
                #expect(right > 190, "\(right) of 200 right")
                let measured = try await run("evaluate", ["evaluate", model, csv, "--json"])
                let evaluation = try CohortJSON.decode(Evaluation.self, from: measured.output.utf8)
                #expect(evaluation.samples == 200 && evaluation.accuracy == Double(right) / 200)
                let measuredInWords = try await run("evaluate-text", ["evaluate", model, csv])
                #expect(measuredInWords.output.contains("guessing '"))
                #expect(measuredInWords.standardError.contains("trained on rows of this very file"), "\(measuredInWords.standardError)")
                let copy = try world.write(try String(contentsOfFile: csv, encoding: .utf8) + "\n", to: "other.csv")
                #expect(try await !run("evaluate-other", ["evaluate", model, copy]).standardError.contains("this very file"))
                // A file that happens to have the name of half a file is left alone.
                let stranger = try world.write("mine", to: "kept.csv.part")
                let kept = try await run("keep", ["predict", model, csv, "--keep", "-o", "\(world.folder)/kept.csv"])
                let halves = try FileManager.default.contentsOfDirectory(atPath: world.folder).filter { $0.hasSuffix(".part") }
                #expect(kept.output.isEmpty && halves == ["kept.csv.part"])
                #expect(try String(contentsOfFile: stranger, encoding: .utf8) == "mine")
                let lines = try String(contentsOfFile: "\(world.folder)/kept.csv", encoding: .utf8).split(separator: "\n")
                #expect(lines.count == 201 && lines[0].contains("predicted_"), "\(lines[0])")
                let full = try await run("full", ["predict", model, csv, "-o", "/dev/full/x"], exit: .exited(2))
                #expect(full.standardError.contains("cannot be written"), "\(full.standardError)")
                try await pythonAgrees(
                    world, model: model, csv: csv, with: predictions.lines.dropFirst().map { $0.prefix { $0 != "," } }.map(String.init))

                // The notes about the data are in the results, however late they are read; so is the target and whether it was chosen.
                let ids = try world.write(
                    "row_id,size,kind\n"
                        + (0..<80).map { "\($0 * 7 % 80 + 5),\($0 % 9).5,\($0 % 2 == 0 ? "a" : "b")" }.joined(separator: "\n"),
                    to: "ids.csv")
                let quick = try await run("quick", ["train", ids, "--rounds", "2", "--seed", "11", "--json"])
                let results = try CohortJSON.decode(API.Results.self, from: try #require(quick.lines.last).utf8)
                #expect(results.warnings.contains { $0.contains("'row_id' has all values different: an id") }, "\(results.warnings)")
                #expect(results.target == "kind" && !results.targetGiven && results.seed == 11 && results.history.count == 2)
                #expect(results.evaluation?.guessing != nil && results.history[0].validation?.loss != nil)
                // A JSON object a line, each with its kind; rounds count from 0 in all of them.
                struct Line: Decodable {
                    var kind: String
                    var round: Int?
                }
                let told: [Line] = try quick.lines.map { try CohortJSON.decode(Line.self, from: $0.utf8) }
                #expect(told.first?.kind == "started" && told.last?.kind == "results", "\(quick.output)")
                let rounds = told.filter { $0.kind == "round" }.map(\.round)
                #expect(rounds == [0, 1])
                let epochs = Set(told.filter { $0.kind == "epoch" }.map(\.round))
                #expect(epochs == [0, 1])
                let withId = try await run("use", ["train", ids, "--use", "row_id", "--target", "kind", "--rounds", "1", "--json"])
                #expect(try CohortJSON.decode(API.Results.self, from: try #require(withId.lines.last).utf8).targetGiven)
                let text = try await run("text", ["results", results.sessionId])
                #expect(text.output.contains("predicting 'kind' (the last column") && text.output.contains("guessing '"), "\(text.output)")
                let misspelt = try await run("misspelt", ["train", ids, "--target", "kint", "--json"], exit: .exited(2))
                #expect(misspelt.standardError.contains("did you mean 'kind'?") && misspelt.output.isEmpty, "\(misspelt.standardError)")

                for (index, (arguments, said)) in [
                    (["--per-peer", #"{"peer-3": {"lr": 0.1}}"#], "per_peer names 'peer-3', which is not among the free peers"),
                    (["--per-peer", #"{"peer-3": {"lr": 0.1}}"#], "did you mean 'peer-"),
                    (["--momentum", "0.9"], "momentum is 0.9; it must be 0 with adam: it is for sgd"),
                    (["--strategy", "independent", "--rounds", "3"], "--rounds does not go with independent"),
                ].enumerated() {
                    let refused = try await run("refused-\(index)", ["train", ids] + arguments, exit: .exited(2))
                    #expect(refused.standardError.contains(said), "\(refused.standardError)")
                }
                let chosen = try await run("chosen", ["train", ids, "--rounds", "1", "--per-peer", #"{"peer-2": {"lr": 0.1}}"#, "--json"])
                #expect(try CohortJSON.decode(API.Results.self, from: try #require(chosen.lines.last).utf8).peers.map(\.name) == ["peer-2"])

                let broken = try world.write("a,b,y\n1,2,x\n1,2\n", to: "broken.csv")
                let failed = try await run("broken", ["train", broken], exit: .exited(2))
                #expect(failed.standardError.contains("line 3"), "\(failed.standardError)")

                #expect(try await run("logout", ["logout"]).output == "signed out of \(server.url)")
                #expect(try await run("logout-again", ["logout"]).output == "not signed in")
                #expect(try await run("gone", ["whoami"], exit: .exited(1)).standardError.contains("cohort login"))
            }
        }

        /// The script of docs/model-file.md predicts what `cohort predict` does.
        private func pythonAgrees(_ world: World, model: String, csv: String, with expected: [String]) async throws {
            let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            let document = try String(contentsOf: root.appending(path: "docs/model-file.md"), encoding: .utf8)
            let script = try #require(document.components(separatedBy: "```python\n").last?.components(separatedBy: "```").first)
            let path = try world.write(script, to: "predict.py")
            let result = try await Subprocess.run(
                .path(FilePath("/usr/bin/python3")), arguments: [path, model, csv], output: .string(limit: 1 << 20),
                error: .string(limit: 1 << 16))
            #expect(result.terminationStatus.isSuccess, "\(result.standardError)")
            #expect(result.standardOutput.split(separator: "\n").map(String.init) == expected)
        }

        @Test func `doctor finds problems, says how to fix them, and ends with 1 when there is one`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                func doctor(_ name: String, _ options: [String] = [], exit code: Int32, environment: [String: String] = [:]) async throws
                    -> TestProcess
                {
                    let process = world.start(name, ["doctor"] + options, environment: environment)
                    #expect(try await process.end() == .exited(code), "\(process.output)")
                    return process
                }
                let alone = try await doctor("alone", exit: 0)
                for sentence in ["samples/s on the CPU", "not signed in", "pass --server URL"] {
                    #expect(alone.output.contains(sentence), "\(alone.output)")
                }
                _ = try await world.person(server)
                let login = world.start(
                    "login", ["login", "--server", server.url, "--email", "ada@example.org", "--password", World.password])
                #expect(try await login.end() == .exited(0))
                let good = try await doctor("good", exit: 0)
                for sentence in [
                    "ada@example.org at \(server.url)", "is ready and answers in", "goes with the server's", "a second: 100 MB in",
                ] {
                    #expect(good.output.contains(sentence), "\(sentence): \(good.output)")
                }
                let json = try await doctor("json", ["--json"], exit: 0)
                #expect(json.output.contains(#""about":"clock""#) && json.output.contains(#""state":"ok""#), "\(json.output)")
                // A setting that means nothing, a folder that cannot be written to, a server that is not there.
                let misspelt = try await doctor("misspelt", exit: 1, environment: ["COHORT_UPLOD_LIMIT": "1G"])
                #expect(misspelt.output.contains("did you mean COHORT_UPLOAD_LIMIT?"), "\(misspelt.output)")
                let folder = try await doctor("folder", exit: 1, environment: ["COHORT_DATA_DIR": "/proc/nowhere"])
                #expect(folder.output.contains("wrong  data"), "\(folder.output)")
                let away = try await doctor("away", ["--server", "http://127.0.0.1:9"], exit: 1)
                #expect(away.output.contains("is `cohort serve` running?"), "\(away.output)")
            }
        }

        /// However a demo ends, its server and its peers end with it.
        @Test(arguments: [SIGTERM, SIGHUP, SIGINT, SIGKILL]) func `what a demo started ends with it`(signal: Int32) async throws {
            try await withWorld { world in
                let csv = try world.blobs(rows: 60)
                let data = "\(world.folder)/demo"
                let demo = world.start("demo", ["demo", "--file", csv, "--target", "y", "--peers", "2", "--data-dir", data])
                _ = try await demo.firstLine(startingWith: "session ")
                let started = Self.processes(mentioning: data)
                #expect(started.count == 4, "the demo, a server and two peers: \(started)")
                try await demo.send(signal)
                _ = try await demo.end()
                try await eventually("nothing of it is left") { Self.processes(mentioning: data).isEmpty }
            }
        }

        /// Process ids, by what their command lines say.
        private static func processes(mentioning text: String) -> [String] {
            let ids = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
            return ids.filter { Int($0) != nil }.filter { id in
                guard let line = FileManager.default.contents(atPath: "/proc/\(id)/cmdline") else { return false }
                return String(decoding: line, as: UTF8.self).contains(text)
            }
        }

        @Test func `SIGTERM ends server and peer cleanly, and the peer says goodbye`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                let peers = try await world.peers(1, of: server, for: person)
                // The server knows of it a moment before it does itself.
                try await eventually("the peer knows that it is registered") { peers[0].standardError.contains("registered as") }
                try await peers[0].send(SIGTERM)
                #expect(try await peers[0].end(within: .seconds(10)) == .exited(0), "\(peers[0].standardError)")
                #expect(try await person.peers().allSatisfy { $0.status == .offline }, "at once, not after a silence")
                try await server.process.send(SIGTERM)
                #expect(try await server.process.end(within: .seconds(15)) == .exited(0), "\(server.process.standardError)")
            }
        }
    }
}
