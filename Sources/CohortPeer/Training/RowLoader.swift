import CohortClient
import CohortCore
import CohortSystem
import CohortTraining
import CohortWire
import Crypto
import FoundationEssentials
import Logging

/// Holds the rows of the session that this peer trains in, and fetches those that it lacks. Lives on the training thread.
final class RowLoader {
    private let engine: LazyEngine
    private let objects: ObjectTransfer
    private let cache: RowCache
    private let limiter: LoadLimiter
    private let report: @Sendable (PeerActivity) -> Void
    private let logger: Logger
    private var opened: (sessionId: String, local: LocalTable)?
    private var dataset: Dataset?
    /// The rows that `dataset` has.
    private var preparedRows = RowSet()

    init(
        engine: LazyEngine, objects: ObjectTransfer, cache: RowCache, limiter: LoadLimiter,
        report: @escaping @Sendable (PeerActivity) -> Void, logger: Logger
    ) {
        self.engine = engine
        self.objects = objects
        self.cache = cache
        self.limiter = limiter
        self.report = report
        self.logger = logger
    }

    func release() { (opened, dataset) = (nil, nil) }

    /// The address of a session's table, and the credential for it.
    struct Source: Sendable {
        var sessionId: String
        var peerId: String
        var credential: String

        func path(_ rest: String) -> String { "/peers/\(peerId.percentEncoded())/sessions/\(sessionId.percentEncoded())/\(rest)" }
    }

    /// - Parameters:
    ///   - rows: the places in the table that are needed, by the table's parts.
    ///   - data: their records, where they came with the message.
    /// - Throws: ``CohortError`` `invalid` for a manifest and rows that do not fit; `storageFull` when there is no space for the rows, even without
    ///   those of other sessions; what fetching throws. `CancellationError` when stopped.
    nonisolated(nonsending) func dataset(
        _ link: TableLink, data: Data?, from source: Source, control: RunControl, progress: ProgressReporter,
        rows: (TableParts) throws -> [RowRange]
    ) async throws -> Dataset {
        let local = try await table(link, from: source)
        let rows = try rows(local.manifest.parts)
        do {
            try await fetch(rows, of: local, data: data, from: source, control: control, progress: progress)
        } catch let error as CohortError where error.code == .storageFull && cache.clear(keeping: source.sessionId) {
            // Other sessions' rows go before this one fails.
            try await fetch(rows, of: local, data: data, from: source, control: control, progress: progress)
        }
        let engine = try engine.loaded()
        // Packed rows that are added later are in the same table.
        if let dataset, engine.readsPackedRows || preparedRows == local.rows { return dataset }
        let table = engine.readsPackedRows ? local.table : try local.expanded(in: cache.folder)
        let made = Dataset(manifest: local.manifest, prepared: try engine.prepare(table))
        (dataset, preparedRows) = (made, local.rows)
        return made
    }

    private nonisolated(nonsending) func fetch(
        _ rows: [RowRange], of local: LocalTable, data: Data?, from source: Source, control: RunControl, progress: ProgressReporter
    ) async throws {
        let (parts, size) = (local.manifest.parts, local.manifest.layout.recordBytes)
        for range in rows where !range.isValid(among: parts.rows) {
            throw CohortError(.invalid, "rows \(range.start) to \(range.end) were assigned, but the table has \(parts.rows)")
        }
        if let data {
            guard data.count == rows.reduce(0, { $0 + $1.count }) * size else {
                throw CohortError(.invalid, "row_data has \(data.count) bytes, its rows have \(rows.reduce(0) { $0 + $1.count } * size)")
            }
            var start = data.startIndex
            for range in rows where range.count > 0 {
                try local.add(data[start..<(start + range.count * size)], at: range)
                start += range.count * size
            }
            return
        }
        let missing = RowSet(rows.flatMap(local.rows.missing))
        guard !missing.isEmpty else { return }
        let total = missing.count * size
        cache.makeRoom(for: total, keeping: source.sessionId)
        for range in missing.ranges { try local.reserve(range) }
        report(.loading(bytes: total))
        logger.info("fetching rows", metadata: ["rows": "\(missing.count)", "bytes": "\(total)"])
        var done = 0
        for range in missing.ranges {
            for number in parts.parts(of: range.start..<range.end) {
                try control.check()
                let there = parts.rows(of: number)
                let wanted = (range.start..<range.end).clamped(to: there)
                let isWhole = wanted == there
                let query = isWhole ? "" : "?start=\(wanted.lowerBound)&end=\(wanted.upperBound)"
                let records = try await objects.get(
                    source.path("parts/\(number)\(query)"), sha256: isWhole ? local.manifest.partSha256[number] : nil,
                    limit: wanted.count * size, credential: source.credential)
                try local.add(records, at: RowRange(start: wanted.lowerBound, end: wanted.upperBound))
                done += records.count
                progress.sign(.loading, Double(done) / Double(total))
            }
        }
        limiter.begin()
    }

    private nonisolated(nonsending) func table(_ link: TableLink, from source: Source) async throws -> LocalTable {
        if let opened, opened.sessionId == source.sessionId, opened.local.sha256 == link.tableSha256 { return opened.local }
        release()
        cache.begin(session: source.sessionId)
        guard link.tableSha256.isSHA256 else { throw CohortError(.invalid, "table_sha256 is no SHA-256 in hexadecimal") }
        var manifest = link.table
        if manifest == nil {
            let bytes = try await objects.get(
                source.path("table"), sha256: link.tableSha256, limit: 64 << 20, credential: source.credential)
            manifest = try CohortJSON.decode(TableManifest.self, from: bytes)
        }
        guard let manifest else { throw CohortError(.internal, "no manifest") }
        try manifest.check()
        var dictionary = manifest.dictionary.map { Array($0) }
        if dictionary == nil {
            dictionary = try await objects.get(
                source.path("table/dictionary"), sha256: manifest.dictionarySha256, limit: 4 * manifest.dictionaryFloats,
                credential: source.credential)
        }
        let path = try cache.path(session: source.sessionId)
        let local = try LocalTable(
            manifest, sha256: link.tableSha256, dictionary: try manifest.floats(ofDictionary: dictionary ?? []), path: path)
        cache.markUsed(path)
        opened = (source.sessionId, local)
        return local
    }
}
