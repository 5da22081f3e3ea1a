import CohortCore
import CohortSession
import Testing

@Suite struct `Learning rate schedules` {
    private func factors(_ schedule: LearningRateSchedule, _ epochs: Int) -> [Double] {
        (0..<epochs).map { (schedule.factor(epoch: $0, of: epochs) * 1000).rounded() / 1000 }
    }

    @Test func `each has its curve`() {
        #expect(factors(.constant, 3) == [1, 1, 1])
        #expect(factors(.linear, 4) == [1, 0.75, 0.5, 0.25])
        #expect(factors(.cosine, 4) == [1, 0.854, 0.5, 0.146])
        #expect(factors(.decay, 9) == [1, 1, 1, 1, 1, 1, 1, 0.667, 0.333])
    }

    @Test(arguments: LearningRateSchedule.allCases) func `never rises, never reaches 0, begins with 1`(schedule: LearningRateSchedule) {
        for epochs in [1, 2, 3, 10, 1000] {
            let factors = (0..<epochs).map { schedule.factor(epoch: $0, of: epochs) }
            #expect(factors.first == 1 && factors.allSatisfy { $0 > 0 })
            #expect(zip(factors, factors.dropFirst()).allSatisfy { $0 >= $1 })
            // A round asked for again after the settings changed, or a number that was made up.
            #expect(schedule.factor(epoch: epochs + 5, of: epochs) == factors.last)
            #expect(schedule.factor(epoch: -1, of: epochs) == 1)
        }
        #expect(schedule.factor(epoch: 0, of: 0) == 1)
    }

    @Test func `runs over the epochs of all rounds`() {
        var settings = SessionSettings(rounds: 4, epochs: 2)
        #expect(settings.schedulePosition(round: 1, epochs: 2) == SchedulePosition(name: .decay, epoch: 2, epochs: 8))
        settings.lrSchedule = nil
        #expect(settings.schedulePosition(round: 1, epochs: 2)?.name == nil)
        settings.lrSchedule = .constant
        #expect(settings.schedulePosition(round: 1, epochs: 2)?.name == nil)
        settings.lrSchedule = .linear
        let factors = (0..<4).flatMap { round in
            (0..<2).compactMap { settings.schedulePosition(round: round, epochs: 2)?.factor(epoch: $0) }
        }
        #expect(factors == [1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])
    }
}
