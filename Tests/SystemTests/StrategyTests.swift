import CohortAPI
import CohortClient
import CohortCore
import CohortPeer
import CohortSession
import CohortStrategies
import CohortTraining
import CohortWire
import FoundationEssentials
import Glibc
import Subprocess
import TestSupport
import Testing

extension SystemSuite {
    @Suite(.serialized) struct Strategies {
        @Test(arguments: StrategyCatalogue.builtIn.names) func `every strategy trains to a model that predicts`(name: String) async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                let strategy = try StrategyCatalogue.builtIn.named(name)
                let count = max(3, strategy.answersNeeded(SessionSettings()))
                _ = try await world.peers(count, of: server, for: person)
                // The server's own momentum takes rounds to build up. Enough steps for the smallest share that a measured speed can give:
                // krum keeps one peer's update alone.
                let hasOuter = strategy.outerOptimizer(SessionSettings()) != nil
                var settings = SessionSettings(
                    peers: count, strategy: name, rounds: hasOuter ? 30 : 10, epochs: 6, batchSize: 16, lr: 0.01, hidden: [16], seed: 3)
                if let optimizer = strategy.optimizer { (settings.optimizer, settings.lr) = (optimizer, 0.1) }
                let started = try await person.startSession(settings, file: try world.blobs(rows: 300))
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let results = try await person.results(id: started.sessionId)
                #expect(results.strategy == name && results.peers.count == count)
                #expect(try #require(results.metrics.accuracy) > 0.95)
            }
        }

        @Test(arguments: [UpdateCompression.fp16, .bf16, .int8])
        func `updates in fewer bytes train as well, and results say how many were sent`(
            compression: UpdateCompression
        ) async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                _ = try await world.peers(2, of: server, for: person)
                let csv = try world.blobs(rows: 300)
                func session(_ compression: UpdateCompression?) async throws -> (accuracy: Double, loss: Double, bytes: Int) {
                    // Too large for messages, then small enough.
                    var settings = SessionSettings(peers: 2, rounds: 20, epochs: 2, batchSize: 16, lr: 0.01, hidden: [64, 32], seed: 3)
                    settings.updateCompression = compression
                    let started = try await person.startSession(settings, file: csv)
                    let status = try await person.final(started.sessionId)
                    #expect(status.status == .completed, "\(status.error ?? "")")
                    let results = try await person.results(id: started.sessionId)
                    return (
                        try #require(results.metrics.accuracy), try #require(results.metrics.loss),
                        results.peers.reduce(0) { $0 + ($1.sentBytes ?? 0) }
                    )
                }
                let plain = try await session(nil)
                let fewer = try await session(compression)
                #expect(fewer.accuracy > 0.95 && abs(fewer.loss - plain.loss) < 0.05, "\(fewer), \(plain)")
                let share = Double(fewer.bytes) / Double(plain.bytes)
                #expect(share < (compression == .int8 ? 0.31 : 0.53), "\(share)")
            }
        }

        /// One machine stands still in the middle of its first round: the others' rounds go on, and what it learned counts when it comes.
        @Test func `fedbuff waits for no peer, and accepts late answers`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                let token = try #require(try await person.createToken(API.NewToken(name: "test")).token)
                let peers = (1...3).map { world.peer("peer-\($0)", of: server, token: token) }
                try await eventually("three peers") { try await person.peers().count { $0.status == .online } == 3 }
                var settings = SessionSettings(
                    peers: 3, strategy: "fedbuff", rounds: 40, epochs: 2, batchSize: 16, lr: 0.01, hidden: [96, 64], seed: 3)
                settings.keepUpdates = true
                // Updates too large for messages: the link for a late one must hold. Twenty rounds close without it; then the others stand still as well, until it has answered.
                let point = try await world.points.hold(.midEpoch, of: peers[2], round: 0)
                let others = [
                    try await world.points.hold(.midEpoch, of: peers[0], round: 20),
                    try await world.points.hold(.midEpoch, of: peers[1], round: 20),
                ]
                let started = try await person.startSession(settings, file: try world.blobs(rows: 300))
                let held = try await world.points.reached(point)
                let waiting = [try await world.points.reached(others[0]), try await world.points.reached(others[1])]
                #expect(try await person.session(id: started.sessionId).round == 20)
                held.release()
                try await eventually("its answer is there, and the round needs another") {
                    try await person.session(id: started.sessionId).peers.contains { $0.name == "peer-3" && $0.state == .done }
                }
                for point in waiting { point.release() }
                #expect(try await person.final(started.sessionId).status == .completed)
                let receipt = try await person.receipt(id: started.sessionId)
                #expect(receipt.rounds.count == 40 && receipt.rounds[0].contributions.map(\.peerName) == ["peer-1", "peer-2"])
                let late = try #require(receipt.rounds.first { $0.contributions.contains { $0.peerName == "peer-3" } })
                let index = try #require(late.contributions.firstIndex { $0.peerName == "peer-3" })
                let share = try #require(late.outcome.shares.first { $0.peerId == late.contributions[index].peerId })
                // A first round's change is longer than late ones: it may be shortened for that, too.
                #expect(late.round == 20 && share.scale > 0.01 && share.scale < 1 / 21.0.squareRoot() + 1e-9, "\(late)")
                #expect(try #require(try await person.results(id: started.sessionId).metrics.accuracy) > 0.95)

                let login = world.start(
                    "login", ["login", "--server", server.url, "--email", "ada@example.org", "--password", World.password])
                #expect(try await login.end() == .exited(0), "\(login.standardError)")
                let replay = world.start("replay", ["replay", started.sessionId, "--output", "\(world.folder)/same.safetensors"])
                #expect(try await replay.end() == .exited(0), "\(replay.standardError)")
            }
        }

        /// By hand from the updates that the server kept: what each peer sent is the mean gradient of its steps, each of which took the
        /// difference of the variates off.
        @Test(arguments: [UpdateCompression.none, .int8])
        func `scaffold's variates are the peers' mean gradients, over a peer's restart too`(compression: UpdateCompression) async throws {
            try await withWorld { world in
                let server = try await world.server(environment: ["COHORT_PEER_WAIT": "120"])
                let person = try await world.person(server)
                let token = try #require(try await person.createToken(API.NewToken(name: "test")).token)
                let peers = (1...2).map { world.peer("peer-\($0)", of: server, token: token) }
                try await eventually("two peers") { try await person.peers().count { $0.status == .online } == 2 }
                var settings = SessionSettings(
                    peers: 2, strategy: "scaffold", rounds: 4, epochs: 2, batchSize: 16, lr: 0.05, optimizer: OptimizerSpec(name: .sgd),
                    hidden: [8], seed: 3, lrSchedule: .constant)
                settings.keepUpdates = true
                settings.updateCompression = compression
                // Dies when the first rounds' variates are on its disk, and begins the third round again.
                let point = try await world.points.hold(.midEpoch, of: peers[1], round: 2)
                let started = try await person.startSession(settings, file: try world.blobs(rows: 300))
                let held = try await world.points.reached(point)
                try await peers[1].send(SIGKILL)
                held.release()
                _ = try await peers[1].end()
                _ = world.start(
                    "peer-2-again",
                    ["peer", "--server", server.url, "--name", "peer-2", "--data-dir", "\(world.folder)/peer-2", "--threads", "1"],
                    environment: ["COHORT_TOKEN": token])
                #expect(try await person.final(started.sessionId).status == .completed)

                guard compression != .none else { return try await Variates.areMeanGradients(started.sessionId, person) }
                // A peer goes on from what it sent, as it was rounded: the newest is on its disk.
                let receipt = try await person.receipt(id: started.sessionId)
                let last = try #require(receipt.rounds.last)
                let layout = WeightsLayout(receipt.model, streams: ["control_variate"])
                for contribution in last.contributions {
                    let file = try await person.update(id: started.sessionId, key: try #require(contribution.key))
                    let sent = try UpdateFile.decode(file, layout, start: [Float](repeating: 0, count: receipt.model.parameterCount))
                    let folder = "\(world.folder)/\(contribution.peerName)/rounds"
                    let name = try #require(
                        try FileManager.default.contentsOfDirectory(atPath: folder).first {
                            $0.hasPrefix("control-variate-") && $0.hasSuffix("-\(last.round).safetensors")
                        })
                    let kept = try Weights.decode([UInt8](Data(contentsOf: URL(filePath: "\(folder)/\(name)"))), spec: receipt.model)
                    #expect(kept == Array(sent.suffix(kept.count)) && kept.contains { $0 != 0 })
                }
            }
        }

        @Test(arguments: ["fedavg", "multi_krum", "centered_clipping", "fedadam"])
        func `a model is computed again from its updates, to the same bits or without a peer`(strategy: String) async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                let count = max(3, try StrategyCatalogue.builtIn.named(strategy).answersNeeded(SessionSettings()))
                _ = try await world.peers(count, of: server, for: person)
                var settings = SessionSettings(
                    peers: count, strategy: strategy, rounds: 3, epochs: 20, batchSize: 16, lr: 0.01, hidden: [16], seed: 3)
                settings.keepUpdates = true
                settings.updateCompression = strategy == "fedavg" ? .int8 : nil
                // The third of its four rounds has different streams.
                if strategy == "multi_krum" { (settings.optimizerState, settings.rounds) = (.keep, 4) }
                let csv = try world.blobs(rows: 300)
                let started = try await person.startSession(settings, file: csv)
                #expect(try await person.final(started.sessionId).status == .completed)
                let receipt = try await person.receipt(id: started.sessionId)
                #expect(
                    receipt.rounds.count == settings.rounds && (receipt.streamPeriods == [3, 6]) == (settings.optimizerState == .keep)
                        && receipt.rounds.allSatisfy { $0.contributions.count == count && $0.contributions[0].norm ?? 0 > 0 })
                let model = "\(world.folder)/model.safetensors"
                _ = try await person.downloadModel(id: started.sessionId, to: model)

                let login = world.start(
                    "login", ["login", "--server", server.url, "--email", "ada@example.org", "--password", World.password])
                #expect(try await login.end() == .exited(0), "\(login.standardError)")
                func replay(_ name: String, _ arguments: [String], exit: TerminationStatus = .exited(0)) async throws -> TestProcess {
                    let process = world.start(name, ["replay", started.sessionId] + arguments)
                    #expect(try await process.end() == exit, "\(process.standardError)")
                    return process
                }
                let same = "\(world.folder)/same.safetensors"
                let said = try await replay("same", ["--output", same])
                #expect(said.output.contains("round 3: \(count) updates, the same weights as the receipt's"), "\(said.output)")
                #expect(try ModelFile.read(same).parameters == ModelFile.read(model).parameters)

                let without = "\(world.folder)/without.safetensors"
                _ = try await replay("without", ["--without", "peer-1", "--output", without])
                let other = try ModelFile.read(without)
                #expect(
                    try other.parameters != ModelFile.read(model).parameters && other.parameters.allSatisfy { $0.isFinite }
                        && other.metrics == nil)
                let (evaluation, _) = try Predictor(other).evaluate(csvAt: csv, options: .init())
                #expect(evaluation.accuracy ?? 0 > 0.9)
                let unknown = try await replay("unknown", ["--without", "unknown"], exit: .exited(2))
                #expect(
                    unknown.standardError.contains("'unknown' is not a peer of the session: peer-1"), "\(unknown.standardError)")
            }
        }

        /// A peer that sends its change turned round and ten times as large.
        @Test(.enabled(if: PythonPeer.interpreter != nil, "no Python with pika and NumPy: `make integration` makes one"))
        func `a peer that lies is left out, then quarantined, with the reason`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                _ = try await world.peers(3, of: server, for: person)
                let token = try #require(try await person.createToken(API.NewToken(name: "liar")).token)
                let liar = world.start(
                    "liar", executable: PythonPeer.interpreter,
                    [
                        PythonPeer.file("Benchmarks/liars.py"), "--lie", "times 10", "--server", server.url, "--token", token, "--name",
                        "liar",
                        "--speed", "100000",
                    ])
                try await eventually("it is there") { try await person.peers().contains { $0.name == "liar" && $0.status == .online } }
                var settings = SessionSettings(peers: 4, rounds: 6, epochs: 6, batchSize: 16, lr: 0.01, hidden: [16], seed: 3)
                settings.weighting = .uniform
                let started = try await person.startSession(settings, file: try world.blobs(rows: 400))
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "") \(liar.standardError)")
                let results = try await person.results(id: started.sessionId)
                let message = results.peers.first { $0.name == "liar" }?.message ?? ""
                #expect(message.hasPrefix("quarantined: its change ") && message.contains("without it"), "\(message)")
                #expect(results.peers.filter { $0.name != "liar" }.allSatisfy { $0.message == nil })
                #expect(try #require(results.metrics.accuracy) > 0.95)
                #expect(results.history.count == 6 && results.history.suffix(4).allSatisfy { !$0.answered.contains("liar") })
            }
        }

        /// What the optimizer remembers is nowhere but with the weights: a peer that dies takes nothing with it.
        @Test func `moments that are averaged outlive their peer, and the same seed gives the same bits`() async throws {
            try await withWorld { world in
                let server = try await world.server(environment: ["COHORT_PEER_WAIT": "120"])
                let person = try await world.person(server)
                let token = try #require(try await person.createToken(API.NewToken(name: "test")).token)
                let peer = world.peer("peer", of: server, token: token)
                try await eventually("one peer") { try await person.peers().contains { $0.status == .online } }
                let csv = try world.blobs(rows: 240)
                // Seven rounds: with `keep` both moments go up in the sixth, and come down in the seventh.
                func settings(_ memory: OptimizerMemory?, rounds: Int = 7) -> SessionSettings {
                    var settings = SessionSettings(
                        peers: 1, rounds: rounds, epochs: 1, batchSize: 16, lr: 0.01, hidden: [16], seed: 3, lrSchedule: .constant)
                    settings.optimizerState = memory
                    return settings
                }
                func parameters(_ id: String) async throws -> [Float] {
                    #expect(try await person.final(id).status == .completed)
                    let path = "\(world.folder)/\(id).safetensors"
                    try await person.downloadModel(id: id, to: path)
                    return try ModelFile.read(path).parameters
                }
                let averaged = try await person.startSession(settings(nil), file: csv)
                let undisturbed = try await parameters(averaged.sessionId)
                #expect(try await person.session(id: averaged.sessionId).settings.optimizerState == .average, "the default is recorded")
                // Of one peer, its own and the average are the same; without, it is another.
                let kept = try await person.startSession(settings(.keep), file: csv)
                #expect(try await parameters(kept.sessionId) == undisturbed)
                let reset = try await person.startSession(settings(.reset), file: csv)
                #expect(try await parameters(reset.sessionId) != undisturbed)

                let point = try await world.points.hold(.midEpoch, of: peer, round: 3)
                let disturbed = try await person.startSession(settings(nil), file: csv)
                let held = try await world.points.reached(point)
                try await peer.send(SIGKILL)
                held.release()
                _ = try await peer.end()
                _ = world.start(
                    "peer-again",
                    ["peer", "--server", server.url, "--name", "peer", "--data-dir", "\(world.folder)/peer", "--threads", "1"],
                    environment: ["COHORT_TOKEN": token])
                #expect(try await parameters(disturbed.sessionId) == undisturbed)
            }
        }
    }
}

/// SCAFFOLD's variates of a session with a constant rate that kept its updates.
enum Variates {
    static func areMeanGradients(_ id: String, _ person: CohortClient) async throws {
        let receipt = try await person.receipt(id: id)
        let (epochs, batch) = (receipt.settings.epochs, receipt.settings.batchSize)
        let layout = WeightsLayout(receipt.model, streams: ["control_variate"])
        let count = receipt.model.parameterCount
        #expect(receipt.streams == layout.streams && receipt.rounds.count == receipt.settings.rounds)
        var start = initialParameters(receipt.model, seed: receipt.settings.seed).map(Double.init)
        var ofAll = [Double](repeating: 0, count: count)
        var own: [String: [Double]] = [:]
        for round in receipt.rounds {
            var next = [Double](repeating: 0, count: layout.count)
            for contribution in round.contributions {
                let file = try await person.update(id: id, key: try #require(contribution.key))
                let values = try Weights.decode(file, layout).map(Double.init)
                let steps = epochs * ((contribution.samples / epochs + batch - 1) / batch)
                let before = own[contribution.peerId] ?? ofAll
                for index in 0..<count {
                    let mean = (start[index] - values[index]) / (Double(steps) * receipt.settings.lr) - ofAll[index] + before[index]
                    #expect(abs(values[count + index] - mean) < 1e-4, "round \(round.round) of \(contribution.peerName)")
                }
                own[contribution.peerId] = Array(values[count...])
                let weight = try #require(contribution.weight)
                for index in next.indices { next[index] += weight * values[index] }
            }
            (start, ofAll) = (Array(next[..<count]), Array(next[count...]))
            #expect(ofAll.contains { abs($0) > 1e-3 })
        }
        #expect(own.count == receipt.settings.peers)
    }
}
