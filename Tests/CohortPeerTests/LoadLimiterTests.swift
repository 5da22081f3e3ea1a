import Testing

@testable import CohortPeer

@Suite
struct LoadLimiterTests {
    private func busy(for duration: Duration) {
        let clock = ContinuousClock()
        let end = clock.now + duration
        while clock.now < end {}
    }

    @Test(arguments: [(25, 3.0), (50, 1.0), (80, 0.25)])
    func `pauses for at least as long as the share asks`(percent: Int, ratio: Double) {
        let limiter = LoadLimiter(percent: percent)
        let clock = ContinuousClock()
        limiter.begin()
        busy(for: .milliseconds(20))
        let before = clock.now
        limiter.pause { true }
        // A slow machine has worked for longer, and pauses for longer.
        #expect(clock.now - before >= .milliseconds(20) * ratio)
    }

    @Test
    func `does not pause at 100 percent, nor once the work is not wanted any more`() {
        var asked = 0
        let whole = LoadLimiter(percent: 100)
        busy(for: .milliseconds(5))
        whole.pause {
            asked += 1
            return true
        }
        #expect(asked == 0)
        let stopped = LoadLimiter(percent: 1)
        busy(for: .milliseconds(5))
        stopped.pause {
            asked += 1
            return false
        }
        #expect(asked == 1, "it asked once, and returned")
    }
}
