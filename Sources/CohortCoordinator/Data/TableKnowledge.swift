import CohortCore
import CohortSession
import CohortTraining
import CohortWire
import FoundationEssentials

/// A session's table, and the parts of it that messages of this run have carried to each peer: the manifest once, each row once.
struct TableKnowledge {
    /// Bytes of the JSON of a manifest that goes in messages.
    private static let maxInlineManifest = 8 << 10
    /// Bytes of records that go in a message.
    private static let maxInlineRows = 6 << 10

    let link: TableLink
    private let stored: StoredTable
    /// The records of a table of one part.
    private var records: [UInt8]?
    /// The contents of messages so far, by peer.
    private var sent: [String: Sent] = [:]

    private struct Sent {
        /// Another one knows nothing.
        var registration: Int
        var rows = RowSet()
    }

    init(_ stored: StoredTable) {
        self.stored = stored
        link = TableLink(
            tableSha256: stored.reference.sha256, table: stored.reference.bytes <= Self.maxInlineManifest ? stored.manifest : nil)
    }

    /// Removes the manifest from a message to a peer that had it, and adds the rows when they are few and new to the peer. A peer fetches
    /// what is not in the message.
    mutating func add(to command: inout TrainCommand, for peer: SessionPeer) async throws {
        var known = Sent(registration: peer.registration)
        if let earlier = sent[peer.id], earlier.registration == peer.registration {
            known = earlier
            command.table.table = nil
        }
        let parts = stored.manifest.parts
        let ranges = command.plan.rows + (command.plan.validationRows.map { [$0.moved(by: parts.trainingRows)] } ?? [])
        defer { sent[peer.id] = known }
        guard parts.count == 1, ranges.contains(where: { !known.rows.contains($0) }),
            ranges.reduce(0, { $0 + $1.count }) * parts.recordBytes <= Self.maxInlineRows
        else { return }
        let all = if let records { records } else { try await stored.part(0) }
        records = all
        command.plan.rowData = Data(ranges.flatMap { all[($0.start * parts.recordBytes)..<($0.end * parts.recordBytes)] })
        for range in ranges { known.rows.insert(range) }
    }
}
