public import CohortCore

/// coordinator → peer: attach to the session's event queue and answer ENABLED.
public struct EnableCommand: Codable, Hashable, Sendable {
    public var queue: String
    public var sessionId: String
    public var generation: Int
    /// Load this data set, and report READY when it is there: for a peer that joins while others train. Absent: nothing to load yet.
    public var prepare: DatasetLinks?

    public init(queue: String, sessionId: String, generation: Int, prepare: DatasetLinks? = nil) {
        self.queue = queue
        self.sessionId = sessionId
        self.generation = generation
        self.prepare = prepare
    }
}

/// Where a data set is, and how its columns become features. The fields mean what they mean in TRAIN.
public struct DatasetLinks: Codable, Hashable, Sendable {
    public var csvUrl: String
    public var csvSha256: String
    public var csvBytes: Int
    public var schema: TableSchema?
    public var schemaUrl: String?
    public var schemaSha256: String?

    public init(csvUrl: String, csvSha256: String, csvBytes: Int, schema: TableSchema?, schemaUrl: String?, schemaSha256: String?) {
        self.csvUrl = csvUrl
        self.csvSha256 = csvSha256
        self.csvBytes = csvBytes
        self.schema = schema
        self.schemaUrl = schemaUrl
        self.schemaSha256 = schemaSha256
    }
}

extension TrainCommand {
    public var dataset: DatasetLinks {
        DatasetLinks(
            csvUrl: csvUrl, csvSha256: csvSha256, csvBytes: csvBytes, schema: schema, schemaUrl: schemaUrl, schemaSha256: schemaSha256)
    }
}
