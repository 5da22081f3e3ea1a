import AsyncHTTPClient
import CohortAPI
import CohortClient
import CohortCore
import CohortSession
import CohortTraining
import CohortWire
import FoundationEssentials
import HTTPTypes
import Hummingbird
import Logging
import PeerTestSupport
import ServiceLifecycle
import Synchronization
import TestSupport
import Testing

@testable import CohortPeer

/// A scripted server, a data set on it, and a peer's configuration.
private struct World: Sendable {
    let server: ScriptedServer
    let url: ServerURL
    let http: HTTPClient
    let folder: String
    let csv: [UInt8]
    let schema: TableSchema
    let table: ServedTable

    var configuration: PeerConfiguration {
        PeerConfiguration(
            server: url, token: "join", name: "laptop", dataDirectory: "\(folder)/peer", threads: 1, version: "test")
    }

    var spec: ModelSpec { ModelSpec(inputs: schema.featureCount, hidden: [8], outputs: schema.outputCount, task: .classification) }

    func train(session: String = "s", generation: Int = 1, round: Int = 0, epochs: Int = 2, lr: Double = 0.05) -> TrainCommand {
        TrainCommand(
            work: WorkKey(sessionId: session, generation: generation, round: round), csvLink: "s3://cohort/a.csv",
            table: table.link(),
            start: StartingModel(model: spec, modelSeed: 3),
            plan: WorkPlan(rows: [RowRange(start: 0, end: schema.trainingRows)], epochs: epochs),
            options: TrainingOptions(optimizer: OptimizerSpec(name: .sgd), batchSize: 8, learningRate: lr, dropoutSeed: 7),
            update: UpdateTarget(url: "/objects/u-\(round)?signature=2", key: "updates/\(session)/u-\(round)"))
    }

    func enable(session: String = "s", generation: Int = 1) -> Command {
        .enable(EnableCommand(queue: "coordinator.\(session).events", sessionId: session, generation: generation))
    }

    /// Runs a peer until `body` has returned, then shuts it down gracefully.
    func withPeer(_ body: @Sendable () async throws -> Void) async throws {
        let peer = try Peer(configuration: configuration, http: http, transport: overHTTP, logger: silent) { NativeEngine(threads: 1) }
        let services = ServiceGroup(configuration: ServiceGroupConfiguration(services: [peer], logger: silent))
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await services.run() }
            do {
                try await body()
            } catch {
                await services.triggerGracefulShutdown()
                throw error
            }
            await services.triggerGracefulShutdown()
            try await group.waitForAll()
        }
    }
}

private func withWorld(rows: Int = 200, _ body: @escaping @Sendable (World) async throws -> Void) async throws {
    try await withFolder { folder in
        let text = "x,y,kind\n" + (0..<rows).map { "\($0 % 17),\($0 % 5),\($0 % 17 > 8 ? "high" : "low")\n" }.joined()
        let path = "\(folder)/data.csv"
        try Data(text.utf8).write(to: URL(filePath: path))
        let finding = try SchemaInference.infer(csvAt: path, target: nil, task: nil, validation: 0.2, seed: 1)
        let table = try ServedTable(csvAt: path, finding, seed: 5, folder: folder)
        let scripted = ScriptedServer()
        await scripted.serve(table)
        try await withHTTPServer { request in
            try await scripted.handle(request)
        } _: { url, http in
            try await body(
                World(
                    server: scripted, url: url, http: http, folder: folder, csv: Array(text.utf8), schema: finding.schema, table: table))
        }
    }
}

@Suite(.serialized)
struct PeerTests {
    @Test
    func `registers, trains two rounds as commanded, and says goodbye`() async throws {
        try await withWorld { world in
            let server = world.server
            try await world.withPeer {
                try await eventually("it listens") { await !server.openings.isEmpty }
                let registration = try #require(await server.registrations.first)
                #expect(registration.name == "laptop")
                #expect(registration.id == nil)
                #expect(registration.capabilities.engine == "native")
                #expect(registration.capabilities.samplesPerSecond > 0)

                try await server.send(world.enable())
                try await server.send(.train(world.train(epochs: 3)))
                try await eventually("round 0 is done") { await server.dones.count == 1 }
                #expect(await server.enableds.first?.generation == 1)
                #expect(await server.enableds.first?.capabilities == registration.capabilities)
                let heartbeats = await server.heartbeats
                #expect(heartbeats.map(\.epoch) == [1, 2, 3])
                #expect(heartbeats.last?.progress == 1)
                #expect(heartbeats.allSatisfy { $0.loss.isFinite && $0.accuracy != nil && ($0.samplesPerSecond ?? 0) > 0 })
                let done = try #require(await server.dones.first)
                #expect(done.peerId == ScriptedServer.peerId && done.round == 0 && done.generation == 1)
                #expect(done.results.samples == 3 * world.schema.trainingRows)
                #expect(done.results.epochs == 3)
                #expect(done.results.loss == heartbeats.last?.loss)
                #expect(done.results.evaluation == nil)
                let bytes = try #require(await server.objects["/objects/u-0"])
                #expect(done.update == ObjectReference(key: "updates/s/u-0", sha256: sha256(bytes), bytes: bytes.count))
                let weights = try Weights.decode(bytes, spec: world.spec)
                #expect(weights != initialParameters(world.spec, seed: 3))

                // The next round starts from given weights and measures them before it trains.
                var second = world.train(round: 1)
                second.start.weightsUrl = "/objects/u-0"
                second.start.weightsSha256 = sha256(bytes)
                second.plan.validationRows = RowRange(start: 0, end: world.schema.validationRows)
                second.plan.evaluateAfter = true
                try await server.send(.train(second))
                try await eventually("round 1 is done") { await server.dones.count == 2 }
                let results = try #require(await server.dones.last?.results)
                #expect(results.evaluation?.samples == world.schema.validationRows)
                #expect(results.ownEvaluation?.samples == world.schema.validationRows)
                #expect(try #require(results.ownEvaluation?.lossSum) < #require(results.evaluation?.lossSum))
                // The manifest once, the rows to train on, then those to measure on, and nothing twice.
                let (rows, all) = (world.schema.trainingRows, world.table.manifest.parts.rows)
                #expect(await server.rowRequests == ["table", "parts/0?start=0&end=\(rows)", "parts/0?start=\(rows)&end=\(all)"])

                // Only evaluating: no epochs, no update.
                var evaluation = second
                evaluation.work.round = 2
                evaluation.plan.epochs = 0
                evaluation.update = nil
                evaluation.plan.evaluateAfter = false
                try await server.send(.train(evaluation))
                try await eventually("the evaluation is done") { await server.dones.count == 3 }
                let last = try #require(await server.dones.last)
                #expect(last.update == nil)
                #expect(last.results.samples == 0)
                #expect(last.results.evaluation == results.evaluation)

                try await server.send(.stop(StopCommand(sessionId: "s", reason: .completed)))
                try await eventually("every command is acknowledged") { await server.acknowledged == 5 }
                try await eventually("it beats") { await server.beats > 0 }
            }
            #expect(await server.goodbyes == 1)
        }
    }

    @Test
    func `gives the same weights for the same work, with another folder too`() async throws {
        try await withWorld { world in
            var updates: [[UInt8]] = []
            for run in 1...2 {
                try await world.withPeer {
                    try await world.server.send(.train(world.train(generation: run)))
                    try await eventually("it is done") { await world.server.dones.last?.generation == run }
                }
                updates.append(try #require(await world.server.objects["/objects/u-0"]))
                try FileManager.default.removeItem(atPath: "\(world.folder)/peer")
            }
            #expect(updates[0] == updates[1])
        }
    }

    @Test
    func `answers a repeated TRAIN with the same DONE, without training again`() async throws {
        try await withWorld { world in
            let server = world.server
            try await world.withPeer {
                try await server.send(.train(world.train()))
                try await eventually("it is done") { await server.dones.count == 1 }
                try await server.send(.train(world.train()))
                try await eventually("it says so again") { await server.dones.count == 2 }
                #expect(await server.dones[0] == server.dones[1])
                #expect(await server.heartbeats.count == 2)
            }
        }
    }

    @Test
    func `stops within a batch when told to, and says nothing of it`() async throws {
        try await withWorld { world in
            let server = world.server
            try await world.withPeer {
                try await server.send(.train(world.train(epochs: 10_000_000)))
                try await eventually("it trains") { await !server.heartbeats.isEmpty }
                try await server.send(.stop(StopCommand(sessionId: "s", reason: .cancelled)))
                try await server.send(.train(world.train(session: "next", epochs: 1)))
                // Ten million epochs would take longer than this waits.
                try await eventually("the next session's work is done") { await server.dones.first?.sessionId == "next" }
                #expect(await server.dones.count == 1)
                #expect(await server.errors.isEmpty)
            }
        }
    }

    @Test
    func `drops a round for the next one, and an old generation for a new one`() async throws {
        try await withWorld { world in
            let server = world.server
            try await world.withPeer {
                try await server.send(.train(world.train(epochs: 10_000_000)))
                try await eventually("it trains") { await !server.heartbeats.isEmpty }
                try await server.send(.train(world.train(generation: 2, epochs: 1)))
                try await eventually("the new generation's work is done") { await server.dones.first?.generation == 2 }
                try await server.send(.train(world.train(generation: 1, round: 4)))
                try await server.send(.train(world.train(generation: 2, round: 1)))
                try await eventually("the next round is done") { await server.dones.last?.round == 1 }
                #expect(await server.dones.map(\.generation) == [2, 2])
            }
        }
    }

    @Test
    func `beats while it trains`() async throws {
        try await withWorld(rows: 20_000) { world in
            let server = world.server
            try await world.withPeer {
                try await server.send(.train(world.train(epochs: 10_000_000)))
                try await eventually("it trains") { await !server.heartbeats.isEmpty }
                let before = await server.beats
                try await eventually("ten more beats", within: .seconds(5)) { await server.beats > before + 10 }
            }
        }
    }

    @Test
    func `registers again, under its old identity, when the server has given it up, and keeps its work`() async throws {
        try await withWorld { world in
            let server = world.server
            try await world.withPeer {
                try await server.send(.train(world.train(epochs: 10_000_000)))
                try await eventually("it trains") { await !server.heartbeats.isEmpty }
                await server.refuse(beats: [ScriptedServer.Refusal(status: .conflict, code: "conflict")])
                try await eventually("it registers again") { await server.registrations.count == 2 }
                #expect(await server.registrations.last?.id == ScriptedServer.peerId)
                let before = await server.heartbeats.count
                try await eventually("it reports on") { await server.heartbeats.count > before }
            }
        }
    }

    @Test
    func `keeps a DONE until a coordinator accepts it, and drops one that is fenced off`() async throws {
        try await withWorld { world in
            let server = world.server
            let away = ScriptedServer.Refusal(status: .serviceUnavailable, code: "unavailable")
            try await world.withPeer {
                await server.refuse(events: [away, away, away, away, away])
                try await server.send(.train(world.train()))
                try await eventually("it is done") { await server.dones.count == 1 }
                // Heartbeat and DONE of the next round, together or not, are fenced off; the round after that is not.
                await server.fence(round: 1)
                try await server.send(.train(world.train(round: 1, epochs: 1)))
                try await eventually("they are refused") { await server.fencedDones.map(\.round) == [1] }
                try await server.send(.train(world.train(round: 2, epochs: 1)))
                try await eventually("round 2 is done") { await server.dones.last?.round == 2 }
                #expect(await server.dones.map(\.round) == [0, 2])
            }
        }
    }

    @Test
    func `opens its command stream again from the last acknowledged command`() async throws {
        try await withWorld { world in
            let server = world.server
            try await world.withPeer {
                try await server.send(world.enable())
                try await eventually("it is acknowledged") { await server.acknowledged == 1 }
                await server.hangUp()
                try await server.send(.train(world.train()))
                try await eventually("it is done") { await server.dones.count == 1 }
                #expect(await server.openings == [nil, 1])
                #expect(await server.enableds.count == 1)
            }
        }
    }

    @Test
    func `passes over what it does not know, and what is no JSON`() async throws {
        try await withWorld { world in
            let server = world.server
            try await world.withPeer {
                await server.send(raw: Array(#"{"type":"DANCE","session_id":"s"}"#.utf8))
                await server.send(raw: Array("not json".utf8))
                await server.send(raw: Array(#"{"type":"TRAIN","session_id":"s"}"#.utf8))
                try await server.send(world.enable())
                try await eventually("the last is answered") { await server.enableds.count == 1 }
                try await eventually("all are acknowledged") { await server.acknowledged == 4 }
            }
        }
    }

    @Test
    func `says why a round fails, and whether asking again can help`() async throws {
        try await withWorld { world in
            let server = world.server
            try await world.withPeer {
                var wrongHash = world.train(round: 0)
                wrongHash.table.tableSha256 = sha256([1])
                try await server.send(.train(wrongHash))
                try await eventually("the wrong hash is reported") { await server.errors.count == 1 }

                var missing = world.train(round: 1)
                missing.start.weightsUrl = "/objects/missing"
                missing.start.weightsSha256 = sha256([2])
                try await server.send(.train(missing))
                try await eventually("the missing object is reported") { await server.errors.count == 2 }

                var wrongModel = world.train(round: 2)
                wrongModel.start.model.inputs += 1
                try await server.send(.train(wrongModel))
                try await eventually("the wrong model is reported") { await server.errors.count == 3 }

                var wrongRows = world.train(round: 3)
                wrongRows.plan.rows = [RowRange(start: 0, end: 1_000_000)]
                try await server.send(.train(wrongRows))
                try await eventually("the wrong rows are reported") { await server.errors.count == 4 }

                var divergent = world.train(round: 4, epochs: 50, lr: 1e30)
                divergent.start.model.task = .classification
                try await server.send(.train(divergent))
                try await eventually("the divergence is reported") { await server.errors.count == 5 }
                #expect(await server.errors.map(\.retryable) == [false, true, false, false, false])
                #expect(await server.errors[4].message.contains("lower the learning rate"))
                #expect(await server.dones.isEmpty)
            }
        }
    }

    @Test
    func `fetches what it lacks and nothing twice, takes rows from the message, and drops them at STOP`() async throws {
        // More than stays in memory.
        try await withWorld(rows: 500_000) { world in
            let server = world.server
            let files: @Sendable () -> [String] = { names(in: "\(world.folder)/peer/cache") ?? [] }
            @Sendable func train(_ round: Int, _ ranges: [RowRange], session: String = "s") async throws {
                var command = world.train(session: session, round: round, epochs: 1)
                (command.plan.rows, command.options.batchSize) = (ranges, 4_096)
                let count = await server.dones.count
                try await server.send(.train(command))
                try await eventually("round \(round) is done") { await server.dones.count == count + 1 }
                #expect(await server.dones.last?.results.samples == ranges.reduce(0) { $0 + $1.count })
            }
            let requests: @Sendable () async -> [String] = { await server.rowRequests.filter { $0.hasPrefix("parts") } }
            try await world.withPeer {
                try await train(0, [RowRange(start: 0, end: 1_000)])
                try await train(1, [RowRange(start: 0, end: 1_000)])
                #expect(await requests() == ["parts/0?start=0&end=1000"])
                // The new share has rows that the peer lacks: 1,000 to 1,200, and 2,000 to 2,010.
                try await train(2, [RowRange(start: 500, end: 1_200), RowRange(start: 2_000, end: 2_010)])
                #expect(await requests().dropFirst() == ["parts/0?start=1000&end=1200", "parts/0?start=2000&end=2010"])
            }
            #expect(files() == ["s.rows", "s.rows.json"])
            // Started again, it has its rows.
            try await world.withPeer {
                try await train(3, [RowRange(start: 900, end: 1_200)])
                #expect(await requests().count == 3)
                // Few rows come in the message.
                var command = world.train(round: 4, epochs: 1)
                command.plan.rows = [RowRange(start: 5_000, end: 5_010)]
                command.plan.rowData = Data(world.table.records(5_000..<5_010))
                try await server.send(.train(command))
                try await eventually("round 4 is done") { await server.dones.last?.round == 4 }
                #expect(await requests().count == 3)
                try await server.send(.stop(StopCommand(sessionId: "s", reason: .completed)))
                try await eventually("the rows are gone") { files().isEmpty }
                // Whole parts are compared with their hash.
                let whole = world.table.manifest.parts.rows(of: 0)
                try await train(0, [RowRange(start: 0, end: whole.upperBound)], session: "t")
                #expect(await requests().last == "parts/0")
            }
        }
    }

    @Test
    func `says what is wrong with a manifest and with rows, and does the next work`() async throws {
        try await withWorld { world in
            let server = world.server
            @Sendable func fails(_ round: Int, with sentence: String, _ table: ServedTable, isInline: Bool = true, data: Data? = nil)
                async throws
            {
                await server.serve(table)
                var command = world.train(session: "s\(round)", round: round)
                command.table = table.link(isInline: isInline)
                command.plan.rowData = data
                try await server.send(.train(command))
                try await eventually("\(sentence) is reported") { await server.errors.last?.round == round }
                let error = try #require(await server.errors.last)
                #expect(error.message.contains(sentence) && !error.retryable, "\(error.message)")
            }
            try await world.withPeer {
                let good = world.table
                try await fails(1, with: "reads 1", try good.changed { $0.version = 2 })
                try await fails(2, with: "records of", try good.changed { $0.parts.recordBytes += 1 }, isInline: false)
                try await fails(3, with: "a record of 0 bytes", try good.changed { ($0.layout.recordBytes, $0.parts.recordBytes) = (0, 0) })
                var short = good
                short.parts[0].removeLast(world.table.manifest.layout.recordBytes * 150)
                try await fails(4, with: "", short)
                var damaged = good
                damaged.parts[0][good.manifest.layout.targetOffset] = 200
                try await fails(5, with: "has the code 200", damaged)
                try await fails(6, with: "row_data has 3 bytes", good, data: Data([1, 2, 3]))
                await server.serve(good)
                try await server.send(.train(world.train(session: "next")))
                try await eventually("the next work is done") { await server.dones.last?.sessionId == "next" }
            }
        }
    }

    @Test
    func `stops at its time limit with what it has done`() async throws {
        try await withWorld { world in
            let server = world.server
            try await world.withPeer {
                var command = world.train(epochs: 10_000_000)
                command.plan.timeLimit = 0.2
                try await server.send(.train(command))
                try await eventually("it is done", within: .seconds(10)) { await server.dones.count == 1 }
                let results = try #require(await server.dones.first?.results)
                #expect(results.samples > 0 && results.epochs < 10_000_000)
                #expect(results.samples >= results.epochs * world.schema.trainingRows)
            }
        }
    }

    /// Steps are batches: within the last epoch, exactly there, and the part has a heartbeat.
    @Test(arguments: [1, 3, 25]) func `stops after so many steps`(batches: Int) async throws {
        try await withWorld { world in
            let server = world.server
            try await world.withPeer {
                let rows = world.schema.trainingRows
                let ofEpoch = (rows + 6) / 7
                let epochs = (batches + ofEpoch - 1) / ofEpoch
                var command = world.train(epochs: epochs)
                (command.options.batchSize, command.plan.steps) = (7, batches)
                try await server.send(.train(command))
                try await eventually("it is done") { await server.dones.count == 1 }
                let results = try #require(await server.dones.first?.results)
                let (whole, rest) = (batches / ofEpoch, batches % ofEpoch)
                #expect(results.epochs == whole && results.samples == whole * rows + min(rows, rest * 7))
                #expect(await server.heartbeats.map(\.epoch) == Array(1...epochs))
            }
        }
    }

    @Test(arguments: [nil, OptimizerMemory.reset, .keep])
    func `an optimizer that is kept goes on from round to round of its session, and only of that`(memory: OptimizerMemory?) async throws {
        try await withWorld { world in
            let server = world.server
            try await world.withPeer {
                // Without a step that moves them, both rounds begin with the weights that the seed means.
                func command(_ round: Int, session: String = "s") -> TrainCommand {
                    var command = world.train(session: session, round: round, epochs: 1)
                    command.options.optimizer = OptimizerSpec(name: .adam)
                    command.plan.optimizerState = memory
                    command.update?.url = "/objects/\(session)-\(round)?signature=2"
                    return command
                }
                for (count, next) in [command(0), command(1), command(1, session: "t")].enumerated() {
                    try await server.send(.train(next))
                    try await eventually("so many rounds are done: \(count + 1)") { await server.dones.count == count + 1 }
                }
                func weights(_ name: String) async throws -> [Float] {
                    try Weights.decode(try #require(await server.objects["/objects/\(name)"]), spec: world.spec)
                }
                let (first, second, other) = (try await weights("s-0"), try await weights("s-1"), try await weights("t-1"))
                // The same by the engine alone.
                let csv = "\(world.folder)/same.csv", table = "\(world.folder)/same.table"
                try Data(world.csv).write(to: URL(filePath: csv))
                try TableLoader.build(csvAt: csv, schema: world.schema, cacheAt: table) { true }
                let data = try TableLoader.open(cacheAt: table)
                let model = try NativeEngine(threads: 1).makeModel(world.spec)
                func train(_ round: Int, keeps: Bool) throws -> [Float] {
                    try model.load(parameters: initialParameters(world.spec, seed: 3), keepsOptimizer: keeps)
                    var order = EpochOrder(
                        dealt(data.trainingRows, seed: 5), of: data, batchSize: 8, seed: 7, round: round, epoch: 0)
                    while let rows = order.next() {
                        _ = try model.train(on: data, rows: rows, options: command(round).options, shouldContinue: { true })
                    }
                    return try model.parameters()
                }
                #expect(try train(0, keeps: false) == first)
                #expect(try train(1, keeps: memory == .keep) == second)
                #expect(try train(1, keeps: false) == other && (second == other) == (memory != .keep))
            }
        }
    }

    @Test
    func `takes each epoch's learning rate from the schedule`() async throws {
        try await withWorld { world in
            let server = world.server
            try await world.withPeer {
                var command = world.train(epochs: 1)
                command.options.learningRate = 0.004
                // Epoch 1 of 2: half.
                command.plan.lrSchedule = SchedulePosition(name: .linear, epoch: 1, epochs: 2)
                try await server.send(.train(command))
                try await eventually("it is done") { await server.dones.count == 1 }
                let scheduled = try #require(await server.objects["/objects/u-0"])
                command.work.attempt = command.work.attempt + 1
                command.plan.lrSchedule = nil
                command.options.learningRate = 0.002
                try await server.send(.train(command))
                try await eventually("it is done again") { await server.dones.count == 2 }
                #expect(await server.objects["/objects/u-0"] == scheduled)
                command.work.attempt = command.work.attempt + 1
                command.options.learningRate = 0.004
                try await server.send(.train(command))
                try await eventually("it is done with the whole rate") { await server.dones.count == 3 }
                #expect(await server.objects["/objects/u-0"] != scheduled)
            }
        }
    }

    @Test
    func `waits for a server that is not there yet, and ends when its token is refused`() async throws {
        try await withWorld { world in
            let server = world.server
            await server.refuse(registrations: [
                ScriptedServer.Refusal(status: .serviceUnavailable, code: "unavailable"),
                ScriptedServer.Refusal(status: .badGateway, code: "unavailable"),
            ])
            try await world.withPeer {
                try await eventually("it registers") { await server.registrations.count == 1 }
            }
            var refused = world.configuration
            refused.token = "revoked"
            let peer = try Peer(configuration: refused, http: world.http, transport: overHTTP, logger: silent) { NativeEngine(threads: 1) }
            let error = await #expect(throws: CohortError.self) { try await peer.run() }
            #expect(error?.code == .unauthenticated)
            #expect(error?.message.contains("cohort token") == true)
        }
    }

    @Test
    func `is refused on a folder that another peer has`() async throws {
        try await withWorld { world in
            try await world.withPeer {
                try await eventually("it registers") { await world.server.registrations.count == 1 }
                let error = await #expect(throws: CohortError.self) {
                    try await Peer(
                        configuration: world.configuration, http: world.http, transport: overHTTP, logger: silent,
                        engine: { NativeEngine(threads: 1) }
                    ).run()
                }
                #expect(error?.code == .conflict)
                #expect(error?.message.contains("another peer is running on the data folder") == true)
            }
            // The lock has gone with the peer.
            _ = try PeerFolder(path: "\(world.folder)/peer")
        }
    }

    @Test
    func `measures itself once, keeps its identity, and does not overwrite a damaged record`() async throws {
        try await withWorld { world in
            let path = "\(world.folder)/peer/peer.json"
            for _ in 0..<2 {
                // It listens once it has written down who it is.
                let before = await world.server.openings.count
                try await world.withPeer { try await eventually("it listens") { await world.server.openings.count > before } }
            }
            let registrations = await world.server.registrations
            #expect(registrations.map(\.id) == [nil, ScriptedServer.peerId])
            #expect(registrations[0].capabilities.samplesPerSecond == registrations[1].capabilities.samplesPerSecond)

            try Data("{".utf8).write(to: URL(filePath: path))
            let error = await #expect(throws: CohortError.self) {
                try await Peer(
                    configuration: world.configuration, http: world.http, transport: overHTTP, logger: silent,
                    engine: { NativeEngine(threads: 1) }
                ).run()
            }
            #expect(error?.message.contains("move it away") == true)
            #expect(contents(of: path) == Array("{".utf8))
        }
    }
}
