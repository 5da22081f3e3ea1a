public import CohortCore
public import CohortSession
import CohortStrategies
import CohortSystem
public import CohortWire
import FoundationEssentials
public import Logging
public import ServiceLifecycle
import Synchronization

/// Runs sessions: takes their leases, tells peers what to do, listens to them, and stores each step before acting on it. Any number of
/// coordinators may run beside each other over shared documents.
public final class Coordinator: SessionRunner, Service {
    let documents: any Documents
    let objects: any ObjectStore
    let transport: any CoordinatorTransport
    let feed: any SessionFeed
    let configuration: CoordinatorConfiguration
    let time: any TimeSource
    let logger: Logger
    /// Threads on which updates are hashed, checked and averaged: a session stays on one, and others go on beside it.
    private let executors: [ThreadExecutor]
    private let nextExecutor = Atomic(0)
    private let runs = Mutex<[String: Mailbox]>([:])
    private let (starts, start) = AsyncStream.makeStream(of: String.self, bufferingPolicy: .unbounded)

    /// - Throws: ``CohortError`` `internal` when the system gives no thread.
    public init(
        documents: any Documents, objects: any ObjectStore, transport: any CoordinatorTransport, feed: any SessionFeed,
        configuration: CoordinatorConfiguration, time: any TimeSource = SystemTime(), logger: Logger
    ) throws {
        self.documents = documents
        self.objects = objects
        self.transport = transport
        self.feed = feed
        self.configuration = configuration
        self.time = time
        self.logger = logger
        executors = try (0..<max(1, ProcessInfo.processInfo.activeProcessorCount)).map { _ in try ThreadExecutor() }
    }

    deinit { for executor in executors { executor.end() } }

    /// The thread of the next session: each in turn.
    func executor() -> ThreadExecutor {
        executors[nextExecutor.add(1, ordering: .relaxed).oldValue % executors.count]
    }

    public func wake(sessionId: String) {
        if let mailbox = runs.withLock({ $0[sessionId] }) { mailbox.put(.look) } else { start.yield(sessionId) }
    }

    public func peersChanged() async {
        for mailbox in runs.withLock({ Array($0.values) }) { mailbox.put(.look) }
    }

    /// Runs unfinished sessions, then those that it is woken for. Ends at a graceful shutdown; its sessions are resumed later.
    public func run() async throws {
        await cancelWhenGracefulShutdown { [self] in
            sweepCopies()
            await withDiscardingTaskGroup { group in
                group.addTask { await self.sweep() }
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
                        // It was woken after it had looked for the last time: what it was woken for must not wait for the sweep.
                        if mailbox.hasUnseenLook, !Task.isCancelled { self.start.yield(id) }
                    }
                }
            }
        }
    }

    /// Removes updates of sessions that are over, put by a link that outlived its session over a restart.
    private func sweepUpdates() async {
        do {
            // In this order: a session whose updates are listed was stored before.
            let keys = try await objects.list(prefix: "updates/")
            let unfinished = Set(try await documents.unfinishedSessions())
            let strays = keys.filter { key in
                key.split(separator: "/").dropFirst().first.map { !unfinished.contains(String($0)) } ?? false
            }
            guard !strays.isEmpty else { return }
            try await objects.delete(strays)
            logger.notice("removed \(strays.count) updates of sessions that are over")
        } catch {
            logger.warning("updates of sessions that are over are left over: \(error)")
        }
    }

    /// Removes copies that an earlier process has left, before any session runs: its copies are in the same folder.
    private func sweepCopies() {
        do {
            try DataFileLoader.sweep(configuration.scratchFolder)
        } catch {
            logger.warning("copies of data sets in \(configuration.scratchFolder) are left over: \(error)")
        }
    }

    /// Removes uploads that no session names after a day: their start was interrupted.
    private func sweepUploads() async {
        do {
            let yesterday = time.date.addingTimeInterval(-86_400)
            try await objects.removeUnfinished(before: yesterday)
            let before = Session.uploadKey(at: yesterday)
            let old = try await objects.list(prefix: "2").filter { Session.isUploadKey($0) && $0 < before }
            let used = try await documents.usedUploads(of: old, besides: nil)
            let strays = old.filter { !used.contains($0) }
            guard !strays.isEmpty else { return }
            try await objects.delete(strays)
            logger.notice("removed \(strays.count) uploads of sessions that were never started")
        } catch {
            logger.warning("uploads of sessions that were never started are left over: \(error)")
        }
    }

    /// Looks for sessions without a coordinator and for peers that a crash has left locked, at startup and then once a lease: no event reports
    /// either.
    private func sweep() async {
        await sweepUpdates()
        await sweepUploads()
        while !Task.isCancelled {
            do {
                for id in try await documents.unfinishedSessions() { wake(sessionId: id) }
                let strays = try await documents.freeStrayPeers()
                if !strays.isEmpty {
                    logger.notice("freed \(strays.count) peers of sessions that are over", metadata: ["peers": "\(strays.prefix(10))"])
                    await peersChanged()
                    await feed.poolChanged()
                }
            } catch {
                logger.warning("the sweep of sessions and peers failed: \(error)")
            }
            try? await time.sleep(seconds: configuration.leaseSeconds)  // Cancelled: the loop ends.
        }
    }
}
