import Synchronization

/// Slows down guessing: after some failures of one e-mail address from one place, or of one place, further attempts wait.
final class SignInLimiter: Sendable {
    private struct Failures {
        var count: Int
        var since: ContinuousClock.Instant
    }

    private let failures = Mutex<[String: Failures]>([:])
    private let window: Duration
    private let perAccount: Int
    private let perAddress: Int

    init(window: Duration = .seconds(300), perAccount: Int = 10, perAddress: Int = 100) {
        self.window = window
        self.perAccount = perAccount
        self.perAddress = perAddress
    }

    /// How long to wait before the next attempt; nil: go on.
    func wait(email: String, address: String, now: ContinuousClock.Instant = .now) -> Duration? {
        failures.withLock { failures in
            keys(email, address).compactMap { key, limit in
                guard let found = failures[key], found.count >= limit, now < found.since + window else { return nil }
                return found.since + window - now
            }.max()
        }
    }

    func failed(email: String, address: String, now: ContinuousClock.Instant = .now) {
        failures.withLock { failures in
            if failures.count > 10_000 { failures = failures.filter { now < $0.value.since + window } }
            for (key, _) in keys(email, address) {
                if let found = failures[key], now < found.since + window {
                    failures[key] = Failures(count: found.count + 1, since: found.since)
                } else {
                    failures[key] = Failures(count: 1, since: now)
                }
            }
        }
    }

    func succeeded(email: String, address: String) {
        failures.withLock { $0[keys(email, address)[0].key] = nil }
    }

    private func keys(_ email: String, _ address: String) -> [(key: String, limit: Int)] {
        [("\(address) \(email)", perAccount), (address, perAddress)]
    }
}
