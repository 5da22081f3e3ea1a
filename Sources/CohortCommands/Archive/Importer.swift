import CohortCore
import CohortSession
import CohortSystem
import Crypto
import FoundationEssentials

/// Imports an ``Archive`` into stores, and reads all of it back. Documents that are there already and equal are skipped, so that an interrupted
/// import continues when it is run again; one that differs ends it.
struct Importer {
    let documents: any Documents
    let objects: any ObjectStore
    let archive: Archive

    /// - Returns: what the archive holds, all of it now in the stores.
    /// - Throws: ``CohortError``: `invalid` for an archive that is damaged, `conflict` when something else is there, or what storing failed with.
    func run() async throws -> Archive.Manifest {
        let manifest = try archive.manifest()
        // Objects first: a document that is there names nothing that is not.
        var (number, bytes) = (0, 0)
        try await LinesFile.read(Archive.Object.self, at: archive.objectsFile, sha256: manifest.objectsSha256) { object in
            try await bring(object)
            number += 1
            bytes += object.bytes
        }
        guard number == manifest.objects, bytes == manifest.objectBytes else {
            throw CohortError(
                .invalid, "\(archive.path) has \(number) objects of \(bytes) bytes, not \(manifest.objects) of \(manifest.objectBytes)")
        }
        let deleted = try await deletedPeers()
        try await each(manifest) { document in
            if try await !isThere(document, deleted) { try await store(document) }
        }
        // All of it once more, as the stores have it now.
        let stored = try await deletedPeers()
        var counts = Archive.Counts()
        try await each(manifest) { document in
            guard try await isThere(document, stored) else {
                throw CohortError(.internal, "\(document.name) was stored, but is not there: is another process writing to the database?")
            }
            counts.add(document)
        }
        guard counts == manifest.documents else {
            throw CohortError(.invalid, "\(archive.path) has other numbers of documents than manifest.json says")
        }
        return manifest
    }

    private func each(_ manifest: Archive.Manifest, _ body: (Archive.Document) async throws -> Void) async throws {
        try await LinesFile.read(Archive.Document.self, at: archive.documentsFile, sha256: manifest.documentsSha256) { document in
            try await body(here(document))
        }
    }

    /// A link that people see names the bucket.
    private func here(_ document: Archive.Document) -> Archive.Document {
        guard case .session(var recorded) = document, let dataset = recorded.session.dataset else { return document }
        recorded.session.dataset?.csvLink = "s3://\(objects.bucket)/\(dataset.object.key)"
        return .session(recorded)
    }

    // MARK: Documents

    private func deletedPeers() async throws -> Set<DeletedPeer> {
        var all: Set<DeletedPeer> = []
        var last: String?
        repeat {
            let page = try await documents.deletedPeers(after: last, limit: 1_000)
            all.formUnion(page)
            last = page.last?.id
        } while last != nil
        return all
    }

    /// - Throws: `conflict` when there is another of its id.
    private func isThere(_ document: Archive.Document, _ deleted: Set<DeletedPeer>) async throws -> Bool {
        // As JSON: what a store keeps of a date is its milliseconds.
        func same<Value: Encodable>(_ stored: Value?, _ wanted: Value) throws -> Bool {
            guard let stored else { return false }
            guard try CohortJSON.encode(stored) == CohortJSON.encode(wanted) else {
                throw CohortError(.conflict, "\(document.name) is there already, and another: import into stores that are empty")
            }
            return true
        }
        switch document {
        case .user(let user): return try same(try await documents.user(id: user.id), user)
        case .token(let token): return try same(try await documents.joinToken(id: token.id), token)
        case .signIn(let signIn): return try same(try await documents.signIn(id: signIn.id), signIn)
        case .peer(let peer): return try same(try await documents.peer(id: peer.id), peer)
        case .deletedPeer(let peer): return deleted.contains(peer)
        case .session(let recorded):
            guard try same(try await documents.session(id: recorded.session.id), recorded.session) else { return false }
            // Missing records of a session are added; existing ones are equal, or the session would differ.
            return try CohortJSON.encode(await documents.recorded(recorded.session)) == CohortJSON.encode(recorded)
        }
    }

    private func store(_ document: Archive.Document) async throws {
        switch document {
        case .user(let user): try await documents.insert(user)
        case .token(let token): try await documents.insert(token)
        case .signIn(let signIn): try await documents.insert(signIn)
        case .peer(let peer): try await documents.restore(peer)
        case .deletedPeer(let peer): try await documents.restore(peer)
        case .session(let recorded):
            let session = recorded.session
            if try await documents.session(id: session.id) == nil {
                // A file that several sessions share comes with the first of them.
                let isThere =
                    if let key = session.upload?.key { try await !documents.usedUploads(of: [key], besides: nil).isEmpty } else { false }
                try await documents.insert(session, sharesUpload: isThere)
            }
            func record(_ record: SessionRecord) async throws {
                try await documents.record(record, sessionId: session.id, generation: session.generation)
            }
            // No command to a store grows without bound.
            var rounds = recorded.rounds[...]
            while !rounds.isEmpty {
                try await record(SessionRecord(rounds: Array(rounds.prefix(500))))
                rounds = rounds.dropFirst(500)
            }
            for answer in recorded.answers { try await record(SessionRecord(answers: [answer])) }
            try await record(SessionRecord(points: recorded.points))
        }
    }

    // MARK: Objects

    private func bring(_ object: Archive.Object) async throws {
        let path = try archive.file(of: object.key)
        if try await objects.size(of: object.key) != nil {
            guard try await isStored(object) else {
                throw CohortError(.conflict, "the object \(object.key) is there already, and another: import into stores that are empty")
            }
            return
        }
        let file = try ArchivedFile(path)
        let writer = try await objects.writer(key: object.key)
        do {
            var hash = SHA256()
            while let chunk = try file.next() {
                hash.update(data: chunk)
                try await writer.write(chunk)
            }
            guard hash.finalize().hexadecimal == object.sha256 else {
                throw CohortError(.invalid, "\(path) has another SHA-256 than objects.ndjson says: the archive is damaged")
            }
            _ = try await writer.finish()
        } catch {
            await writer.abort()
            throw error
        }
        guard try await isStored(object) else {
            throw CohortError(.internal, "the object \(object.key) was stored, but other bytes came back")
        }
    }

    private func isStored(_ object: Archive.Object) async throws -> Bool {
        guard try await objects.size(of: object.key) == object.bytes else { return false }
        var hash = SHA256()
        for try await chunk in try await objects.read(object.key, from: 0) { hash.update(data: chunk) }
        return hash.finalize().hexadecimal == object.sha256
    }
}
