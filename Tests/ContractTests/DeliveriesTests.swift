import Testing

@testable import RabbitMQTransport

/// What a connection owes the server a word about.
@Suite struct DeliveriesTests {
    private func deliveries(_ tags: [(UInt64, String)]) -> Deliveries {
        var deliveries = Deliveries()
        for (tag, consumer) in tags { deliveries.add(tag, channel: 1, consumer: consumer) }
        return deliveries
    }

    @Test func `one acknowledgement tells of all before it, and of none that waits`() {
        var three = deliveries([(1, "a"), (2, "a"), (3, "b")])
        let all = three.acknowledge([3, 1, 2], channel: 1)
        #expect(all.map(\.tag) == [3] && all.map(\.isMultiple) == [true])
        #expect(three.acknowledge([1, 2, 3], channel: 1).isEmpty, "twice is nothing")

        var gap = deliveries([(1, "a"), (2, "a"), (3, "a"), (4, "a"), (5, "b")])
        let some = gap.acknowledge([1, 2, 4, 9], channel: 1)
        #expect(some.map(\.tag) == [2, 4] && some.map(\.isMultiple) == [true, false], "3 waits, 9 was never given: \(some)")
        let rest = gap.acknowledge([3], channel: 1)
        #expect(rest.map(\.tag) == [3] && rest.map(\.isMultiple) == [false])
        #expect(gap.remove(of: "a", channel: 1).isEmpty && gap.remove(of: "b", channel: 1) == [5])
    }

    @Test func `each channel has separate tags, and a delivery is settled once`() {
        var deliveries = deliveries([(1, "a"), (2, "b"), (3, "a")])
        deliveries.add(1, channel: 2, consumer: "a")
        #expect(deliveries.remove(of: "a", channel: 1) == [1, 3])
        let late = deliveries.acknowledge([1], channel: 1)
        #expect(late.isEmpty, "it went back to the queue")
        let (first, second) = (deliveries.remove(2, channel: 1), deliveries.remove(2, channel: 1))
        #expect(first && !second)
        #expect(deliveries.acknowledge([1], channel: 2).map(\.tag) == [1])
        #expect(deliveries.acknowledge([1], channel: 7).isEmpty)
    }
}
