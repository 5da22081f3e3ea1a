import Testing

@testable import CohortCoordinator

/// When faults of a store or a broker end a session.
@Suite struct FaultsTests {
    private func progress(round: Int, stores: Int, at seconds: Double) -> Faults.Progress {
        Faults.Progress(round: round, stores: stores, at: seconds)
    }

    @Test func `faults in a row end the session, whatever their texts are`() {
        for texts in [["away"], ["away", "full"], (0..<30).map { "request \($0) failed" }] {
            var faults = Faults(limit: 20)
            for number in 0..<20 {
                #expect(faults.fatal == nil, "\(texts.count): fault \(number)")
                faults.begin(at: progress(round: 3, stores: 1, at: Double(number)))
                faults.add(texts[number % texts.count], at: progress(round: 3, stores: 1, at: Double(number)))
            }
            #expect(faults.fatal?.contains("could not go on after 20 tries") == true)
        }
    }

    @Test func `a hiccup an hour never ends a session, nor one a round`() {
        var (hourly, eachRound) = (Faults(limit: 20), Faults(limit: 20))
        for number in 0..<200 {
            let at = Double(number) * 3_600
            hourly.begin(at: progress(round: 0, stores: number, at: at))
            hourly.add("away", at: progress(round: 0, stores: number + 9, at: at + 3_600))
            eachRound.begin(at: progress(round: number, stores: number, at: Double(number)))
            eachRound.add("away", at: progress(round: number + 1, stores: number + 1, at: Double(number)))
            #expect(hourly.fatal == nil && eachRound.fatal == nil)
        }
    }

    @Test func `a call that blocks for minutes and stores nothing is no recovery`() {
        var faults = Faults(limit: 3)
        for number in 0..<3 {
            faults.begin(at: progress(round: 0, stores: 1, at: Double(number) * 600))
            faults.add("away", at: progress(round: 0, stores: 1, at: Double(number) * 600 + 300))
        }
        #expect(faults.fatal != nil)
    }
}
