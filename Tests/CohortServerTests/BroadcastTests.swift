import CohortCore
import CohortWire
import FoundationEssentials
import Testing

@testable import CohortServer

@Suite struct BroadcastTests {
    /// A cancellation that waits for a delivery which waits for that cancellation would hold two threads for good.
    @Test(.timeLimit(.minutes(1))) func `viewers may leave while notices are delivered`() async {
        let feed = LocalSessionFeed()
        let broadcast = SessionBroadcast(feed: feed, time: SystemTime())
        await withDiscardingTaskGroup { group in
            group.addTask { try? await broadcast.run() }
            group.addTask {
                var notice = SessionNotice(sessionId: "s", kind: .status, time: Date(timeIntervalSince1970: 0), message: "goes on")
                notice.status = .running
                // A status is delivered at once.
                while !Task.isCancelled {
                    await feed.publish(notice)
                    await Task.yield()
                }
            }
            for _ in 0..<2_000 {
                let viewers = (0..<4).map { _ in
                    Task {
                        var count = 0
                        for await _ in await broadcast.subscribe(sessionId: "s") { count += 1 }
                        return count
                    }
                }
                await Task.yield()
                for viewer in viewers { viewer.cancel() }
                for viewer in viewers { #expect(await viewer.value >= 0) }
            }
            group.cancelAll()
        }
    }
}
