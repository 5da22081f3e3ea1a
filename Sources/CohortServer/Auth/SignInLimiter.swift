import Synchronization

/// Slows down guessing. An attempt is counted when it begins, by account and network: after ten failures from one network, further attempts at that
/// account wait, longer with each. Other accounts, and the account's owner elsewhere, are not held up.
final class SignInLimiter: Sendable {
    private struct Attempts {
        var failures = 0
        /// Attempts that have begun and not ended.
        var open = 0
        /// No attempt before this.
        var notBefore: ContinuousClock.Instant
        var last: ContinuousClock.Instant
    }

    private let attempts = Mutex<[String: Attempts]>([:])
    private let free: Int
    private let first: Duration
    private let longest: Duration
    private let memory: Duration
    private static let maxKeys = 10_000

    /// - Parameters:
    ///   - free: the failures after which attempts wait.
    ///   - first: the first wait; each further one is twice as long.
    ///   - longest: the longest wait, unless the first is longer.
    ///   - memory: how long failures are remembered after the last.
    init(
        free: Int = 10, first: Duration = .seconds(1), longest: Duration = .seconds(300), memory: Duration = .seconds(900)
    ) {
        self.free = free
        self.first = first
        self.longest = max(first, longest)
        self.memory = memory
    }

    /// Counts an attempt. Each that is let through ends with ``failed(account:network:now:)`` or ``succeeded(account:network:)``.
    /// - Returns: how long to wait instead; nil: it is let through.
    func begin(account: String, network: String, now: ContinuousClock.Instant = .now) -> Duration? {
        attempts.withLock { attempts in
            if attempts.count >= Self.maxKeys { forget(&attempts, now) }
            let key = "\(network) \(account)"
            var found = attempts[key] ?? Attempts(notBefore: now, last: now)
            if found.open == 0, now >= found.last + memory { found = Attempts(notBefore: now, last: now) }
            if found.failures + found.open >= free {
                if now < found.notBefore { return found.notBefore - now }
                // One at a time from here on.
                if found.open > 0 { return .seconds(1) }
            }
            found.open += 1
            attempts[key] = found
            return nil
        }
    }

    func failed(account: String, network: String, now: ContinuousClock.Instant = .now) {
        attempts.withLock { attempts in
            let key = "\(network) \(account)"
            var found = attempts[key] ?? Attempts(notBefore: now, last: now)
            found.open = max(0, found.open - 1)
            found.failures += 1
            found.last = now
            if found.failures >= free {
                let wait = first * (1 << min(found.failures - free, 20))
                found.notBefore = now + min(wait, longest)
            }
            attempts[key] = found
        }
    }

    /// The failures before it are forgotten.
    func succeeded(account: String, network: String) {
        attempts.withLock { attempts in
            let key = "\(network) \(account)"
            guard var found = attempts[key] else { return }
            found.open = max(0, found.open - 1)
            found.failures = 0
            attempts[key] = found.open > 0 ? found : nil
        }
    }

    /// An attempt that could not be made: it counts as none.
    func cancelled(account: String, network: String) {
        attempts.withLock { attempts in
            let key = "\(network) \(account)"
            guard var found = attempts[key] else { return }
            found.open = max(0, found.open - 1)
            attempts[key] = found.open > 0 || found.failures > 0 ? found : nil
        }
    }

    private func forget(_ attempts: inout [String: Attempts], _ now: ContinuousClock.Instant) {
        attempts = attempts.filter { $0.value.open > 0 || now < $0.value.last + memory }
        // Those with the fewest failures first: a guesser's are the ones to keep.
        for (key, _) in attempts.filter({ $0.value.open == 0 }).sorted(by: { $0.value.failures < $1.value.failures })
            .prefix(max(0, attempts.count - Self.maxKeys + 1))
        {
            attempts[key] = nil
        }
    }
}

/// Limits the number of requests per minute, for each key.
final class RateLimiter: Sendable {
    private struct Bucket {
        var left: Double
        var at: ContinuousClock.Instant
    }

    private let buckets = Mutex<[String: Bucket]>([:])
    private let perMinute: Double
    private let burst: Double

    init(perMinute: Int, burst: Int) {
        self.perMinute = Double(perMinute)
        self.burst = Double(burst)
    }

    /// - Returns: how long to wait; nil: it is one of those.
    func acquire(_ key: String, now: ContinuousClock.Instant = .now) -> Duration? {
        buckets.withLock { buckets in
            if buckets.count >= 10_000 {
                buckets = buckets.filter { (now - $0.value.at) / .seconds(60) * perMinute + $0.value.left < burst }
                if buckets.count >= 10_000 { buckets.removeAll() }
            }
            var bucket = buckets[key] ?? Bucket(left: burst, at: now)
            bucket.left = min(burst, bucket.left + (now - bucket.at) / .seconds(60) * perMinute)
            bucket.at = now
            guard bucket.left >= 1 else {
                buckets[key] = bucket
                return .seconds((1 - bucket.left) / perMinute * 60)
            }
            bucket.left -= 1
            buckets[key] = bucket
            return nil
        }
    }
}
