/// The deliveries of one connection that are not settled yet. Tags rise within a channel.
struct Deliveries {
    private struct Entry {
        var tag: UInt64
        var consumer: String
    }

    /// Deliveries by channel, the lowest tag first.
    private var waiting: [Int: [Entry]] = [:]

    mutating func add(_ tag: UInt64, channel: Int, consumer: String) {
        waiting[channel, default: []].append(Entry(tag: tag, consumer: consumer))
    }

    /// - Returns: whether the server waits for it: a second word about a delivery would close the channel.
    mutating func remove(_ tag: UInt64, channel: Int) -> Bool {
        guard let index = waiting[channel]?.firstIndex(where: { $0.tag == tag }) else { return false }
        waiting[channel]?.remove(at: index)
        return true
    }

    /// - Returns: the tags of all that a consumer was given.
    mutating func remove(of consumer: String, channel: Int) -> [UInt64] {
        let tags = (waiting[channel] ?? []).filter { $0.consumer == consumer }.map(\.tag)
        waiting[channel]?.removeAll { $0.consumer == consumer }
        return tags
    }

    /// Takes out those of `tags` that the server waits for.
    /// - Returns: the acknowledgements to send: one for all that have none waiting before them, one for each other.
    mutating func acknowledge(_ tags: Set<UInt64>, channel: Int) -> [(tag: UInt64, isMultiple: Bool)] {
        guard let entries = waiting[channel] else { return [] }
        let first = entries.prefix { tags.contains($0.tag) }
        var acknowledgements = entries.dropFirst(first.count).filter { tags.contains($0.tag) }.map { (tag: $0.tag, isMultiple: false) }
        if let last = first.last { acknowledgements.insert((last.tag, first.count > 1), at: 0) }
        waiting[channel]?.removeAll { tags.contains($0.tag) }
        return acknowledgements
    }
}
