import CohortCore
import CohortSession
import CohortStrategies
import CohortWire
import Testing

/// Settings that are chosen automatically.
@Suite struct WorkChoiceTests {
    private func choice(_ rows: Int, peers: Int, own: Bool = false, _ said: [String: String] = [:]) throws -> (Int, Int, Int) {
        var settings = SessionSettings.defaults(peers: peers, seed: 1)
        for (name, text) in said { try #require(SessionSetting.named(name)).set(text, in: &settings) }
        let choice = WorkChoice(settings, ofOwnModels: own, rows: rows, peers: peers)
        return (choice.rounds, choice.epochs, choice.batchSize)
    }

    @Test func `few rows, and more peers that share them, mean smaller batches and more rounds`() throws {
        #expect(try choice(100_000, peers: 1) == (10, 1, 32))
        #expect(try choice(100_000, peers: 8) == (10, 1, 32))
        #expect(try choice(1_437, peers: 1) == (10, 1, 32))
        #expect(try choice(1_437, peers: 3) == (27, 1, 32))
        #expect(try choice(1_437, peers: 8) == (34, 1, 16))
        #expect(try choice(120, peers: 1) == (27, 1, 8))
        #expect(try choice(120, peers: 3) == (80, 1, 8))
        #expect(try choice(120, peers: 8) == (100, 1, 8))
        #expect(try choice(3, peers: 8) == (100, 1, 8) && choice(0, peers: 0) == (100, 1, 8))
    }

    @Test func `rounds that close after some answers are more, for as many passes over the rows`() throws {
        func rounds(peers: Int, answers: Int, rows: Int = 100_000) -> Int {
            WorkChoice(SessionSettings.defaults(peers: peers, seed: 1), ofOwnModels: false, rows: rows, peers: peers, answers: answers)
                .rounds
        }
        #expect(
            rounds(peers: 8, answers: 8) == 10 && rounds(peers: 8, answers: 4) == 20 && rounds(peers: 8, answers: 1) == 80
                && rounds(peers: 3, answers: 2) == 15)
        #expect(
            rounds(peers: 8, answers: 3) == 27 && rounds(peers: 8, answers: 3, rows: 120) == 267 && rounds(peers: 2, answers: 9) == 10
                && rounds(peers: 0, answers: 0) == 10)
        var stage = Stage(peers: ["a", "b", "c", "d"], strategy: FedBuff()) { settings in
            settings = SessionSettings.defaults(peers: 4, seed: 1)
            settings.strategy = "fedbuff"
        }
        stage.prepare()
        #expect(stage.session.settings.rounds == 200)
        #expect(stage.words.contains("after 2 of 4 answers: 200 rounds are about 100 passes over the rows"))
    }

    @Test func `separate models have all rows, one round, and epochs for it`() throws {
        #expect(try choice(120, peers: 3, own: true) == (1, 27, 8))
        #expect(try choice(100_000, peers: 3, own: true) == (1, 10, 32))
        #expect(try choice(120, peers: 3, own: true, ["epochs": "7"]) == (1, 7, 8))
    }

    @Test func `given values stay, and count`() throws {
        #expect(try choice(120, peers: 3, ["rounds": "5"]) == (5, 1, 8))
        #expect(try choice(120, peers: 3, ["batch_size": "64"]) == (100, 1, 64))
        #expect(try choice(120, peers: 3, ["epochs": "10"]) == (10, 10, 8))
        #expect(try choice(120, peers: 1, ["epochs": "\(Int.max)"]).0 == 10)
        // All said, as code does that sets what it wants: nothing is chosen.
        let said = WorkChoice(SessionSettings(rounds: 3, epochs: 2, batchSize: 5), ofOwnModels: false, rows: 10, peers: 9)
        #expect(said.rounds == 3 && said.epochs == 2 && said.batchSize == 5)
    }

    @Test func `a session says what was chosen, trains by it, and notices have it`() throws {
        var stage = Stage(peers: ["a", "b", "c"]) { settings in
            settings = SessionSettings.defaults(peers: 3, seed: 1)
        }
        stage.prepare()
        #expect(stage.words.contains("Chosen for 90 rows on 3 machines: rounds 100, epochs 1, batch_size 8"))
        #expect(stage.session.settings.rounds == 100 && stage.session.settings.batchSize == 8)
        #expect(!stage.actions.notices.isEmpty && stage.actions.notices.allSatisfy { $0.rounds == 100 && $0.epochs == 1 })
        #expect(stage.session.settings.automatic == WorkChoice.names)

        var told = Stage(peers: ["a"]) { settings in
            settings = SessionSettings.defaults(peers: 1, seed: 1)
            settings.automatic = []
        }
        told.prepare()
        #expect(!told.words.contains("Chosen") && told.session.settings.rounds == 10)
    }
}
