public import CohortCore

/// coordinator → peer: attach to the session's event queue and answer ENABLED.
public struct EnableCommand: Codable, Hashable, Sendable {
    public var queue: String
    public var sessionId: String
    public var generation: Int
    /// Load these rows, and report READY when they are there: for a peer that joins while others train. Absent: nothing to load yet.
    public var prepare: RowsAhead?

    public init(queue: String, sessionId: String, generation: Int, prepare: RowsAhead? = nil) {
        self.queue = queue
        self.sessionId = sessionId
        self.generation = generation
        self.prepare = prepare
    }
}

/// Rows that a peer is expected to need.
public struct RowsAhead: Hashable, Sendable {
    public var table: TableLink
    /// Places in the table.
    public var rows: [RowRange]

    public init(table: TableLink, rows: [RowRange]) {
        self.table = table
        self.rows = rows
    }
}

extension RowsAhead: Codable {
    private enum CodingKeys: String, CodingKey { case rows }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(table: try TableLink(from: decoder), rows: try container.decode([RowRange].self, forKey: .rows))
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(rows, forKey: .rows)
        try table.encode(to: encoder)
    }
}
