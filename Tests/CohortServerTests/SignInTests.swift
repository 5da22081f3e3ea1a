import CohortSystem
import Foundation
import Synchronization
import Testing

@testable import CohortServer

/// The keys in the order in which their work ran.
private final class Order: Sendable {
    private let state = Mutex<[String]>([])
    var keys: [String] { state.withLock { $0 } }
    func add(_ key: String) { state.withLock { $0.append(key) } }
}

@Suite struct SignInTests {
    private let now = ContinuousClock.now

    @Test func `attempts are counted when they begin, and waits grow`() {
        let limiter = SignInLimiter()
        for _ in 0..<10 { #expect(limiter.begin(account: "a", network: "n", now: now) == nil) }
        #expect(limiter.begin(account: "a", network: "n", now: now) != nil, "ten are open")
        for _ in 0..<10 { limiter.failed(account: "a", network: "n", now: now) }
        var waits: [Duration] = []
        var at = now
        for _ in 0..<12 {
            let wait = limiter.begin(account: "a", network: "n", now: at) ?? .zero
            waits.append(wait)
            at += wait
            #expect(limiter.begin(account: "a", network: "n", now: at) == nil, "after the wait one is let through")
            #expect(limiter.begin(account: "a", network: "n", now: at) != nil, "one at a time")
            limiter.failed(account: "a", network: "n", now: at)
        }
        #expect(waits.prefix(4) == [.seconds(1), .seconds(2), .seconds(4), .seconds(8)] && waits.last == .seconds(300), "\(waits)")
        #expect(limiter.begin(account: "b", network: "n", now: at) == nil, "another account of the network")
        #expect(limiter.begin(account: "a", network: "m", now: at) == nil, "the account from elsewhere")
        #expect(limiter.begin(account: "a", network: "n", now: at + .seconds(1_000)) == nil, "they are forgotten")
    }

    @Test func `a right password, and an attempt that could not be made, count as none`() {
        let limiter = SignInLimiter(free: 2)
        for _ in 0..<50 {
            #expect(limiter.begin(account: "a", network: "n", now: now) == nil)
            limiter.succeeded(account: "a", network: "n")
            #expect(limiter.begin(account: "a", network: "n", now: now) == nil)
            limiter.cancelled(account: "a", network: "n")
        }
    }

    @Test func `sign-ups are so many a minute`() {
        let limiter = RateLimiter(perMinute: 60, burst: 3)
        for _ in 0..<3 { #expect(limiter.acquire("n", now: now) == nil) }
        #expect(limiter.acquire("n", now: now) == .seconds(1))
        #expect(limiter.acquire("m", now: now) == nil)
        #expect(limiter.acquire("n", now: now + .milliseconds(1_001)) == nil)
        #expect(limiter.acquire("n", now: now + .milliseconds(1_002)) != nil)
    }

    @Test func `networks that ask take turns, however often one asks`() async throws {
        let lanes = FairLanes("test", count: 1, limitPerKey: 100, limit: 1_000)
        let order = Order()
        let (isHeld, release) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                try await lanes.run(for: "first") {
                    isHeld.signal()
                    release.wait()
                }
            }
            // The lane is held until all of these wait.
            await withCheckedContinuation { continuation in
                Thread.detachNewThread {
                    isHeld.wait()
                    continuation.resume()
                }
            }
            for key in Array(repeating: "flood", count: 50) + ["honest"] {
                group.addTask { try await lanes.run(for: key) { order.add(key) } }
            }
            while lanes.waitingCount < 51 { await Task.yield() }
            release.signal()
            try await group.waitForAll()
        }
        let place = try #require(order.keys.firstIndex(of: "honest"))
        #expect(place <= 1, "the honest one was number \(place)")
    }

    @Test func `a key that has too much waiting is refused, others are not`() async throws {
        let lanes = FairLanes("test", count: 1, limitPerKey: 2, limit: 1_000)
        let release = DispatchSemaphore(value: 0)
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for _ in 0..<20 {
                group.addTask {
                    do {
                        try await lanes.run(for: "flood") { release.wait() }
                        return true
                    } catch { return false }
                }
            }
            // 17 at least are refused at once: one runs and two wait.
            var refused = 0
            while refused < 17, let wasDone = try await group.next() { if !wasDone { refused += 1 } }
            for _ in 0..<20 { release.signal() }
            #expect(try await lanes.run(for: "honest") { true })
            try await group.waitForAll()
        }
    }

    @Test func `the client's address is the rightmost that no trusted proxy has`() throws {
        let clients = ClientAddress(
            trustedProxies: try [AddressNetwork("127.0.0.1"), AddressNetwork("10.0.0.0/8"), AddressNetwork("fd00::/8")])
        func address(_ connection: String, _ forwarded: String...) -> String {
            clients.address(connection: connection, forwarded: forwarded)
        }
        #expect(address("203.0.113.7", "198.51.100.1") == "203.0.113.7", "one that sends the header itself")
        #expect(address("127.0.0.1", "198.51.100.1") == "198.51.100.1")
        #expect(address("127.0.0.1", "1.1.1.1, 198.51.100.1") == "198.51.100.1", "what a client wrote stands left")
        #expect(address("127.0.0.1", "198.51.100.1, 10.1.2.3") == "198.51.100.1", "two proxies")
        #expect(address("127.0.0.1", "1.1.1.1", "198.51.100.1, 10.1.2.3") == "198.51.100.1", "several lines are one")
        #expect(address("::ffff:127.0.0.1", "198.51.100.1") == "198.51.100.1")
        #expect(address("fd00::1", "2001:db8::9") == "2001:db8::9" && address("127.0.0.1", "[2001:db8::9]:443") == "2001:db8::9")
        #expect(address("127.0.0.1") == "127.0.0.1" && address("127.0.0.1", "nonsense") == "127.0.0.1")
        #expect(ClientAddress(trustedProxies: []).address(connection: "127.0.0.1", forwarded: ["198.51.100.1"]) == "127.0.0.1")
        #expect(AddressNetwork.around("198.51.100.77") == "198.51.100.0")
        #expect(AddressNetwork.around("2001:db8:0:1:2:3:4:5") == AddressNetwork.around("2001:db8:0:1:ffff::"))
        for wrong in ["10.0.0.0/33", "10.0.0", "/8", "a/b", "10.0.0.0/8/9", "", "fd00::/-1"] {
            #expect(throws: (any Error).self) { _ = try AddressNetwork(wrong) }
        }
    }

    @Test func `behind a proxy that is named, guesses lock out the guesser alone`() async throws {
        try await withServer(change: {
            $0.trustedProxies = (try? [AddressNetwork("127.0.0.1")]) ?? []
            $0.signInDelay = .seconds(3_600)
        }) { world in
            _ = try await world.signup()
            func signIn(_ password: String, from address: String) async throws -> Int {
                try await world.call(
                    "POST", "/auth/signin", #"{"email":"ada@example.org","password":"\#(password)"}"#,
                    headers: [("X-Forwarded-For", "6.6.6.6, \(address)")]
                ).status
            }
            for _ in 0..<10 { #expect(try await signIn("wrong horse", from: "203.0.113.7") == 401) }
            #expect(try await signIn("correct horse", from: "203.0.113.7") == 429)
            #expect(try await signIn("correct horse", from: "198.51.100.1") == 200)
        }
        try await withServer(change: { $0.signInDelay = .seconds(3_600) }) { world in
            _ = try await world.signup()
            for number in 0..<11 {
                let answer = try await world.call(
                    "POST", "/auth/signin", #"{"email":"ada@example.org","password":"wrong horse"}"#,
                    headers: [("X-Forwarded-For", "198.51.100.\(number)")])
                #expect(answer.status == (number < 10 ? 401 : 429), "without the setting the header is ignored")
            }
        }
    }
}
