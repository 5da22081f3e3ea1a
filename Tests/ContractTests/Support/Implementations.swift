import CohortCore
import DirectoryObjects
import SQLiteDocuments
import Testing

/// Every document store that must pass the document suites. A new one is a new line.
struct DocumentStore: Sendable, CustomTestStringConvertible {
    let testDescription: String
    /// Opens what is kept at a place; a second opening, at the same time or later, sees the same documents.
    let open: @Sendable (_ place: TemporaryFolder) async throws -> Opened<any Documents>

    static let all = [
        DocumentStore(testDescription: "SQLite") { place in
            let documents = try SQLiteDocuments(path: place.path("cohort.sqlite"))
            return Opened(part: documents) { try await documents.close() }
        }
    ]
}

/// Every object store that must pass the object suite.
struct ObjectStoreKind: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let open: @Sendable (_ place: TemporaryFolder) async throws -> Opened<any ObjectStore>

    static let all = [
        ObjectStoreKind(testDescription: "directory") { place in
            Opened(part: try DirectoryObjects(path: place.path("objects"), secret: testSecret)) {}
        }
    ]
}

/// Every object store that this server serves itself.
struct ServedStoreKind: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let open: @Sendable (_ place: TemporaryFolder) async throws -> Opened<any ServedObjectStore>

    static let all = [
        ServedStoreKind(testDescription: "directory") { place in
            Opened(part: try DirectoryObjects(path: place.path("objects"), secret: testSecret)) {}
        }
    ]
}

let testSecret = [UInt8](repeating: 7, count: 32)

struct Opened<Part: Sendable>: Sendable {
    let part: Part
    let close: @Sendable () async throws -> Void
}

extension DocumentStore {
    /// Runs `body` on an empty store.
    func withEmpty(_ body: (any Documents) async throws -> Void) async throws {
        try await TemporaryFolder.with { place in
            let opened = try await open(place)
            try await body(opened.part)
            try await opened.close()
        }
    }
}

extension ObjectStoreKind {
    func withEmpty(_ body: (any ObjectStore, TemporaryFolder) async throws -> Void) async throws {
        try await TemporaryFolder.with { place in
            let opened = try await open(place)
            try await body(opened.part, place)
            try await opened.close()
        }
    }
}

extension ServedStoreKind {
    func withEmpty(_ body: (any ServedObjectStore, TemporaryFolder) async throws -> Void) async throws {
        try await TemporaryFolder.with { place in
            let opened = try await open(place)
            try await body(opened.part, place)
            try await opened.close()
        }
    }
}
