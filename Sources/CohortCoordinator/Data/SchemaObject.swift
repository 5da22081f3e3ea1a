import CohortCore
import CohortSession
import FoundationEssentials

/// The table's schema as an object that TRAIN refers to, so that a peer loads it once; a small one is also in the message.
struct SchemaObject: Sendable {
    /// Bytes of JSON.
    static let maxInlineBytes = 8 << 10

    let schema: TableSchema
    let reference: ObjectReference

    var inline: TableSchema? { reference.bytes <= Self.maxInlineBytes ? schema : nil }

    /// Stores it, if it is not there.
    init(of schema: TableSchema, sessionId: String, in objects: any ObjectStore) async throws {
        self.schema = schema
        reference = try await objects.put(try CohortJSON.encode(schema), key: "schemas/\(sessionId).json")
    }

    /// Reads what preparing the session has stored.
    /// - Throws: ``CohortError`` `notFound` when the object is gone, `internal` when it is not what was stored.
    init(of session: Session, in objects: any ObjectStore) async throws {
        guard let dataset = session.dataset else { throw CohortError(.internal, "session \(session.id) has no data set") }
        guard let reference = dataset.schemaObject else {
            guard let schema = dataset.schema else { throw CohortError(.internal, "session \(session.id) has no schema") }
            self = try await SchemaObject(of: schema, sessionId: session.id, in: objects)
            return
        }
        do {
            schema = try CohortJSON.decode(TableSchema.self, from: try await objects.get(reference.key))
        } catch let error as CohortError where error.code == .invalid {
            throw CohortError(.internal, "the schema of session \(session.id) cannot be read: \(error.message)")
        }
        self.reference = reference
    }
}
