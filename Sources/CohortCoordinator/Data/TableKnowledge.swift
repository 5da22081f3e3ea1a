import CohortCore
import CohortSession
import CohortTraining
import CohortWire
import FoundationEssentials

/// A session's table, and what its peers were told of it in this run: the manifest once, rows once.
struct TableKnowledge {
    /// Bytes of the JSON of a manifest that goes in messages.
    private static let maxInlineManifest = 8 << 10
    /// Bytes of records that go in a message.
    private static let maxInlineRows = 6 << 10

    let link: TableLink
    private let stored: StoredTable
    /// The records of a table of one part.
    private var records: [UInt8]?
    /// By peer.
    private var told: [String: Told] = [:]

    private struct Told {
        /// Another one knows nothing.
        var registration: Int
        var rows = RowSet()
    }

    init(_ stored: StoredTable) {
        self.stored = stored
        link = TableLink(
            tableSha256: stored.reference.sha256, table: stored.reference.bytes <= Self.maxInlineManifest ? stored.manifest : nil)
    }

    /// Takes the manifest out of a message to a peer that had it, and puts the rows in when they are few and new to it. What is not in the message
    /// the peer fetches.
    mutating func tell(_ peer: SessionPeer, in command: inout TrainCommand) async throws {
        var known = Told(registration: peer.registration)
        if let earlier = told[peer.id], earlier.registration == peer.registration {
            known = earlier
            command.table.table = nil
        }
        let parts = stored.manifest.parts
        let ranges = command.plan.rows + (command.plan.validationRows.map { [$0.moved(by: parts.trainingRows)] } ?? [])
        defer { told[peer.id] = known }
        guard parts.count == 1, ranges.contains(where: { !known.rows.contains($0) }),
            ranges.reduce(0, { $0 + $1.count }) * parts.recordBytes <= Self.maxInlineRows
        else { return }
        let all = if let records { records } else { try await stored.part(0) }
        records = all
        command.plan.rowData = Data(ranges.flatMap { all[($0.start * parts.recordBytes)..<($0.end * parts.recordBytes)] })
        for range in ranges { known.rows.insert(range) }
    }
}
