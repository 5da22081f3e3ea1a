import CohortAPI
import CohortClient
import CohortCore
import CohortSession
import CohortTraining
import CohortWire
import FoundationEssentials
import Glibc
import Subprocess
import TestSupport
import Testing

extension SystemSuite.OverRabbitMQ {
    /// A peer in another language, by the public protocol alone, beside ours.
    @Suite(.serialized, .enabled(if: PythonPeer.isThere, "no Python with pika and NumPy: `make integration` makes one"))
    struct InPython {
        private static let server = [
            "COHORT_BROKER_URL": RabbitMQServer.tlsURL ?? "", "COHORT_BROKER_ADMIN_URL": RabbitMQServer.adminURL ?? "",
            // It trains in Python, and must not be taken for dead on a busy machine.
            "COHORT_SUSPECT_AFTER": "30", "COHORT_DEAD_AFTER": "60",
        ]

        private static func peer(_ world: World, of server: World.Server, for person: CohortClient) async throws -> TestProcess {
            let token = try #require(try await person.createToken(API.NewToken(name: "python")).token)
            let before = try await person.peers().count { $0.status == .online }
            let peer = world.start(
                "python", executable: PythonPeer.interpreter,
                [PythonPeer.file("Examples/python-peer/peer.py"), "--server", server.url, "--name", "python"],
                environment: ["COHORT_TOKEN": token, "COHORT_BROKER_CA_FILE": RabbitMQServer.caFile ?? "", "OMP_NUM_THREADS": "1"])
            try await eventually("the peer in Python is online") {
                try await person.peers().count { $0.status == .online } > before
            }
            return peer
        }

        /// Numbers, words, missing values.
        private static var settings: SessionSettings {
            var settings = SessionSettings(peers: 3, rounds: 4, epochs: 3, batchSize: 8, lr: 0.01, hidden: [16], seed: 5)
            settings.target = "species"
            return settings
        }

        @Test(arguments: ["fedavg", "independent", "scaffold", "fedbuff"], [UpdateCompression.none, .int8])
        func `it trains beside two of ours, and goes with a goodbye`(strategy: String, compression: UpdateCompression) async throws {
            try await withWorld { world in
                let server = try await world.server(environment: Self.server)
                let person = try await world.person(server)
                _ = try await world.peers(2, of: server, for: person)
                let python = try await Self.peer(world, of: server, for: person)
                var settings = Self.settings
                settings.strategy = strategy
                settings.updateCompression = compression
                if strategy == "scaffold" {
                    (settings.optimizer, settings.lr, settings.lrSchedule) = (OptimizerSpec(name: .sgd), 0.1, .constant)
                    settings.keepUpdates = true
                }
                // Each has two of three answers.
                if strategy == "fedbuff" { settings.rounds = 12 }
                let started = try await person.startSession(settings, file: PythonPeer.file("Examples/penguins.csv"))
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let results = try await person.results(id: started.sessionId)
                // Every row as often as asked for: what it says it trained on was believed.
                let times = strategy == "independent" ? 9 : 12
                if strategy != "fedbuff" {
                    results.expectEachRow(times: times, epochs: settings.epochs)
                }
                if strategy == "scaffold", compression == .none { try await Variates.areMeanGradients(started.sessionId, person) }
                let own = try #require(results.peers.first { $0.name == "python" })
                #expect(own.trainedSamples > 0 && own.engine == "numpy")
                // What the server measures itself agrees with what it said.
                #expect(own.message?.contains("the held-out loss is") ?? true, "\(own.message ?? "")")
                #expect(try #require(results.metrics.accuracy) > 0.95)
                // What is still trained on when the last of fedbuff's rounds closes is of nothing any more: that alone may be refused.
                let refusals = python.standardError.split(separator: "\n").filter {
                    $0.contains("refused") && !$0.contains("the held-out loss is")
                }
                let isLate = { (line: Substring) in
                    strategy == "fedbuff" && line.contains("an older round") && line.contains("than round 12,")
                }
                #expect(refusals.allSatisfy(isLate), "\(python.standardError)")
                try await python.send(SIGTERM)
                #expect(try await python.end() == .exited(0), "\(python.standardError)")
                #expect(try await person.peers().first { $0.name == "python" }?.status == .offline)
            }
        }

        /// The smallest peer, over plain HTTP, beside the other and one of ours: each gets its own rows, and no others.
        @Test func `the peer of 150 lines trains beside it`() async throws {
            try await withWorld { world in
                let server = try await world.server(environment: Self.server)
                let person = try await world.person(server)
                _ = try await world.peers(1, of: server, for: person)
                _ = try await Self.peer(world, of: server, for: person)
                let token = try #require(try await person.createToken(API.NewToken(name: "minimal")).token)
                let minimal = world.start(
                    "minimal", executable: PythonPeer.interpreter,
                    [PythonPeer.file("Examples/python-peer/minimal.py"), server.url, token], environment: ["OMP_NUM_THREADS": "1"])
                try await eventually("all three are online") { try await person.peers().count { $0.status == .online } == 3 }
                var settings = Self.settings
                (settings.optimizer, settings.lr, settings.lrSchedule) = (OptimizerSpec(name: .sgd), 0.1, .constant)
                settings.optimizerState = .reset
                let started = try await person.startSession(settings, file: PythonPeer.file("Examples/penguins.csv"))
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "") \(minimal.standardError)")
                let results = try await person.results(id: started.sessionId)
                results.expectEachRow(times: 12, epochs: settings.epochs)
                #expect(Set(results.peers.map(\.engine)) == ["minimal", "native", "numpy"])
                #expect(results.peers.allSatisfy { $0.trainedSamples > 0 && $0.receivedRows ?? 344 < 344 }, "\(results.peers)")
                #expect(try #require(results.metrics.accuracy) > 0.95)
                // It has no Adam, and is given no work for it.
                let error = await #expect(throws: CohortError.self) {
                    _ = try await person.startSession(Self.settings, file: PythonPeer.file("Examples/penguins.csv"))
                }
                #expect(error?.message.contains("Without the optimizer adam: minimal") == true, "\(error?.message ?? "")")
                try await minimal.send(SIGTERM)
                _ = try await minimal.end()
            }
        }

        /// The first moments go in the third round, both in the sixth: what ours send and what it sends is averaged, and taken by all.
        @Test(arguments: ["adam", "sgd"]) func `moments that are averaged now and then`(optimizer: String) async throws {
            try await withWorld { world in
                let server = try await world.server(environment: Self.server)
                let person = try await world.person(server)
                _ = try await world.peers(1, of: server, for: person)
                let python = try await Self.peer(world, of: server, for: person)
                var settings = Self.settings
                (settings.peers, settings.rounds, settings.epochs, settings.localSteps) = (2, 8, 1, 20)
                (settings.optimizerState, settings.keepUpdates) = (.keep, true)
                if optimizer == "sgd" { (settings.optimizer, settings.lr) = (OptimizerSpec(name: .sgd, momentum: 0.9), 0.05) }
                let started = try await person.startSession(settings, file: PythonPeer.file("Examples/penguins.csv"))
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let receipt = try await person.receipt(id: started.sessionId)
                #expect(receipt.streamPeriods == (optimizer == "sgd" ? [3] : [3, 6]))
                let first = optimizer == "sgd" ? ["momentum_buffer"] : ["exp_avg"]
                for round in receipt.rounds {
                    let streams = round.round == 2 ? first : round.round == 5 ? settings.optimizer.streamNames : []
                    #expect(round.contributions.count == 2)
                    for contribution in round.contributions {
                        // Twenty batches of at most eight: how many are smaller depends on the peers' speeds.
                        #expect(20...160 ~= contribution.samples, "\(contribution.samples) rows")
                        var file = WeightsStream(WeightsLayout(receipt.model, streams: streams))
                        var values: [Float] = []
                        try file.feed(try await person.update(id: started.sessionId, key: try #require(contribution.key))) { values += $0 }
                        try file.finish()
                        let remembered = values.dropFirst(receipt.model.parameterCount)
                        #expect(streams.isEmpty || remembered.contains { $0 != 0 }, "\(contribution.peerName) in round \(round.round)")
                    }
                }
                #expect(try #require(await person.results(id: started.sessionId).metrics.accuracy) > 0.95)
                #expect(!python.standardError.contains("refused"), "\(python.standardError)")
            }
        }

        @Test(arguments: ["adam", "sgd", "adamw"]) func `in whole batches it comes to our own peer's weights`(optimizer: String)
            async throws
        {
            try await withWorld { world in
                let server = try await world.server(environment: Self.server)
                let person = try await world.person(server)
                var settings = Self.settings
                settings.peers = 1
                settings.batchSize = 10_000
                settings.lr = optimizer == "sgd" ? 0.1 : 0.01
                settings.optimizer = OptimizerSpec(
                    name: try #require(OptimizerName(rawValue: optimizer)), momentum: optimizer == "sgd" ? 0.9 : 0)
                settings.activation = .tanh
                let ours = try await world.peers(1, of: server, for: person)
                let a = try await model(in: world, of: person, settings: settings, named: "ours")
                try await ours[0].send(SIGTERM)
                _ = try await ours[0].end()
                _ = try await Self.peer(world, of: server, for: person)
                let b = try await model(in: world, of: person, settings: settings, named: "python")
                #expect(a.schema == b.schema && a.spec == b.spec)
                let farthest = zip(a.parameters, b.parameters).map { abs($0 - $1) }.max() ?? .infinity
                // 12 steps: the same rows, features, first weights and rule; sums in another order.
                #expect(farthest < 1e-4, "the farthest weights are \(farthest) apart")
                #expect(try #require(a.metrics?.accuracy) > 0.7, "it has learnt something")

                // Of eight rows a step, and fifty steps: one epoch and a part of the second.
                (settings.rounds, settings.epochs, settings.localSteps, settings.batchSize, settings.keepUpdates) = (1, 1, 50, 8, true)
                let started = try await person.startSession(settings, file: PythonPeer.file("Examples/penguins.csv"))
                #expect(try await person.final(started.sessionId).status == .completed)
                let rows = 344 - (a.metrics?.samples ?? 0)
                let ofEpoch = (rows + 7) / 8
                let contribution = try await person.receipt(id: started.sessionId).rounds.first?.contributions.first
                #expect(ofEpoch < 50 && contribution?.samples == rows + (50 - ofEpoch) * 8, "\(String(describing: contribution))")
            }
        }

        private func model(in world: World, of person: CohortClient, settings: SessionSettings, named name: String) async throws
            -> ModelFile
        {
            let started = try await person.startSession(settings, file: PythonPeer.file("Examples/penguins.csv"))
            let status = try await person.final(started.sessionId)
            #expect(status.status == .completed, "\(status.error ?? "")")
            let path = "\(world.folder)/\(name).safetensors"
            _ = try await person.downloadModel(id: started.sessionId, to: path)
            return try ModelFile.read(path)
        }
    }
}
