import CohortCore
import CohortSession
import CohortWire
import FoundationEssentials
import Logging
import ServiceLifecycle
import Synchronization

/// The presence of peers: last beats in memory, written to the documents together every few seconds; peers that are silent for too long are set OFFLINE.
///
/// Where other servers share the documents, a peer may beat at any of them: the documents say of its newest beat, and a peer is silent when neither
/// this server nor they have heard of it. Times of other clocks are never compared, only whether they change.
final class PresenceMonitor: Service {
    private struct Seen {
        var registration: Int
        var ownerId: String
        /// The time of the last beat, in monotonic seconds.
        var last: Double
        /// Silent too long, and not yet stored as OFFLINE: its beats do not count any more.
        var isGivenUp = false
        var isWritten = true
        var isSuspected = false
        /// Since this server started, here or by what another one wrote.
        var isHeard: Bool
        /// When it was last seen, as its document says.
        var stored: Date

        init(_ peer: Peer, at now: Double, isHeard: Bool = true) {
            self.isHeard = isHeard
            registration = peer.registration
            ownerId = peer.ownerId
            last = now
            stored = peer.lastSeen
        }
    }

    private let documents: any Documents
    private let transport: any CoordinatorTransport
    private let time: any TimeSource
    private let runner: any SessionRunner
    private let feed: any SessionFeed
    private let isShared: Bool
    /// Seconds.
    private let suspectAfter: Double
    private let deadAfter: Double
    private let lookedAt: Mutex<Double>
    private let startedAt: Double
    private let isSeeded = Mutex(false)
    /// Seconds in which every peer that is there beats, or finds that it must register again.
    private let hearingTime: Double
    /// When peers of other servers were looked for.
    private let searchedAt: Mutex<Double>
    /// When the documents were last cleared of what is over.
    private let clearedAt: Mutex<Double>
    private let logger: Logger
    private let seen = Mutex<[String: Seen]>([:])

    init(
        documents: any Documents, transport: any CoordinatorTransport, runner: any SessionRunner, feed: any SessionFeed,
        configuration: ServerConfiguration, time: any TimeSource = SystemTime(), logger: Logger
    ) {
        self.documents = documents
        self.transport = transport
        self.runner = runner
        self.feed = feed
        self.time = time
        isShared = configuration.isShared
        suspectAfter = configuration.suspectAfter
        deadAfter = configuration.deadAfter
        lookedAt = Mutex(time.monotonic)
        startedAt = time.monotonic
        hearingTime = min(2 * configuration.heartbeatInterval + 2, configuration.deadAfter)
        searchedAt = Mutex(time.monotonic)
        clearedAt = Mutex(-.infinity)
        self.logger = logger
    }

    /// Sessions that wait for peers, and people who watch the pool, look again.
    private func announce() async {
        await runner.peersChanged()
        await feed.poolChanged()
    }

    /// A registration: from now on its beats count.
    func registered(_ peer: Peer) async {
        seen.withLock { $0[peer.id] = Seen(peer, at: time.monotonic) }
        await announce()
    }

    /// - Returns: false when this registration is not (or no longer) a living one: the peer must register again.
    func beat(peerId: String, registration: Int, ownerId: String) async throws -> Bool {
        if heard(peerId, registration: registration, ownerId: ownerId) { return true }
        return try await adopt(peerId) && heard(peerId, registration: registration, ownerId: ownerId)
    }

    private func heard(_ peerId: String, registration: Int, ownerId: String) -> Bool {
        seen.withLock { seen in
            guard var known = seen[peerId], known.registration == registration, known.ownerId == ownerId, !known.isGivenUp else {
                return false
            }
            known.last = time.monotonic
            known.isWritten = false
            known.isSuspected = false
            known.isHeard = true
            seen[peerId] = known
            return true
        }
    }

    /// Which peers were heard of since this server started.
    var hearing: SessionStart.Hearing {
        SessionStart.Hearing(until: startedAt + hearingTime) { [self] peer in
            // One that this server does not know yet is registering here just now, or has at another.
            seen.withLock { $0[peer.id]?.isHeard } ?? isSeeded.withLock { $0 }
        }
    }

    /// Returns whether it is a living peer of this owner.
    func knows(_ peerId: String, ownerId: String, registration: Int) async throws -> Bool {
        if isLiving(peerId, ownerId: ownerId, registration: registration) { return true }
        return try await adopt(peerId) && isLiving(peerId, ownerId: ownerId, registration: registration)
    }

    private func isLiving(_ peerId: String, ownerId: String, registration: Int) -> Bool {
        seen.withLock { seen in
            guard let known = seen[peerId], known.ownerId == ownerId, !known.isGivenUp else { return false }
            return registration == known.registration
        }
    }

    /// It may have registered at another server.
    /// - Returns: whether that is so.
    private func adopt(_ peerId: String) async throws -> Bool {
        guard isShared, let peer = try await documents.peer(id: peerId), peer.status != .offline else { return false }
        return seen.withLock { seen in
            guard seen[peerId].map({ $0.registration < peer.registration }) ?? true else { return false }
            seen[peerId] = Seen(peer, at: time.monotonic)
            return true
        }
    }

    func left(peerId: String) async {
        seen.withLock { $0[peerId] = nil }
        await removeQueue(of: peerId)
        await announce()
    }

    /// Removes the commands of a peer that is gone: they are sent again when it is back.
    private func removeQueue(of peerId: String) async {
        do {
            try await transport.forget(peer: peerId)
        } catch {
            logger.warning("the command queue of peer \(peerId) is left over: \(error)")
        }
    }

    /// Gives every peer a new grace period after a start: the server was away, not the peers.
    func seed() async throws {
        for peer in try await documents.peers() where peer.status != .offline {
            seen.withLock { seen in
                if seen[peer.id] == nil { seen[peer.id] = Seen(peer, at: time.monotonic, isHeard: false) }
            }
        }
        isSeeded.withLock { $0 = true }
    }

    func run() async throws {
        try await seed()
        let interval = min(max(deadAfter / 10, 0.1), 2)
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                try? await self.time.sleep(seconds: interval)  // Cancelled: the loop ends.
                await self.check(every: interval)
                await self.clearDocuments()
            }
        }
    }

    func check(every interval: Double) async {
        let now = time.monotonic
        let date = time.date
        let away = lookedAt.withLock { looked in
            defer { looked = now }
            return now - looked - interval
        }
        if away > max(suspectAfter / 2, interval) {
            // This server was stopped or asleep: no peer could reach it, so none was silent.
            logger.notice("this server was away for \(Int(min(away, 1e9))) s: peers get that long to come back")
            seen.withLock { seen in
                for id in seen.keys { seen[id]?.last += away }
            }
        }
        if isShared {
            do {
                try await readOtherServers(now)
            } catch {
                // No peer is lost by what this server alone knows.
                return logger.error("the peers' presence at other servers cannot be read: \(error)")
            }
        }
        let (beats, suspects, dead) = seen.withLock { seen in
            var beats: [PeerBeat] = []
            var suspects: [String] = []
            var dead: [(String, Int)] = []
            for (id, known) in seen {
                let silence = max(now - known.last, 0)
                if silence > deadAfter || known.isGivenUp {
                    dead.append((id, known.registration))
                    seen[id]?.isGivenUp = true
                } else if silence > suspectAfter, !known.isSuspected {
                    suspects.append(id)
                    seen[id]?.isSuspected = true
                }
                if !known.isWritten {
                    let beat = PeerBeat(peerId: id, registration: known.registration, seen: date.addingTimeInterval(-silence))
                    beats.append(beat)
                    seen[id]?.isWritten = true
                    seen[id]?.stored = beat.seen
                }
            }
            return (beats, suspects, dead)
        }
        do {
            if !beats.isEmpty { try await documents.touch(beats) }
            for id in suspects { logger.notice("peer \(id) is silent") }
            for (id, registration) in dead {
                logger.notice("peer \(id) is lost after \(deadAfter) s of silence")
                // Forgotten once that is stored: until then it is tried again.
                try await documents.setOffline(peerId: id, registration: registration, hasLeft: false)
                let isForgotten = seen.withLock { seen in
                    guard seen[id]?.registration == registration else { return false }
                    seen[id] = nil
                    return true
                }
                if isForgotten { await removeQueue(of: id) }
            }
        } catch {
            logger.error("the peers' presence could not be stored: \(error)")
        }
        if !dead.isEmpty { await announce() }
    }

    /// Seconds after which a peer that is OFFLINE is forgotten.
    private static let keptOffline = 30 * 86_400.0

    /// Once an hour: sign-ins that have expired, and machines that have been gone for 30 days.
    func clearDocuments() async {
        let now = time.monotonic
        let isDue = clearedAt.withLock { cleared in
            guard now - cleared >= 3_600 else { return false }
            cleared = now
            return true
        }
        guard isDue else { return }
        do {
            try await documents.deleteSignIns(expiredBy: time.date)
            let gone = try await documents.deletePeers(unseenSince: time.date.addingTimeInterval(-Self.keptOffline))
            if gone > 0 { logger.notice("forgot \(gone) machines that have been offline for 30 days") }
        } catch {
            logger.warning("expired documents could not be removed; next attempt in an hour: \(error)")
        }
    }

    /// Reads the beats that other servers have written of peers that are silent or unknown here.
    private func readOtherServers(_ now: Double) async throws {
        let silent = seen.withLock { seen in seen.filter { $0.value.isWritten && now - $0.value.last > suspectAfter }.map(\.key) }
        let isSearching = searchedAt.withLock { searched in
            guard now - searched >= deadAfter / 2 else { return false }
            searched = now
            return true
        }
        guard isSearching || !silent.isEmpty else { return }
        var found: [String: Peer] = [:]
        if isSearching || silent.count > 16 {
            for peer in try await documents.peers() { found[peer.id] = peer }
        } else {
            for id in silent { found[id] = try await documents.peer(id: id) }
        }
        seen.withLock { seen in
            for id in silent {
                guard let peer = found[id], peer.status != .offline else {
                    // Another server has given it up, or it has left there.
                    seen[id] = nil
                    continue
                }
                // A store keeps milliseconds.
                guard let known = seen[id],
                    known.registration < peer.registration || abs(peer.lastSeen.timeIntervalSince(known.stored)) > 0.002
                else { continue }
                seen[id] = Seen(peer, at: now)
            }
            for (id, peer) in found where isSearching && seen[id] == nil && peer.status != .offline { seen[id] = Seen(peer, at: now) }
        }
    }
}
