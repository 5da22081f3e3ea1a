import CohortClient
import CohortCore
import CohortSystem
import CohortTraining
import CohortWire
import Crypto
import Logging

/// Opens data sets: the one that is open, one from the cache, or one that is downloaded first. Lives on the training thread.
final class DatasetLoader {
    private let engine: LazyEngine
    private let objects: ObjectTransfer
    private let cache: DatasetCache
    private let limiter: LoadLimiter
    private let report: @Sendable (PeerActivity) -> Void
    private let logger: Logger
    private var opened: Dataset?

    init(
        engine: LazyEngine, objects: ObjectTransfer, cache: DatasetCache, limiter: LoadLimiter,
        report: @escaping @Sendable (PeerActivity) -> Void, logger: Logger
    ) {
        self.engine = engine
        self.objects = objects
        self.cache = cache
        self.limiter = limiter
        self.report = report
        self.logger = logger
    }

    func release() { opened = nil }

    /// - Throws: ``CohortError`` `invalid` for links and data that do not fit; `storageFull` when there is no space for the table, even without
    ///   the other data sets of the cache; what the download throws. `CancellationError` when stopped.
    nonisolated(nonsending) func dataset(
        _ links: DatasetLinks, control: RunControl, progress: ProgressReporter
    ) async throws -> Dataset {
        let inline = try links.schemaSha256 == nil ? links.schema.map { try CohortJSON.encode($0) } : nil
        guard let schemaHash = links.schemaSha256 ?? inline.map({ SHA256.hash(data: $0).hexadecimal }) else {
            throw CohortError(.invalid, "TRAIN has neither a schema nor a schema_sha256")
        }
        if let opened, opened.csvSha256 == links.csvSha256, opened.schemaHash == schemaHash { return opened }
        opened = nil
        let schema = try await schema(links)
        try schema.check()
        guard let name = links.csvSha256.safeFileName, schemaHash.safeFileName != nil else {
            throw CohortError(.invalid, "csv_sha256 is not a SHA-256 in hexadecimal")
        }
        let paths = Paths(
            csv: cache.csvPath(sha256: name), table: cache.tablePath(csvSha256: name, schemaHash: schemaHash))
        func open() throws -> Dataset {
            Dataset(
                csvSha256: links.csvSha256, schemaHash: schemaHash, schema: schema,
                prepared: try engine.loaded().prepare(try TableLoader.open(cacheAt: paths.table)))
        }
        if let cached = try? open() {
            cache.markUsed(paths.table)
            opened = cached
            return cached
        }
        do {
            try await makeTable(at: paths, schema: schema, links: links, control: control, progress: progress)
        } catch let error as CohortError where error.code == .storageFull && cache.clear(keeping: paths.inUse) {
            // Other data sets go before this one fails.
            try await makeTable(at: paths, schema: schema, links: links, control: control, progress: progress)
        }
        cache.makeRoom(for: 0, keeping: paths.inUse)
        let made = try open()
        opened = made
        return made
    }

    private struct Paths {
        let csv: String
        let table: String
        var part: String { "\(csv).part" }
        var inUse: Set<String> { [csv, part, table] }
    }

    private nonisolated(nonsending) func makeTable(
        at paths: Paths, schema: TableSchema, links: DatasetLinks, control: RunControl, progress: ProgressReporter
    ) async throws {
        do {
            if !cache.has(paths.csv, bytes: links.csvBytes) {
                cache.makeRoom(for: links.csvBytes, keeping: paths.inUse)
                report(.loading(bytes: links.csvBytes))
                logger.info("downloading the data set", metadata: ["bytes": "\(links.csvBytes)"])
                try await objects.download(links.csvUrl, to: paths.csv, sha256: links.csvSha256, bytes: links.csvBytes) {
                    progress.sign(.loading, $0)
                }
            }
            limiter.begin()
            try TableLoader.build(csvAt: paths.csv, schema: schema, cacheAt: paths.table) {
                limiter.shouldContinue(control, progress: progress, phase: .loading)
            }
        } catch let error as CohortError where error.code == .storageFull {
            // A full disk is not kept full for a download that cannot end.
            cache.remove(paths.part)
            throw error
        }
    }

    private nonisolated(nonsending) func schema(_ links: DatasetLinks) async throws -> TableSchema {
        if let schema = links.schema { return schema }
        guard let link = links.schemaUrl else { throw CohortError(.invalid, "TRAIN has neither a schema nor a schema_url") }
        return try CohortJSON.decode(TableSchema.self, from: try await objects.get(link, sha256: links.schemaSha256, limit: 256 << 20))
    }
}

extension String {
    /// Itself when it is 64 hexadecimal digits: it becomes a file's name.
    fileprivate var safeFileName: String? { utf8.count == 64 && allSatisfy(\.isHexDigit) ? self : nil }
}
