import CohortAPI
import CohortClient
import CohortCore
import CohortPeer
import CohortSession
import CohortTraining
import CohortWire
import FoundationEssentials
import Glibc
import Logging
import Subprocess
import TestSupport
import Testing

extension SystemSuite {
    /// What a stranger's peer, a cut line and a full disk do to a running server.
    @Suite(.serialized) struct Harsh {
        @Test func `a peer with invalid updates is refused three times, then left out, and the model is none the worse`() async throws {
            try await withWorld { world in
                // The liar lives in this process, which other tests keep busy: it is not to be taken for dead.
                let server = try await world.server(environment: ["COHORT_SUSPECT_AFTER": "60", "COHORT_DEAD_AFTER": "120"])
                let person = try await world.person(server)
                _ = try await world.peers(2, of: server, for: person)
                let token = try #require(try await person.createToken().token)
                let liar = LyingPeer(client: try CohortClient(server: ServerURL(server.url), token: token, http: world.http))
                let settings = SessionSettings(peers: 3, rounds: 3, epochs: 10, batchSize: 8, lr: 0.01, hidden: [8], seed: 5)
                try await withThrowingTaskGroup(of: Void.self) { group in
                    let registered = try await liar.register()
                    group.addTask { try await liar.run(registered) }
                    try await eventually("it is online") { try await person.peers().count { $0.status == .online } == 3 }
                    let started = try await person.startSession(settings, file: try world.blobs(rows: 900))
                    let status = try await person.final(started.sessionId)
                    #expect(status.status == .completed, "\(status.error ?? "")")
                    let results = try await person.results(id: started.sessionId)
                    let place = try #require(results.peers.first { $0.name == "liar" })
                    #expect(place.state == .failed)
                    #expect(try #require(place.message).contains("SHA-256"), "the reason of the last try: \(place.message ?? "")")
                    #expect(try #require(results.metrics.accuracy) > 0.9)
                    group.cancelAll()
                }
                let said = server.process.standardError
                #expect(said.contains("nan at parameter 0"), "NaN is refused")
                #expect(said.contains("'0.weight' of shape [3, 4]"), "another shape is refused")
            }
        }

        @Test func `a client killed half way through its upload leaves nothing, and no peer locked`() async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                _ = try await world.peers(1, of: server, for: person)
                let csv = "\(world.folder)/large.csv"
                try Faults.writeLarge(csv, megabytes: 64)
                // The network stops in the middle, so that the kill does not depend on how fast the upload is.
                let relay = try HoldingRelay(to: server.port, holdingAfter: 32 << 20)
                defer { relay.close() }
                let url = "http://127.0.0.1:\(relay.port)"
                let login = world.start("login", ["login", "--server", url, "--email", "ada@example.org", "--password", "correct horse"])
                #expect(try await login.end() == .exited(0), "\(login.standardError)")
                let client = world.start("client", ["train", csv, "--peers", "1"])
                let uploads = "\(world.folder)/server/objects/.tmp"
                // The client reads all of the file before it sends it.
                try await eventually("the network has stopped: \(client.standardError)", within: .seconds(240)) { relay.isHeld }
                try await eventually("half of it is there") {
                    try FileManager.default.contentsOfDirectory(atPath: uploads).contains {
                        (try FileManager.default.attributesOfItem(atPath: "\(uploads)/\($0)")[.size] as? Int ?? 0) > 16 << 20
                    }
                }
                try await client.send(SIGKILL)
                relay.close()
                try await eventually("the part is gone") { try FileManager.default.contentsOfDirectory(atPath: uploads).isEmpty }
                #expect(try await person.sessions().isEmpty)
                #expect(try await person.peers().allSatisfy { $0.status == .online })
            }
        }

        @Test(.enabled(if: SmallDisk.isPossible, SmallDisk.reason))
        func `a full disk under the server is reported, nothing is lost, and the session goes on when there is room`() async throws {
            try await withWorld { world in
                let disk = try SmallDisk(at: "\(world.folder)/server", kilobytes: 24 << 10)
                defer { disk.unmount() }
                let server = try await world.server()
                let person = try await world.person(server)
                let peers = try await world.peers(2, of: server, for: person)

                let csv = "\(world.folder)/large.csv"
                try Faults.writeLarge(csv, megabytes: 40)
                do {
                    _ = try await person.startSession(SessionSettings(peers: 2), file: csv)
                    Issue.record("40 MB were stored on a disk of 24 MB")
                } catch let error as CohortError {
                    #expect(error.code == .storageFull && error.message.contains("disk is full"), "\(error)")
                }
                #expect(try await person.sessions().isEmpty)
                #expect(try await person.peers().allSatisfy { $0.status == .online })

                let settings = SessionSettings(peers: 2, rounds: 6, epochs: 4, batchSize: 8, lr: 0.01, hidden: [16], seed: 5)
                let point = try await world.points.hold(.midEpoch, of: peers[0], round: 1)
                let started = try await person.startSession(settings, file: try world.blobs(rows: 300))
                let held = try await world.points.reached(point)
                try disk.fill()
                held.release()
                try await eventually("the server says it") { server.process.standardError.contains("full") }
                #expect(try await person.trainingStatus(id: started.sessionId).status == .running, "reading goes on")
                try disk.makeRoom()
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let rows = try #require(try await person.results(id: started.sessionId).rows)
                #expect(rows.least == 24 && rows.most == 24, "6 rounds of 4 epochs, none lost, none twice: \(rows)")
            }
        }
    }
}

/// Speaks the protocol, and answers every TRAIN with an invalid update: NaN, then another shape, then bytes of another hash.
private struct LyingPeer {
    let client: CohortClient

    func register() async throws -> API.Registered {
        try await client.register(
            API.Registration(
                id: nil, name: "liar",
                capabilities: PeerCapabilities(
                    cores: 1, memoryBytes: 1 << 30, engine: "native", device: "cpu", samplesPerSecond: 1e6, platform: "test", version: "1"))
        )
    }

    func run(_ registered: API.Registered) async throws {
        let id = registered.peerId
        let client = client.authenticated(by: registered.credential)
        let transport = HTTPPeerTransport(
            client: client, registered: registered, logger: Logger(label: "liar") { _ in SwiftLogNoOpLogHandler() })
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await transport.run() }
            var tries = 0
            for try await received in try await transport.commands() {
                try await received.accept()
                switch try CohortJSON.decode(Command.self, from: received.body) {
                case .enable(let command):
                    try await send(
                        .enabled(
                            EnabledEvent(sessionId: command.sessionId, peerId: id, generation: command.generation, capabilities: nil)),
                        through: transport)
                case .train(let command):
                    try await send(.done(try lie(tries, to: command, id)), through: transport)
                    tries += 1
                case .refused, .stop: break
                }
            }
            group.cancelAll()
        }
    }

    private func send(_ event: PeerEvent, through transport: HTTPPeerTransport) async throws {
        do {
            try await transport.send([event], to: .events(sessionId: event.sessionId))
        } catch let error as CohortError where error.code == .conflict {
            // Refused for good, as it should be.
        }
    }

    private func lie(_ number: Int, to command: TrainCommand, _ id: String) throws -> DoneEvent {
        var spec = command.start.model
        var parameters = initialParameters(spec, seed: 1)
        if number == 0 { parameters[0] = .nan }
        if number == 1 {
            spec = ModelSpec(inputs: 4, hidden: [3], outputs: 3, task: .classification)
            parameters = initialParameters(spec, seed: 1)
        }
        let layout = WeightsLayout(spec, streams: command.updateLayout.streams)
        let bytes = try Weights.encode(layout, layout.values(parameters, nil))
        let hash = String(repeating: "0", count: 64)
        return DoneEvent(
            sessionId: command.work.sessionId, peerId: id, generation: command.work.generation, round: command.work.round,
            results: DoneResults(loss: 1, accuracy: 0, samples: 1, epochs: 1, seconds: 1),
            update: ObjectReference(key: command.update?.key ?? "", sha256: hash, bytes: bytes.count), updateData: Data(bytes))
    }
}
