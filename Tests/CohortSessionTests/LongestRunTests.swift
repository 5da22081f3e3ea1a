import CohortCore
import CohortSession
import CohortStrategies
import CohortWire
import FoundationEssentials
import Testing

/// No session holds its peers for longer than the server allows.
@Suite struct LongestRunTests {
    private func stage(rounds: Int, maxRunTime: Double, strategy: any Strategy = FedAvg()) -> Stage {
        var stage = Stage(rounds: rounds, strategy: strategy)
        stage.machine = SessionMachine(stage.session, strategy: strategy, rules: .init(maxRunTime: maxRunTime))
        return stage.started()
    }

    @Test func `a session ends with the round in which its time is up, and is measured`() throws {
        var stage = stage(rounds: 100_000, maxRunTime: 3_600)
        for round in 0..<3 {
            stage.now += round == 2 ? 3_600 : 10
            for name in ["a", "b", "c"] { stage.done(name) }
            stage.aggregated()
        }
        #expect(stage.words.contains("the session has trained for 3600 s, the most that this server allows"), "\(stage.words)")
        #expect(stage.words.contains("it ends after round 3 of 100000"))
        // The best weights that were measured, or a last look at those there are.
        #expect(stage.concludes != nil || stage.machine.isEvaluation)
        #expect(stage.session.status == .running)
    }

    @Test func `peers are asked to answer before the time is up, and one that does not delays no other`() throws {
        var stage = stage(rounds: 100_000, maxRunTime: 3_600)
        #expect(stage.machine.timeLimit(at: stage.moment) == 3_600)
        stage.now += 3_000
        #expect(stage.machine.timeLimit(at: stage.moment) == 600)
        stage.now += 590
        #expect(stage.machine.timeLimit(at: stage.moment) == 10)
        stage.now += 100
        #expect(stage.machine.timeLimit(at: stage.moment) == 5, "the shortest grace of a round")
        stage.send(.tick)
        #expect(stage.session.status == .running, "an answer may be on its way")
        stage.now += 360
        stage.send(.tick)
        #expect(stage.session.status == .failed && stage.ends)
        #expect(try #require(stage.session.error).contains("the most that this server allows (COHORT_LONGEST_RUN)"))
    }

    @Test(arguments: [0.0, 50]) func `a coordinator that takes over goes on counting`(away: Double) {
        var stage = stage(rounds: 100_000, maxRunTime: 100)
        stage.now += 60
        var other = Stage(rounds: 100_000)
        other.machine = SessionMachine(stage.session, strategy: FedAvg(), rules: .init(maxRunTime: 100))
        other.now = stage.now + away
        #expect(other.machine.timeLimit(at: other.moment) == max(40 - away, 5))
    }

    @Test func `without a limit nothing ends`() {
        var stage = stage(rounds: 2, maxRunTime: .infinity)
        stage.now += 1e9
        #expect(stage.machine.timeLimit(at: stage.moment) == nil)
        stage.done("a")
        #expect(stage.session.status == .running)
    }
}
