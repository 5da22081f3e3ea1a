import CohortCore
import CohortServer
import CohortSession
import CohortWire
import ServiceLifecycle
import Synchronization

/// The feed and the runner of one process among others: local events are sent to all processes, and those of others are applied here.
final class SharedSignals: SessionFeed, SessionRunner, Service {
    private let bus: any SignalBus
    private let feed = LocalSessionFeed()
    /// nil: no session runs in this process.
    private let runner = Mutex<(any SessionRunner)?>(nil)

    init(bus: any SignalBus) { self.bus = bus }

    func runs(_ runner: any SessionRunner) { self.runner.withLock { $0 = runner } }

    private var local: (any SessionRunner)? { runner.withLock { $0 } }

    func publish(_ notice: SessionNotice) async {
        await feed.publish(notice)
        await bus.send(.notice(notice))
    }

    func subscribe(sessionId: String) async -> AsyncStream<SessionNotice> { await feed.subscribe(sessionId: sessionId) }

    func wake(sessionId: String) async {
        await local?.wake(sessionId: sessionId)
        await bus.send(.wake(sessionId: sessionId))
    }

    func peersChanged() async {
        await local?.peersChanged()
        await bus.send(.peersChanged)
    }

    func poolChanged() async {
        await feed.poolChanged()
        await bus.send(.peersChanged)
    }

    func poolChanges() async -> AsyncStream<Void> { await feed.poolChanges() }

    func run() async throws {
        for await signal in await bus.signals().cancelOnGracefulShutdown() {
            switch signal {
            case .notice(let notice): await feed.publish(notice)
            case .wake(let id): await local?.wake(sessionId: id)
            case .peersChanged:
                await local?.peersChanged()
                await feed.poolChanged()
            }
        }
    }
}
