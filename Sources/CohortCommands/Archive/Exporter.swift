import CohortCore
import CohortSession
import CohortSystem
import Crypto
import FoundationEssentials
import SystemPackage

/// Writes an ``Archive`` of the stores, which no process writes to meanwhile.
struct Exporter {
    private static let page = 200

    let documents: any Documents
    let objects: any ObjectStore
    let archive: Archive

    /// - Returns: what was written.
    /// - Throws: ``CohortError``: `conflict` when the folder holds something, `storageFull`, or what reading failed with.
    func run() async throws -> Archive.Manifest {
        let manager = FileManager.default
        // One that is not there holds nothing; no file is written over in any case.
        if let there = try? manager.contentsOfDirectory(atPath: archive.path), !there.isEmpty {
            throw CohortError(.conflict, "\(archive.path) is not empty: name a new folder")
        }
        do {
            try manager.createDirectory(
                atPath: "\(archive.path)/objects", withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            try manager.setAttributes([.posixPermissions: 0o700], ofItemAtPath: archive.path)
        } catch {
            throw CohortError(.invalid, "the folder \(archive.path) could not be created: \(error)")
        }
        // Documents first: what they name is there until after them.
        let (counts, documentsHash) = try await writeDocuments()
        let (number, bytes, objectsHash) = try await writeObjects()
        let manifest = Archive.Manifest(
            format: Archive.format, version: CohortVersion.current, createdAt: Date(), documents: counts, documentsSha256: documentsHash,
            objects: number, objectBytes: bytes, objectsSha256: objectsHash)
        let file = try LinesFile(archive.manifestFile)
        try file.add(manifest)
        _ = try file.finish()
        return manifest
    }

    private func writeDocuments() async throws -> (counts: Archive.Counts, sha256: String) {
        let file = try LinesFile(archive.documentsFile)
        var counts = Archive.Counts()
        func add(_ document: Archive.Document) throws {
            try file.add(document)
            counts.add(document)
        }
        try await all(documents.users) { user in
            try add(.user(user))
            for token in try await documents.joinTokens(userId: user.id) { try add(.token(token)) }
            for signIn in try await documents.signIns(userId: user.id) { try add(.signIn(signIn)) }
        }
        try await all(documents.peers) { try add(.peer($0)) }
        try await all(documents.deletedPeers) { try add(.deletedPeer($0)) }
        try await all(documents.sessions) { session in
            try add(.session(try await documents.recorded(session)))
        }
        return (counts, try file.finish())
    }

    private func all<Value: Identifiable>(
        _ page: (String?, Int) async throws -> [Value], _ body: (Value) async throws -> Void
    ) async throws where Value.ID == String {
        var last: String?
        while true {
            let some = try await page(last, Self.page)
            for value in some { try await body(value) }
            guard let id = some.last?.id else { return }
            last = id
        }
    }

    private func writeObjects() async throws -> (number: Int, bytes: Int, sha256: String) {
        let lines = try LinesFile(archive.objectsFile)
        var (number, bytes) = (0, 0)
        for key in try await objects.list(prefix: "") {
            let object = try await write(key)
            try lines.add(object)
            number += 1
            bytes += object.bytes
        }
        return (number, bytes, try lines.finish())
    }

    private func write(_ key: String) async throws -> Archive.Object {
        let path = try archive.file(of: key)
        let folder = path.prefix(upTo: path.lastIndex(of: "/") ?? path.endIndex)
        do {
            try FileManager.default.createDirectory(
                atPath: String(folder), withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
            throw CohortError(.invalid, "the folder \(folder) could not be created: \(error)")
        }
        let descriptor = try archiving(path) {
            try FileDescriptor.open(
                FilePath(path), .writeOnly, options: [.create, .exclusiveCreate], permissions: [.ownerRead, .ownerWrite])
        }
        var hash = SHA256()
        var bytes = 0
        do {
            for try await chunk in try await objects.read(key, from: 0) {
                hash.update(data: chunk)
                bytes += chunk.count
                _ = try archiving(path) { try descriptor.writeAll(chunk) }
            }
        } catch {
            try? descriptor.close()  // The first error is the one to tell.
            throw error
        }
        try archiving(path) { try descriptor.synchronizeAndClose() }
        return Archive.Object(key: key, sha256: hash.finalize().hexadecimal, bytes: bytes)
    }
}

extension Documents {
    /// The session with its records.
    func recorded(_ session: Session) async throws -> Archive.RecordedSession {
        Archive.RecordedSession(
            session: session, rounds: try await rounds(sessionId: session.id), answers: try await answers(sessionId: session.id),
            points: try await metrics(sessionId: session.id))
    }
}
