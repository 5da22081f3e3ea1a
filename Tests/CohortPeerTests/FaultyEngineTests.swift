import AsyncHTTPClient
import CohortClient
import CohortCore
import CohortSession
import CohortTraining
import CohortWire
import FoundationEssentials
import Logging
import PeerTestSupport
import ServiceLifecycle
import Synchronization
import TestSupport
import Testing

@testable import CohortPeer

/// Whatever goes wrong at whichever step of its work, a peer reports it and goes on.
@Suite(.serialized)
struct FaultyEngineTests {
    /// What the faulty call does.
    enum Fault: CaseIterable {
        case throwsForeignError, throwsInternal, givesNaN
    }

    /// Counts the calls of an engine, and spoils one of them.
    final class Plan: Sendable {
        private let state: Mutex<(count: Int, names: [String])> = Mutex((0, []))
        let at: Mutex<Int?>
        let fault: Mutex<Fault>

        init() {
            at = Mutex(nil)
            fault = Mutex(.throwsForeignError)
        }

        var count: Int { state.withLock { $0.count } }
        var names: [String] { state.withLock { $0.names } }

        /// Counts from 0 again, and spoils the call of this number.
        func begin(at number: Int?, _ fault: Fault) {
            state.withLock { $0 = (0, []) }
            at.withLock { $0 = number }
            self.fault.withLock { $0 = fault }
        }

        struct Foreign: Error {}

        /// - Returns: whether the call's numbers become NaN.
        func call(_ name: String) throws -> Bool {
            let number = state.withLock { state in
                state.count += 1
                state.names.append(name)
                return state.count - 1
            }
            guard at.withLock({ $0 }) == number else { return false }
            switch fault.withLock({ $0 }) {
            case .throwsForeignError: throw Foreign()
            case .throwsInternal: throw CohortError(.internal, "as the test says")
            case .givesNaN: return true
            }
        }
    }

    private struct Engine: TrainingEngine {
        let native = NativeEngine(threads: 1)
        let plan: Plan
        var name: String { native.name }
        var device: String { native.device }

        func prepare(_ table: FeatureTable) throws -> any PreparedTable {
            _ = try plan.call("prepare")
            return try native.prepare(table)
        }

        func makeModel(_ spec: ModelSpec, module: [UInt8]?) throws -> any TrainableModel {
            _ = try plan.call("makeModel")
            return Model(model: try native.makeModel(spec, module: module), plan: plan)
        }

        func measureSamplesPerSecond(for seconds: Double) throws -> Double { 1_000 }
    }

    private final class Model: TrainableModel {
        let model: any TrainableModel
        let plan: Plan

        init(model: any TrainableModel, plan: Plan) {
            self.model = model
            self.plan = plan
        }

        var spec: ModelSpec { model.spec }

        private func spoil(_ values: [Float], _ name: String) throws -> [Float] {
            try plan.call(name) ? values.map { _ in .nan } : values
        }

        private func spoil(_ counts: Counts, _ name: String) throws -> Counts {
            guard try plan.call(name) else { return counts }
            var counts = counts
            counts.lossSum = .nan
            return counts
        }

        func parameters() throws -> [Float] { try spoil(model.parameters(), "parameters") }
        func load(parameters: [Float], keepsOptimizer: Bool) throws {
            _ = try plan.call("load")
            try model.load(parameters: parameters, keepsOptimizer: keepsOptimizer)
        }
        func optimizerState() throws -> OptimizerState {
            _ = try plan.call("optimizerState")
            return try model.optimizerState()
        }
        func load(optimizerState: OptimizerState) throws {
            _ = try plan.call("load optimizerState")
            try model.load(optimizerState: optimizerState)
        }
        func load(correction: [Float]?) throws {
            _ = try plan.call("correction")
            try model.load(correction: correction)
        }
        func train(
            on table: any PreparedTable, rows: [UInt32], options: TrainingOptions, shouldContinue: () -> Bool
        ) throws -> Counts {
            try spoil(model.train(on: table, rows: rows, options: options, shouldContinue: shouldContinue), "train")
        }
        func evaluate(on table: any PreparedTable, rows: ArraySlice<UInt32>, shouldContinue: () -> Bool) throws -> Counts {
            try spoil(model.evaluate(on: table, rows: rows, shouldContinue: shouldContinue), "evaluate")
        }
        func predict(_ features: [Float], rowCount: Int) throws -> [Float] { try model.predict(features, rowCount: rowCount) }
    }

    /// The work that a peer is asked for, each time of another session: nothing is kept from the one before.
    private struct Work: Sendable {
        let schema: TableSchema
        let table: ServedTable
        let spec: ModelSpec
        let weights: [UInt8]

        init(path: String) throws {
            let text = "x,y,kind\n" + (0..<60).map { "\($0 % 17),\($0 % 5),\($0 % 17 > 8 ? "high" : "low")\n" }.joined()
            try Data(text.utf8).write(to: URL(filePath: path))
            let finding = try SchemaInference.infer(csvAt: path, target: nil, task: nil, validation: 0.2, seed: 1)
            schema = finding.schema
            table = try ServedTable(csvAt: path, finding, seed: 5, folder: "/tmp")
            spec = ModelSpec(inputs: schema.featureCount, hidden: [4], outputs: schema.outputCount, task: .classification)
            weights = try Weights.encode(spec, initialParameters(spec, seed: 3))
        }

        func command(_ number: Int) -> Command {
            var command = TrainCommand(
                work: WorkKey(sessionId: "s\(number)", generation: 1, round: 1), csvLink: "s3://cohort/a.csv",
                table: table.link(isInline: true),
                start: StartingModel(model: spec, modelSeed: 3),
                plan: WorkPlan(rows: [RowRange(start: 0, end: schema.trainingRows)], epochs: 2),
                options: TrainingOptions(optimizer: OptimizerSpec(name: .sgd), batchSize: 8, learningRate: 0.05, dropoutSeed: 7),
                update: UpdateTarget(url: "/objects/u-\(number)?signature=2", key: "updates/s/u-\(number)"))
            command.start.weightsUrl = "/objects/w"
            command.start.weightsSha256 = sha256(weights)
            command.plan.validationRows = RowRange(start: 0, end: schema.validationRows)
            command.plan.evaluateAfter = true
            return .train(command)
        }
    }

    @Test
    func `reports an error at every call of its engine, and does the next work`() async throws {
        try await withFolder { folder in
            let work = try Work(path: "\(folder)/data.csv")
            let (scripted, plan) = (ScriptedServer(), Plan())
            await scripted.serve(work.table)
            await scripted.put(work.weights, at: "/objects/w")
            try await withHTTPServer { request in
                try await scripted.handle(request)
            } _: { url, http in
                let configuration = PeerConfiguration(
                    server: url, token: "join", name: "laptop", dataDirectory: "\(folder)/peer", threads: 1, version: "test")
                let peer = try Peer(
                    configuration: configuration, http: http, transport: overHTTP, logger: silent, engine: { Engine(plan: plan) })
                try await Self.spoilEveryCall(of: peer, by: scripted, plan: plan, work: work)
            }
        }
    }

    private static func spoilEveryCall(of peer: any Service, by scripted: ScriptedServer, plan: Plan, work: Work) async throws {
        let services = ServiceGroup(configuration: ServiceGroupConfiguration(services: [peer], logger: silent))
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await services.run() }
            let outcome: Result<Void, any Error>
            do { outcome = .success(try await spoilEachCall(scripted, plan: plan, work: work)) } catch { outcome = .failure(error) }
            await services.triggerGracefulShutdown()
            try await group.waitForAll()
            try outcome.get()
        }
    }

    private static func spoilEachCall(_ scripted: ScriptedServer, plan: Plan, work: Work) async throws {
        try await eventually("it listens") { await !scripted.openings.isEmpty }
        plan.begin(at: nil, .givesNaN)
        try await scripted.send(work.command(0))
        try await eventually("the first round is done") { await scripted.dones.count == 1 }
        let names = plan.names
        #expect(names.contains("train") && names.contains("evaluate") && names.contains("parameters"), "\(names)")
        var number = 1
        for fault in Fault.allCases {
            for call in names.indices where fault != .givesNaN || ["train", "evaluate", "parameters"].contains(names[call]) {
                plan.begin(at: call, fault)
                let (errors, dones) = (await scripted.errors.count, await scripted.dones.count)
                try await scripted.send(work.command(number))
                // What was made once is not made again: fewer calls may be made than before.
                try await eventually("call \(call), \(names[call]), \(fault) is reported") {
                    let (errorsNow, donesNow) = (await scripted.errors.count, await scripted.dones.count)
                    return errorsNow > errors || donesNow > dones
                }
                plan.begin(at: nil, fault)
                let before = await scripted.dones.count
                try await scripted.send(work.command(number + 1))
                try await eventually("the work after call \(call), \(names[call]), \(fault)") { await scripted.dones.count > before }
                number += 2
            }
        }
        #expect(await scripted.registrations.count == 1, "the peer never restarted")
        #expect(await scripted.errors.count >= names.count)
        #expect(await scripted.errors.allSatisfy { !$0.message.isEmpty })
    }
}
