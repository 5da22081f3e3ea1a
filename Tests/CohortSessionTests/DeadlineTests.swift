import CohortCore
import CohortSession
import CohortStrategies
import CohortWire
import FoundationEssentials
import Testing

/// Slow peers, silent ones, and how much each is dealt.
@Suite struct DeadlineTests {
    @Test func `a slow peer is left out after the deadline, gets a smaller share, and rises again when it is fast`() throws {
        var stage = Stage(rounds: 9)
        stage = stage.started()
        let speed = try #require(stage.place("c")?.speed)
        stage.now += 1
        for name in ["a", "b", "c"] { stage.done(name) }
        stage.aggregated()
        stage.now += 1
        stage.done("a")
        stage.done("b")
        stage.now += 4
        stage.send(.tick)
        #expect(!stage.aggregates, "five seconds of grace")
        stage.now += 3
        stage.send(.tick)
        #expect(stage.aggregates && stage.place("c")?.speed == speed / 2)
        stage.send(.done(stage.doneEvent("c"), norm: 1, measured: nil))
        #expect(stage.place("c")?.answer == nil, "late is late")
        // It trains as fast as the others from now on: a sample takes all of them as long.
        for _ in 0..<5 {
            stage.aggregated()
            for name in ["a", "b", "c"] {
                var event = stage.doneEvent(name)
                event.results.samples = stage.place(name)?.rowCount ?? 0
                event.results.seconds = Double(event.results.samples) / 10
                stage.send(.done(event, norm: 1, measured: nil))
            }
        }
        #expect(try #require(stage.place("c")?.speed) == speed, "what it shows counts, not what it once missed")
    }

    /// 321 rows and one peer that is 200 times slower: its share is a row or two.
    @Test func `a batch larger than a share is that peer's smaller batch, and is noted once`() throws {
        var stage = Stage(rounds: 3, change: { $0.batchSize = 32 })
        stage.machine = SessionMachine(
            {
                var session = stage.session
                session.peers[2].speed = session.peers[0].speed / 200
                return session
            }(), strategy: FedAvg(), rules: .init())
        stage.prepare()
        stage.enable(["a", "b"])
        stage.enable(["c"])
        #expect(stage.session.status == .running && stage.trained == ["a", "b", "c"])
        let share = try #require(stage.place("c")?.rowCount)
        #expect((1...2).contains(share))
        #expect(stage.words.contains("batch_size 32 is larger than c's share of \(share) row"), "\(stage.words)")
        for name in ["a", "b", "c"] { stage.done(name) }
        stage.aggregated()
        #expect(!stage.words.contains("c's share"), "once")
    }

    @Test func `many small shares are one note`() {
        var stage = Stage(rounds: 3, change: { $0.batchSize = 32 })
        stage.prepare()
        stage.enable(["a", "b", "c"])
        let notes = stage.actions.notices.filter { $0.message.contains("batch_size") }
        #expect(notes.count == 1 && notes[0].message.contains("a, b, c") && notes[0].message.contains("30 rows each"), "\(stage.words)")
    }

    @Test func `three late rounds, ten, a hundred: a session goes on`() {
        var stage = Stage(rounds: 200, change: { $0.batchSize = 32 })
        stage = stage.started()
        for _ in 0..<100 {
            stage.now += 1
            for name in ["a", "b"] where stage.place(name)?.state == .training { stage.done(name) }
            stage.now += 20
            stage.send(.tick)
            #expect(stage.session.status == .running, "\(stage.session.error ?? "")")
            stage.aggregated()
        }
        #expect(stage.session.round == 100)
    }

    @Test func `a lid that is closed for many rounds is reported once, and again when it is closed again`() {
        var stage = Stage(rounds: 200, change: { $0.batchSize = 8 })
        stage = stage.started()
        var told: [Int] = []
        for round in 0..<8 {
            stage.now += 1
            // c answers in the first round and in the fifth.
            for name in round == 0 || round == 4 ? ["a", "b", "c"] : ["a", "b"] { stage.done(name) }
            stage.now += 20
            stage.send(.tick)
            if stage.words.contains("c was too late") { told.append(round) }
            stage.aggregated()
        }
        #expect(told == [1, 5])
        #expect(stage.session.round == 8)
    }

    @Test func `a machine that slept has its share back a few rounds after it wakes, and one that is slow has not`() throws {
        for isSlow in [false, true] {
            var stage = Stage(rounds: 200, change: { $0.batchSize = 1 })
            stage = stage.started()
            let speed = try #require(stage.place("c")).speed
            func round(lateIs late: Bool) {
                stage.now += 1
                for name in late ? ["a", "b"] : ["a", "b", "c"] {
                    // Too short to measure a machine by.
                    var event = stage.doneEvent(name)
                    event.results.seconds = 0.01
                    stage.send(.done(event, norm: 1, measured: nil))
                }
                if late {
                    stage.now += 20
                    stage.send(.tick)
                }
                stage.aggregated()
            }
            round(lateIs: false)
            for _ in 0..<6 { round(lateIs: true) }
            #expect(try #require(stage.place("c")).speed <= speed / 60)
            var rounds = 0
            while rounds < 12, try #require(stage.place("c")).speed < speed {
                // A slow one is in time with a sixteenth of the rows, and late with more.
                let isLate = try isSlow && #require(stage.place("c")).speed > speed / 10
                round(lateIs: isLate)
                rounds += 1
            }
            if isSlow {
                #expect(try #require(stage.place("c")).speed < speed / 2, "it is not given more again and again")
            } else {
                #expect(rounds <= 4, "\(rounds)")
                #expect(stage.place("c")?.speedBeforeLate == nil && stage.place("c")?.isRegaining == nil)
            }
        }
    }

    @Test func `the first fast answer closes no round`() {
        var stage = Stage(peers: ["a", "b", "c", "d", "e"])
        stage = stage.started()
        stage.done("a")
        stage.now += 50
        stage.send(.tick)
        #expect(!stage.aggregates && stage.machine.timeLimit(at: stage.moment) == nil)
        stage.done("b")
        stage.send(.tick)
        #expect(!stage.aggregates, "two of five are fewer than half")
    }

    @Test(arguments: ["fedavg", "independent"]) func `a peer that beats but gives no sign of work is left out, and the session ends`(
        name: String
    ) throws {
        var stage = Stage(rounds: 2, change: { $0.minPeers = 3 })
        let strategy: any Strategy = name == "fedavg" ? FedAvg() : Independent()
        stage.machine = SessionMachine(stage.session, strategy: strategy, rules: .init())
        stage = stage.started()
        stage.done("a")
        stage.done("b")
        stage.now += 20
        stage.send(.tick)
        #expect(try #require(stage.session.waitingFor).contains("c"), "it says whom it waits for: \(stage.session.waitingFor ?? "nothing")")
        stage.now += 50
        stage.send(.tick)
        #expect(stage.aggregates)
        if name == "independent" {
            #expect(stage.place("c")?.state == .failed && stage.place("c")?.message?.contains("no progress for 70 s") == true)
            stage.aggregated()
            #expect(stage.concludes != nil)
            return
        }
        #expect(stage.place("c")?.state == .ready, "once is forgiven")
        stage.aggregated()
        #expect(stage.trained == ["a", "b", "c"])
        stage.done("a")
        stage.done("b")
        stage.now += 70
        stage.send(.tick)
        #expect(stage.place("c")?.state == .failed && stage.stopped == ["c"], "twice is not")
        stage.aggregated()
        // min_peers are not there any more, but the model is.
        #expect(stage.concludes?.0.key == "w1")
    }

    @Test func `signs of work keep a peer in a round however long it takes; patience grows with the gaps that were seen`() {
        var stage = Stage(change: { $0.epochs = 100 })
        stage = stage.started()
        for _ in 0..<1_000 {
            stage.now += 59
            stage.send(.progress(ProgressEvent(sessionId: "s", peerId: "a", generation: 1, phase: .training, progress: 0.5)))
            for name in ["b", "c"] {
                stage.send(.progress(ProgressEvent(sessionId: "s", peerId: name, generation: 1, phase: .loading, progress: 0.5)))
            }
        }
        #expect(stage.session.peers.allSatisfy { $0.state == .training })
        stage.now += 4 * 59 - 1
        stage.send(.tick)
        #expect(stage.session.peers.allSatisfy { $0.state == .training }, "four times the longest gap")
        stage.now += 2
        stage.send(.tick)
        #expect(stage.session.peers.allSatisfy { $0.state != .training } || stage.session.peers.allSatisfy { $0.misses == 1 })
    }

    @Test func `a declared speed without bound gets a bounded share, and speeds never leave their bounds`() throws {
        for rate in [1e308, .infinity, .nan, -1, 0, .leastNonzeroMagnitude, 1e12] {
            var stage = Stage(peers: ["a", "b", "c", "d"])
            var peer = Stage.peer("z")
            peer.capabilities.samplesPerSecond = rate
            var session = stage.session
            session.peers[3] = SessionPeer(peer)
            stage.machine = SessionMachine(session, strategy: FedAvg(), rules: .init())
            stage.prepare()
            stage.enable(["a", "b", "c", "z"])
            let rows = stage.session.peers.map(\.rowCount)
            #expect(rows.reduce(0, +) == 90 && rows[3] <= 66 && rows[0] >= 8, "\(rate): \(rows)")
            #expect(throws: Never.self) { try CohortJSON.encode(stage.session) }
        }
    }
}
