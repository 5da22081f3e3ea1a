public import CohortCore

/// The data set of a session.
public struct DatasetInfo: Codable, Hashable, Sendable {
    /// The name of the uploaded file.
    public var filename: String
    /// `s3://BUCKET/TIMESTAMP.csv`.
    public var csvLink: String
    public var object: ObjectReference
    /// The ``TableSchema`` as JSON: it may be large, so it is no part of a document that is stored all the time.
    public var schemaObject: ObjectReference?
    /// The schema itself: for those who ask for one session, and in documents of version 0.1.
    public var schema: TableSchema?
    public var target: String
    public var task: LearningTask
    public var trainingRows: Int
    public var validationRows: Int
    public var features: Int
    /// Regression: of the training rows' target, so that errors can be told in its unit.
    public var targetStd: Double?
    /// Warnings about the data, such as ignored columns and dropped rows.
    public var warnings: [String]

    /// - Parameter schema: what the numbers are taken from; it is not kept.
    public init(
        filename: String, csvLink: String, object: ObjectReference, schema: TableSchema, schemaObject: ObjectReference, warnings: [String]
    ) {
        self.filename = filename
        self.csvLink = csvLink
        self.object = object
        self.schemaObject = schemaObject
        self.warnings = warnings
        target = schema.target
        task = schema.task
        trainingRows = schema.trainingRows
        validationRows = schema.validationRows
        features = schema.featureCount
        targetStd = schema.task == .regression ? schema.columns.first { $0.kind == .target }?.std : nil
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        filename = try container.decode(String.self, forKey: .filename)
        csvLink = try container.decode(String.self, forKey: .csvLink)
        object = try container.decode(ObjectReference.self, forKey: .object)
        schemaObject = try container.decodeIfPresent(ObjectReference.self, forKey: .schemaObject)
        schema = try container.decodeIfPresent(TableSchema.self, forKey: .schema)
        warnings = try container.decode([String].self, forKey: .warnings)
        target = try container.decodeIfPresent(String.self, forKey: .target) ?? schema?.target ?? ""
        task = try container.decodeIfPresent(LearningTask.self, forKey: .task) ?? schema?.task ?? .classification
        trainingRows = try container.decodeIfPresent(Int.self, forKey: .trainingRows) ?? schema?.trainingRows ?? 0
        validationRows = try container.decodeIfPresent(Int.self, forKey: .validationRows) ?? schema?.validationRows ?? 0
        features = try container.decodeIfPresent(Int.self, forKey: .features) ?? schema?.featureCount ?? 0
        targetStd = try container.decodeIfPresent(Double.self, forKey: .targetStd)
    }

    /// A sentence about the task and the rows.
    public func words(isTargetGiven: Bool) -> String {
        "\(trainingRows) rows to train on, \(validationRows) held out, \(features) features, target '\(target)'\(isTargetGiven ? "" : " (the last column; --target chooses another)")"
    }
}
