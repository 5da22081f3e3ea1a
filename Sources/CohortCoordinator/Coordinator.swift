public import CohortCore
import CohortStrategies
import FoundationEssentials
public import Logging
public import ServiceLifecycle
import Synchronization

/// Runs sessions: takes their leases, tells peers what to do, listens to them, and stores each step before acting on it. Any number of
/// coordinators may run beside each other over shared documents.
public final class Coordinator: SessionRunner, Service {
    let documents: any Documents
    let objects: any ObjectStore
    let broker: any Broker
    let feed: any SessionFeed
    let configuration: CoordinatorConfiguration
    let logger: Logger
    private let runs = Mutex<[String: Mailbox]>([:])
    private let (starts, start) = AsyncStream.makeStream(of: String.self)

    public init(
        documents: any Documents, objects: any ObjectStore, broker: any Broker, feed: any SessionFeed,
        configuration: CoordinatorConfiguration, logger: Logger
    ) {
        self.documents = documents
        self.objects = objects
        self.broker = broker
        self.feed = feed
        self.configuration = configuration
        self.logger = logger
    }

    public func wake(sessionId: String) async {
        if let mailbox = runs.withLock({ $0[sessionId] }) { mailbox.put(.look) } else { start.yield(sessionId) }
    }

    public func peersChanged() async {
        for mailbox in runs.withLock({ Array($0.values) }) { mailbox.put(.look) }
    }

    /// Takes up what is unfinished, then what it is woken for; ends at a graceful shutdown, leaving sessions to be taken up again.
    public func run() async throws {
        await cancelWhenGracefulShutdown { [self] in
            await withDiscardingTaskGroup { group in
                group.addTask { await self.lookForUnfinished() }
                for await id in starts {
                    let mailbox = Mailbox()
                    let isNew = runs.withLock { runs in
                        guard runs[id] == nil else { return false }
                        runs[id] = mailbox
                        return true
                    }
                    guard isNew else { continue }
                    group.addTask {
                        await SessionRun(id: id, of: self, mailbox: mailbox).run()
                        _ = self.runs.withLock { $0.removeValue(forKey: id) }
                    }
                }
            }
        }
    }

    /// At the start, and then once a lease: a session whose coordinator died has no event that says so.
    private func lookForUnfinished() async {
        while !Task.isCancelled {
            do {
                for session in try await documents.unfinishedSessions() { await wake(sessionId: session.id) }
            } catch {
                logger.warning("unfinished sessions cannot be listed: \(error)")
            }
            try? await Task.sleep(for: .seconds(configuration.leaseSeconds))  // Cancelled: the loop ends.
        }
    }
}
