import CohortCore
import FoundationEssentials
import Logging
import ServiceLifecycle
import Synchronization

/// Who is there: last beats in memory, written to the documents in one go every few seconds; who is silent too long is set OFFLINE.
final class PresenceMonitor: Service {
    private struct Seen {
        var registration: Int
        var ownerId: String
        var last: ContinuousClock.Instant
        var isWritten: Bool
        var isSuspected: Bool
    }

    private let documents: any Documents
    private let runner: any SessionRunner
    private let suspectAfter: Duration
    private let deadAfter: Duration
    private let logger: Logger
    private let seen = Mutex<[String: Seen]>([:])

    init(documents: any Documents, runner: any SessionRunner, configuration: ServerConfiguration, logger: Logger) {
        self.documents = documents
        self.runner = runner
        suspectAfter = .seconds(configuration.suspectAfter)
        deadAfter = .seconds(configuration.deadAfter)
        self.logger = logger
    }

    /// A registration: from now on its beats count.
    func registered(_ peer: Peer) async {
        seen.withLock {
            $0[peer.id] = Seen(registration: peer.registration, ownerId: peer.ownerId, last: .now, isWritten: true, isSuspected: false)
        }
        await runner.peersChanged()
    }

    /// - Returns: false when this registration is not (or no longer) a living one: the peer must register again.
    func beat(peerId: String, registration: Int, ownerId: String) -> Bool {
        seen.withLock { seen in
            guard var known = seen[peerId], known.registration == registration, known.ownerId == ownerId else { return false }
            known.last = .now
            known.isWritten = false
            known.isSuspected = false
            seen[peerId] = known
            return true
        }
    }

    /// Whether it is a living peer of this owner.
    func knows(_ peerId: String, ownerId: String, registration: Int?) -> Bool {
        seen.withLock { seen in
            guard let known = seen[peerId], known.ownerId == ownerId else { return false }
            return registration == nil || registration == known.registration
        }
    }

    func left(peerId: String) async {
        seen.withLock { $0[peerId] = nil }
        await runner.peersChanged()
    }

    func run() async throws {
        // Everybody gets a fresh grace: it was the server that was away.
        for peer in try await documents.peers() where peer.status != .offline {
            seen.withLock { seen in
                if seen[peer.id] == nil {
                    seen[peer.id] = Seen(
                        registration: peer.registration, ownerId: peer.ownerId, last: .now, isWritten: true, isSuspected: false)
                }
            }
        }
        let interval = min(max(deadAfter / 10, .milliseconds(100)), .seconds(2))
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                try? await Task.sleep(for: interval)  // Cancelled: the loop ends.
                await self.look()
            }
        }
    }

    private func look() async {
        let now = ContinuousClock.now
        let date = Date()
        let (beats, suspects, dead) = seen.withLock { seen in
            var beats: [PeerBeat] = []
            var suspects: [String] = []
            var dead: [(String, Int)] = []
            for (id, known) in seen {
                let silence = now - known.last
                if silence > deadAfter {
                    dead.append((id, known.registration))
                    seen[id] = nil
                } else if silence > suspectAfter, !known.isSuspected {
                    suspects.append(id)
                    seen[id]?.isSuspected = true
                }
                if !known.isWritten {
                    beats.append(
                        PeerBeat(peerId: id, registration: known.registration, seen: date.addingTimeInterval(-(silence / .seconds(1)))))
                    seen[id]?.isWritten = true
                }
            }
            return (beats, suspects, dead)
        }
        do {
            if !beats.isEmpty { try await documents.touch(beats) }
            for id in suspects { logger.notice("peer \(id) is silent") }
            for (id, registration) in dead {
                logger.notice("peer \(id) is given up after \(deadAfter) of silence")
                try await documents.setOffline(peerId: id, registration: registration)
            }
        } catch {
            logger.error("the peers' presence cannot be stored: \(error)")
        }
        if !dead.isEmpty { await runner.peersChanged() }
    }
}
