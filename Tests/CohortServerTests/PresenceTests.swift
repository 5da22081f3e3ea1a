import CohortCore
import CohortSession
import CohortWire
import Foundation
import InMemory
import Logging
import Synchronization
import Testing

@testable import CohortServer

/// Two servers' presence over the same documents, on a clock that the test moves.
@Suite struct `Presence across servers` {
    private final class Clock: TimeSource {
        private let now = Mutex<Double>(0)
        var date: Date { Date(timeIntervalSince1970: 1_769_860_800 + monotonic) }
        var monotonic: Double { now.withLock { $0 } }
        func sleep(seconds: Double) async throws {}
        func move(_ seconds: Double) { now.withLock { $0 += seconds } }
    }

    private struct Silent: SessionRunner {
        func wake(sessionId: String) async {}
        func peersChanged() async {}
    }

    private struct World {
        let documents = MemoryDocuments()
        let clock = Clock()

        func monitor() -> PresenceMonitor {
            var configuration = ServerConfiguration(dataDirectory: "", suspectAfter: 15, deadAfter: 30, strategies: [])
            configuration.isShared = true
            return PresenceMonitor(
                documents: documents, transport: MemoryBroker(), runner: Silent(), feed: LocalSessionFeed(), configuration: configuration,
                time: clock, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        }

        func register() async throws -> Peer {
            try await documents.register(
                Peer(
                    id: "p", name: "p", ownerId: "ada", tokenId: "t",
                    capabilities: PeerCapabilities(
                        cores: 1, memoryBytes: 1 << 30, engine: "native", device: "cpu", samplesPerSecond: 1, platform: "", version: ""),
                    registeredAt: clock.date, lastSeen: clock.date))
        }

        /// Seconds go by; every server looks once a second.
        func wait(_ seconds: Int, _ monitors: [PresenceMonitor], beatingAt beaten: PresenceMonitor? = nil, registration: Int = 1)
            async throws
        {
            for second in 0..<seconds {
                clock.move(1)
                if let beaten, second % 5 == 0 {
                    #expect(try await beaten.beat(peerId: "p", registration: registration, ownerId: "ada"))
                }
                for monitor in monitors { await monitor.check(every: 1) }
            }
        }

        func status() async throws -> PeerStatus? { try await documents.peer(id: "p")?.status }
    }

    @Test func `a peer that beats at one server stays online at all servers, and is marked OFFLINE by all when it falls silent`()
        async throws
    {
        let world = World()
        let (a, b) = (world.monitor(), world.monitor())
        let peer = try await world.register()
        await a.registered(peer)
        try await world.wait(300, [a, b], beatingAt: a, registration: peer.registration)
        #expect(try await world.status() == .online)
        // A is gone; the peer comes to B, which knows it from the documents.
        try await world.wait(100, [b], beatingAt: b, registration: peer.registration)
        #expect(try await world.status() == .online)
        try await world.wait(24, [b])
        #expect(try await world.status() == .online)
        try await world.wait(20, [b])
        #expect(try await world.status() == .offline)
        #expect(try await !b.beat(peerId: "p", registration: peer.registration, ownerId: "ada"), "it must register again")
    }

    @Test func `when its server dies with it, another gives it up`() async throws {
        let world = World()
        let (a, b) = (world.monitor(), world.monitor())
        let peer = try await world.register()
        await a.registered(peer)
        try await world.wait(60, [a, b], beatingAt: a, registration: peer.registration)
        try await world.wait(80, [b])
        #expect(try await world.status() == .offline)
    }

    @Test func `a peer that registers again at another server is not marked OFFLINE, nor its queue removed, by the first`() async throws {
        let world = World()
        let (a, b) = (world.monitor(), world.monitor())
        let first = try await world.register()
        await a.registered(first)
        try await world.wait(20, [a, b], beatingAt: a, registration: first.registration)
        let second = try await world.register()
        await b.registered(second)
        try await world.wait(120, [a, b], beatingAt: b, registration: second.registration)
        #expect(try await world.status() == .online)
        #expect(try await !a.beat(peerId: "p", registration: first.registration, ownerId: "ada"))
        #expect(try await a.knows("p", ownerId: "ada", registration: second.registration))
        #expect(try await !a.knows("p", ownerId: "bob", registration: second.registration))
    }

    /// A clock that moves by what is slept.
    private final class SleepingClock: TimeSource {
        private let now = Mutex<Double>(0)
        var date: Date { Date(timeIntervalSince1970: 1_769_860_800 + monotonic) }
        var monotonic: Double { now.withLock { $0 } }
        func sleep(seconds: Double) async throws { now.withLock { $0 += seconds } }
    }

    @Test(arguments: [false, true])
    func `after a restart a peer that was not heard is not claimed, and is waited for as long as it may still beat`(
        isShared: Bool
    ) async throws {
        let (documents, clock) = (MemoryDocuments(), SleepingClock())
        for name in ["dead", "living"] {
            _ = try await documents.register(
                Peer(
                    id: name, name: name, ownerId: "ada", tokenId: "t",
                    capabilities: PeerCapabilities(
                        cores: 1, memoryBytes: 1 << 30, engine: "native", device: "cpu", samplesPerSecond: 1, platform: "", version: ""),
                    registeredAt: clock.date, lastSeen: clock.date))
        }
        var configuration = ServerConfiguration(dataDirectory: "", heartbeatInterval: 5, suspectAfter: 15, deadAfter: 30, strategies: [])
        configuration.isShared = isShared
        let monitor = PresenceMonitor(
            documents: documents, transport: MemoryBroker(), runner: Silent(), feed: LocalSessionFeed(), configuration: configuration,
            time: clock, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        try await monitor.seed()
        let start = SessionStart(documents: documents, time: clock, hearing: monitor.hearing)
        func begin(_ peers: Int) async throws -> Session {
            try await start.start(
                SessionSettings(peers: peers), ownerId: "ada", upload: ObjectReference(key: newIdentifier(), sha256: "", bytes: 1),
                filename: "a.csv")
        }
        let error = await #expect(throws: CohortError.self) { _ = try await begin(1) }
        #expect(error?.code == .notEnoughPeers && clock.monotonic >= 12, "\(clock.monotonic)")
        #expect(try await monitor.beat(peerId: "living", registration: 1, ownerId: "ada"))
        let two = await #expect(throws: CohortError.self) { _ = try await begin(2) }
        #expect(two?.code == .notEnoughPeers)
        #expect(try await begin(1).peers.map(\.id) == ["living"])
        // One whose registration is stored, and goes on: an account at the broker is made for it, which takes its time.
        _ = try await documents.register(
            Peer(
                id: "new", name: "new", ownerId: "ada", tokenId: "t",
                capabilities: PeerCapabilities(
                    cores: 1, memoryBytes: 1 << 30, engine: "native", device: "cpu", samplesPerSecond: 1, platform: "", version: ""),
                registeredAt: clock.date, lastSeen: clock.date))
        #expect(try await begin(1).peers.map(\.id) == ["new"])
    }
}
