public import CohortCore
import CohortSystem
import Crypto
import FoundationEssentials

/// A session's packed table in the object store: the manifest, the dictionary, and each part under its SHA-256.
public struct StoredTable: Sendable {
    public let manifest: TableManifest
    /// The SHA-256 of the manifest's JSON, and its bytes.
    public let reference: ObjectReference
    private let objects: any ObjectStore
    private let prefix: String
    /// The records of a table of one part, where they were made.
    private var onlyPart: [UInt8]?

    /// The beginning of the keys of a session's table.
    public static func prefix(sessionId: String) -> String { "tables/\(sessionId)/" }

    public static func manifestKey(sessionId: String) -> String { "\(prefix(sessionId: sessionId))manifest.json" }

    /// Stores a table; one that is there is replaced by the same bytes. All is there when this returns.
    public static func store(
        _ packer: TablePacker, plan: RecordPlan, schema: TableSchema, sessionId: String, in objects: any ObjectStore
    ) async throws -> StoredTable {
        let prefix = prefix(sessionId: sessionId)
        var hashes: [String] = []
        var last: [UInt8] = []
        for number in 0..<packer.parts.count {
            let (bytes, sha256) = try await onOwnThread { _ in
                let bytes = try packer.part(number)
                return (bytes, SHA256.hash(data: bytes).hexadecimal)
            }
            hashes.append(sha256)
            if number + 1 == packer.parts.count {
                last = bytes
            } else {
                _ = try await objects.put(bytes, key: prefix + sha256)
            }
        }
        let (lastBytes, lastKey) = (last, prefix + (hashes.last ?? ""))
        async let lastPart = objects.put(lastBytes, key: lastKey)
        let dictionary = plan.dictionary.flatMap { value in withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) } }
        let manifest = TableManifest(
            task: schema.task, outputs: schema.outputCount, layout: plan.layout, parts: packer.parts, partSha256: hashes,
            dictionary: Data(dictionary), dictionarySha256: SHA256.hash(data: dictionary).hexadecimal)
        if manifest.dictionary == nil { _ = try await objects.put(dictionary, key: prefix + manifest.dictionarySha256) }
        let reference = try await objects.put(try CohortJSON.encode(manifest), key: manifestKey(sessionId: sessionId))
        _ = try await lastPart
        var stored = StoredTable(manifest: manifest, reference: reference, objects: objects, prefix: prefix)
        if packer.parts.count == 1 { stored.onlyPart = lastBytes }
        return stored
    }

    private init(manifest: TableManifest, reference: ObjectReference, objects: any ObjectStore, prefix: String) {
        (self.manifest, self.reference, self.objects, self.prefix) = (manifest, reference, objects, prefix)
    }

    /// Reads the manifest of a session's table.
    /// - Throws: ``CohortError`` `notFound` when there is none, `internal` for one that is damaged.
    public init(sessionId: String, in objects: any ObjectStore) async throws {
        let key = Self.manifestKey(sessionId: sessionId)
        let bytes: [UInt8]
        do {
            bytes = try await objects.get(key)
        } catch let error as CohortError where error.code == .notFound {
            throw CohortError(
                .notFound, "the table of session \(sessionId) is not there: the session is over, or was begun by an older version")
        }
        do {
            let manifest = try CohortJSON.decode(TableManifest.self, from: bytes)
            try manifest.check()
            let reference = ObjectReference(key: key, sha256: SHA256.hash(data: bytes).hexadecimal, bytes: bytes.count)
            self.init(manifest: manifest, reference: reference, objects: objects, prefix: Self.prefix(sessionId: sessionId))
        } catch let error as CohortError where error.code == .invalid {
            throw CohortError(.internal, "the object \(key) is damaged: \(error.message)")
        }
    }

    public func key(ofPart part: Int) -> String { prefix + manifest.partSha256[part] }

    /// The rows of a part, compared with its hash.
    /// - Throws: ``CohortError`` `internal` for a part that is damaged.
    public func part(_ number: Int) async throws -> [UInt8] {
        if let onlyPart { return onlyPart }
        return try await verified(manifest.partSha256[number], bytes: manifest.parts.rows(of: number).count * manifest.parts.recordBytes)
    }

    /// The dictionary's bytes.
    public func dictionary() async throws -> [UInt8] {
        if let dictionary = manifest.dictionary { return Array(dictionary) }
        return try await verified(manifest.dictionarySha256, bytes: 4 * manifest.dictionaryFloats)
    }

    /// The records of these rows, one behind the other. In memory.
    public func records(_ rows: Range<Int>) async throws -> [UInt8] {
        let parts = manifest.parts
        var records: [UInt8] = []
        records.reserveCapacity(rows.count * parts.recordBytes)
        for number in parts.parts(of: rows) {
            let there = parts.rows(of: number)
            let wanted = rows.clamped(to: there)
            let bytes = try await part(number)
            records +=
                bytes[
                    ((wanted.lowerBound - there.lowerBound) * parts.recordBytes)..<((wanted.upperBound - there.lowerBound)
                        * parts.recordBytes)]
        }
        return records
    }

    private func verified(_ sha256: String, bytes count: Int) async throws -> [UInt8] {
        let bytes = try await objects.get(prefix + sha256)
        let found = bytes.count > 1 << 20 ? try await onOwnThread { _ in SHA256.hash(data: bytes) } : SHA256.hash(data: bytes)
        guard bytes.count == count, found.hexadecimal == sha256 else {
            throw CohortError(.internal, "the object \(prefix)\(sha256) is damaged: its bytes do not match its name")
        }
        return bytes
    }
}
