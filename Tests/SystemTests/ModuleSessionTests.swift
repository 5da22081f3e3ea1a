import CohortAPI
import CohortClient
import CohortCore
import CohortSession
import CohortTraining
import CohortWire
import FoundationEssentials
import Glibc
import Subprocess
import SystemPackage
import TestSupport
import Testing

extension SystemSuite {
    /// Sessions that train a custom module.
    @Suite(.serialized, .enabled(if: ModuleMaker.isThere, "no plugin, or no Python with PyTorch: `make torch`"))
    struct WithModules {
        private static let native = ["COHORT_ENGINE": "native"]
        private static let torch = ["COHORT_ENGINE": "torch"]

        private func settings(_ module: API.Module, peers: Int = 2, strategy: String = "fedavg", rounds: Int = 5, pool: Pool? = nil)
            -> SessionSettings
        {
            var settings = SessionSettings(
                peers: peers, strategy: strategy, rounds: rounds, epochs: strategy == "fedavg" ? 3 : 20, batchSize: 16, lr: 0.01, seed: 3)
            settings.module = module.sha256
            settings.pool = pool
            return settings
        }

        @Test(arguments: ["fedavg", "independent"])
        func `peers with PyTorch train a module, and its file predicts and goes on`(strategy: String) async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                _ = try await world.peers(1, of: server, for: person, prefix: "native", environment: Self.native)
                _ = try await world.peers(2, of: server, for: person, prefix: "torch", environment: Self.torch)
                let csv = try world.blobs(rows: 300)
                let module = try await person.addModule(at: try await ModuleMaker.make("net", in: world.folder))
                #expect(module.inputs == 4 && module.outputs == 3 && module.task == .classification)
                #expect(try await person.modules() == [module])
                let settings = settings(module, strategy: strategy)
                let started = try await person.startSession(settings, file: csv)
                #expect(Set(started.peers.map(\.name)) == ["torch-1", "torch-2"])
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let results = try await person.results(id: started.sessionId)
                #expect(try #require(results.metrics.accuracy) > 0.95)
                #expect(results.expectedSeconds == nil)

                // The file is trusted here: it predicts by PyTorch, in a separate process.
                let path = "\(world.folder)/model.safetensors"
                try await person.downloadModel(id: started.sessionId, to: path)
                let predict = world.start("predict", ["predict", path, csv, "--keep", "-o", "\(world.folder)/predictions.csv"])
                #expect(try await predict.end() == .exited(0), "\(predict.standardError)")
                let lines = try String(contentsOf: URL(filePath: "\(world.folder)/predictions.csv"), encoding: .utf8)
                    .split(whereSeparator: \.isNewline).map { $0.split(separator: ",") }
                let right = lines.dropFirst().count { $0[4] == $0[5] }
                #expect(lines.count == 301 && right > 285, "\(lines.prefix(3))")
                // The server runs no custom code, and says where to run it.
                let refused = await #expect(throws: CohortError.self) {
                    _ = try await person.predict(
                        id: started.sessionId, rows: [["a": .number(1), "b": .number(1), "c": .number(1), "d": .number(1)]])
                }
                #expect(refused?.code == .invalid && refused?.message.contains("`cohort predict FILE.safetensors data.csv`") == true)

                // The module may go: what was trained has its own copy, and goes on.
                try await person.deleteModule(sha256: module.sha256)
                #expect(try await person.modules().isEmpty)
                var further = SessionSettings(peers: 2, rounds: 1, lr: 0.001, seed: 4)
                further.from = started.sessionId
                let second = try await person.startSession(further, file: csv)
                #expect(Set(second.peers.map(\.name)) == ["torch-1", "torch-2"], "native peers do not go on with a module either")
                #expect(try await person.final(second.sessionId).status == .completed)
                #expect(try #require(try await person.results(id: second.sessionId).metrics.accuracy) > 0.95)
            }
        }

        @Test func `a module is its owner's: others' peers run it only when they were started for that`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                let other = try await world.person(server, email: "grace@example.org")
                let everyone = Self.torch.merging(["COHORT_SERVE": "everyone"]) { $1 }
                _ = try await world.peers(1, of: server, for: other, prefix: "shy", environment: everyone)
                let csv = try world.blobs(rows: 120)
                let module = try await person.addModule(at: try await ModuleMaker.make("net", in: world.folder))
                let settings = settings(module, peers: 1, rounds: 1, pool: .everyone)
                let refused = await #expect(throws: CohortError.self) { _ = try await person.startSession(settings, file: csv) }
                #expect(refused?.code == .notEnoughPeers && refused?.message.contains("only peers with the torch engine count") == true)
                // Nor may another person train it.
                let stolen = self.settings(module, peers: 1)
                let notTheirs = await #expect(throws: CohortError.self) { _ = try await other.startSession(stolen, file: csv) }
                #expect(notTheirs?.code == .notFound && notTheirs?.message.contains("module: you have no module") == true)

                let open = try await world.peers(
                    1, of: server, for: other, prefix: "open", environment: everyone.merging(["COHORT_ALLOW_MODELS": "everyone"]) { $1 })
                let started = try await person.startSession(settings, file: csv)
                #expect(started.peers.map(\.name) == ["open-1"])
                #expect(try await person.final(started.sessionId).status == .completed)
                #expect(open[0].standardError.contains("a module of another person's"), "\(open[0].standardError)")
            }
        }

        @Test func `a module that never ends is ended by cancelling, and with its peer`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                let peers = try await world.peers(1, of: server, for: person, prefix: "torch", environment: Self.torch)
                let csv = try world.blobs(rows: 120)
                let module = try await person.addModule(at: try await ModuleMaker.make("endless", in: world.folder))
                func begin() async throws -> (session: String, process: pid_t) {
                    let started = try await person.startSession(settings(module, peers: 1), file: csv)
                    let peer = try await peers[0].started()
                    try await eventually("the module's process") {
                        let status = try await person.trainingStatus(id: started.sessionId)
                        return !ModuleMaker.children(of: peer).isEmpty && status.peers.first?.state == .training
                    }
                    return (started.sessionId, try #require(ModuleMaker.children(of: peer).first))
                }
                let (first, process) = try await begin()
                // It has a part of the memory, and is the first to go when that ends.
                func dataLimit() throws -> UInt64? {
                    let limits = try String(contentsOf: URL(filePath: "/proc/\(process)/limits"), encoding: .utf8)
                    return limits.split(separator: "\n").first { $0.hasPrefix("Max data size") }?.split(separator: " ").compactMap {
                        UInt64($0)
                    }
                    .first
                }
                // It sets its limits itself, before it loads the module.
                try await eventually("the limit of the module's process") { try dataLimit() != nil }
                #expect(try #require(try dataLimit()) <= ProcessInfo.processInfo.physicalMemory / 4 * 3)
                let score = try String(contentsOf: URL(filePath: "/proc/\(process)/oom_score_adj"), encoding: .utf8)
                #expect(score == "1000\n")
                try await person.cancel(id: first)
                #expect(try await person.final(first).status == .cancelled)
                try await eventually("its end") { kill(process, 0) != 0 }
                // The peer is there for the next.
                let (_, second) = try await begin()
                try await peers[0].send(SIGKILL)
                try await eventually("its end with the peer") { kill(second, 0) != 0 }
            }
        }

        @Test func `what is no module, or for other data, is a sentence`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                _ = try await world.peers(1, of: server, for: person, prefix: "torch", environment: Self.torch)
                let csv = try world.blobs(rows: 120)
                func refusal(_ path: String) async throws -> String {
                    let error = await #expect(throws: CohortError.self) { _ = try await person.addModule(at: path) }
                    return try #require(error).message
                }
                let good = try await ModuleMaker.make("net", in: world.folder)
                #expect(try await refusal(csv).contains("this is not a .safetensors file"))
                let whole = try Data(contentsOf: URL(filePath: good))
                let cut = "\(world.folder)/cut.safetensors"
                try whole.prefix(whole.count - 5).write(to: URL(filePath: cut))
                #expect(try await refusal(cut).contains("it is not whole"))
                #expect(try await person.modules().isEmpty)

                // Bytes that are not those of its hash, and a module for other columns: told before anybody trains.
                var damaged = whole
                damaged[damaged.count - 9] ^= 1
                try damaged.write(to: URL(filePath: cut))
                func failure(_ path: String, _ change: (inout SessionSettings) -> Void = { _ in }) async throws -> String {
                    var settings = settings(try await person.addModule(at: path), peers: 1)
                    change(&settings)
                    let started = try await person.startSession(settings, file: csv)
                    return try await person.final(started.sessionId).error ?? "none"
                }
                #expect(try await failure(cut).contains("the file was damaged"))
                let narrow = try await failure(good) { $0.data = DataOptions(ignore: ["a"]) }
                #expect(narrow.contains("the module takes 4 numbers a row; the columns make 3"), "\(narrow)")
                let sentences = [
                    ("wide", "the module gives 5 outputs; 'y' has 3 classes"), ("liar", "the module is not what the session says"),
                    ("raises", "not today"),
                ]
                for (name, sentence) in sentences {
                    let path = try await ModuleMaker.make(name, in: world.folder)
                    let error = try await failure(path)
                    #expect(error.contains(sentence), "\(error)")
                }
            }
        }

        @Test func `train takes what torch.jit.save wrote`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                _ = try await world.peers(1, of: server, for: person, prefix: "torch", environment: Self.torch)
                let csv = try world.blobs(rows: 120)
                _ = try await ModuleMaker.make("net", in: world.folder)
                func train(_ name: String, _ arguments: [String]) async throws -> (end: String, error: String) {
                    let run = world.start(
                        name, ["train", csv] + arguments + ["--rounds", "2", "--lr", "0.01", "--seed", "1"],
                        environment: ["COHORT_SERVER": server.url])
                    return ("\(try await run.end())", run.standardError)
                }
                func refused(_ name: String, arguments: [String], expects sentence: String) async throws {
                    let (end, error) = try await train(name, arguments)
                    #expect(end != "exited(0)" && error.contains(sentence), "\(name): \(error)")
                }
                let login = world.start(
                    "login", ["login", "--server", server.url, "--email", "ada@example.org", "--password", World.password])
                #expect(try await login.end() == .exited(0), "\(login.standardError)")
                let net = "\(world.folder)/net.pt"
                let (end, error) = try await train("net", ["--model", net, "-o", "\(world.folder)/m.safetensors"])
                #expect(end == "exited(0)", "\(error)")
                #expect(try ModelFile.read("\(world.folder)/m.safetensors").module == [UInt8](Data(contentsOf: URL(filePath: net))))
                // Once there, it is not sent again.
                let again = try await train("again", ["--model", net])
                #expect(again.end == "exited(0)")
                let known = try await person.modules()
                #expect(known.count == 1)
                try await refused("shape", arguments: ["--model", net, "--input-shape", "2,3"], expects: "a row has 4 features")
                try await refused(
                    "text", arguments: ["--model", net, "--input-shape", "2,y"], expects: "it must be lengths such as 1,28,28")
                try await refused("csv", arguments: ["--model", csv], expects: "this is no TorchScript module")
                try await refused("hidden", arguments: ["--model", net, "--hidden", "8"], expects: "--hidden does not go with --model")
            }
        }
    }
}

/// Makes modules' files as a person would, with Python's PyTorch.
enum ModuleMaker {
    private static let here = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
    private static let python =
        ProcessInfo.processInfo.environment["COHORT_TEST_TORCH_PYTHON"] ?? "\(here)/.build-tools/torch/bin/python"
    static let isThere =
        FileManager.default.isExecutableFile(atPath: python)
        && FileManager.default.fileExists(atPath: "\(here)/.build/torch/libcohort-torch.so")

    /// - Returns: the path of `NAME.safetensors`; beside it is `NAME.pt`.
    static func make(_ name: String, in folder: String) async throws -> String {
        let result = try await run(
            .path(FilePath(python)), arguments: ["\(here)/Tests/SystemTests/Resources/make_module.py", name, folder], output: .discarded,
            error: .string(limit: 1 << 20))
        try #require(result.terminationStatus.isSuccess, "\(result.standardError)")
        return "\(folder)/\(name).safetensors"
    }

    /// Processes that run modules for `parent`.
    static func children(of parent: pid_t) -> [pid_t] {
        let text = try? String(contentsOf: URL(filePath: "/proc/\(parent)/task/\(parent)/children"), encoding: .utf8)
        let direct = (text ?? "").split(separator: " ").compactMap { pid_t($0) }
        let tasks = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(parent)/task")) ?? []
        let others = tasks.flatMap { task in
            ((try? String(contentsOf: URL(filePath: "/proc/\(parent)/task/\(task)/children"), encoding: .utf8)) ?? "")
                .split(separator: " ").compactMap { pid_t($0) }
        }
        return Set(direct + others).filter { pid in
            let command = (try? String(contentsOf: URL(filePath: "/proc/\(pid)/cmdline"), encoding: .utf8)) ?? ""
            return command.contains("module-worker")
        }
    }
}
