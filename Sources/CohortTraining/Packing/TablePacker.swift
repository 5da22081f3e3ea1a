public import CohortCore

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// A session's rows as records, made in one pass over the CSV: in memory when they are few, else in a file without a name, of which each part has a
/// region. Rows of a region come in the order of the CSV; reading the part puts them in their places.
public final class TablePacker: @unchecked Sendable {
    // @unchecked: nothing is written after `init`.

    /// Bytes of a table that stays in memory.
    private static let mostInMemory = 32 << 20
    /// Bytes that wait in memory for a part's region.
    private static let waitingBytes = 64 << 10

    public let parts: TableParts
    private let places: [UInt32]
    /// All rows, where there is no file.
    private var memory: [UInt8] = []
    private let regions: PartRegions?
    private var training = 0
    private var validation = 0

    /// Parses the CSV and packs its rows.
    /// - Parameters:
    ///   - seed: of the order of the training rows.
    ///   - folder: of the file that a large table needs, whose space is taken at the beginning.
    ///   - threads: nil: as many as there are cores. The rows do not depend on it.
    ///   - shouldContinue: asked about every 1,024 rows.
    /// - Throws: ``CohortError`` `invalid` with line and column; `storageFull`; `CancellationError` when told to stop.
    public convenience init(
        csvAt path: String, schema: TableSchema, plan: RecordPlan, seed: UInt64, folder: String, threads: Int? = nil,
        shouldContinue: () -> Bool = { true }
    ) throws {
        try self.init(
            csvAt: path, schema: schema, plan: plan, seed: seed, folder: folder, threads: threads, mostInMemory: Self.mostInMemory,
            shouldContinue: shouldContinue)
    }

    init(
        csvAt path: String, schema: TableSchema, plan: RecordPlan, seed: UInt64, folder: String, threads: Int?, mostInMemory: Int,
        shouldContinue: () -> Bool = { true }
    ) throws {
        let layout = plan.layout
        parts = TableParts(trainingRows: schema.trainingRows, validationRows: schema.validationRows, recordBytes: layout.recordBytes)
        guard parts.rows > 0, parts.rows < Int(UInt32.max), layout.featureCount > 0 else {
            throw CohortError(.invalid, "a table of \(parts.rows) rows and \(layout.featureCount) features cannot be trained on")
        }
        places = parts.places(seed: seed)
        regions = parts.bytes <= mostInMemory ? nil : try PartRegions(parts, folder: folder, waitingBytes: Self.waitingBytes)
        if regions == nil { memory = [UInt8](repeating: 0, count: parts.bytes) }
        let encoder = try RecordEncoder(schema, plan)
        var usable = try UsableRows(schema: schema)
        let parallel = InParallel(threads: threads)
        let scratch = UnsafeMutableBufferPointer<Float>.allocate(capacity: max(1, parallel.threads * encoder.scratchCount))
        defer { scratch.deallocate() }
        var staged: [UInt8] = []
        var batch: [(record: CSVRecord, target: Double, place: Int)] = []
        let reader = CSVReader(path: path, format: try CSVFormat(schema))
        try SchemaInference.forEachBatch(reader, hasHeader: schema.hasHeader, shouldContinue) { records in
            batch.removeAll(keepingCapacity: true)
            // Which row a record is depends on those before it; its features do not.
            let rest = Result {
                for record in records {
                    guard let row = try usable.next(record) else { continue }
                    batch.append((record, row.target, try nextPlace(isValidation: row.isValidation)))
                }
            }
            let bytes = batch.count * layout.recordBytes
            if staged.count < bytes { staged = [UInt8](repeating: 0, count: bytes) }
            try staged.withUnsafeMutableBytes { staged in
                guard let base = staged.baseAddress else { return }
                try parallel.divide(batch.count) { range, part in
                    let mine = UnsafeMutableBufferPointer(
                        rebasing: scratch[(part * encoder.scratchCount)..<((part + 1) * encoder.scratchCount)])
                    for index in range {
                        try encoder.encode(
                            batch[index].record, target: batch[index].target, into: base + index * layout.recordBytes, scratch: mine)
                    }
                }
                for (index, row) in batch.enumerated() {
                    try put(UnsafeRawBufferPointer(start: base + index * layout.recordBytes, count: layout.recordBytes), at: row.place)
                }
            }
            // A fault of a record is reported after the faults of those before it.
            try rest.get()
        }
        guard training == schema.trainingRows, validation == schema.validationRows else {
            throw CohortError(
                .invalid,
                "the file has \(training) training and \(validation) validation rows where its schema says \(schema.trainingRows) and \(schema.validationRows)"
            )
        }
        try regions?.flush()
    }

    private func nextPlace(isValidation: Bool) throws -> Int {
        guard isValidation ? validation < parts.validationRows : training < parts.trainingRows else {
            throw CohortError(.invalid, "the file has more rows than the \(parts.rows) that its schema says")
        }
        defer { if isValidation { validation += 1 } else { training += 1 } }
        return isValidation ? parts.trainingRows + validation : Int(places[training])
    }

    private func put(_ record: UnsafeRawBufferPointer, at place: Int) throws {
        guard let regions else {
            return memory.withUnsafeMutableBytes { memory in
                UnsafeMutableRawBufferPointer(rebasing: memory[(place * record.count)..<((place + 1) * record.count)]).copyMemory(
                    from: record)
            }
        }
        try regions.put(record, at: place)
    }

    /// A part's rows in their order.
    /// - Throws: ``CohortError`` `internal` when the file cannot be read.
    public func part(_ number: Int) throws -> [UInt8] {
        if let regions { return try regions.part(number) }
        let rows = parts.rows(of: number)
        return Array(memory[(rows.lowerBound * parts.recordBytes)..<(rows.upperBound * parts.recordBytes)])
    }
}

/// A file with a region for each part of a table. A row is there with its place in the part (32 bits) before it.
private final class PartRegions {
    private let parts: TableParts
    private let file: Int32
    private let path: String
    private let rowBytes: Int
    private var waiting: [[UInt8]]
    private let waitingBytes: Int
    /// Bytes of each region that are written.
    private var written: [Int]

    init(_ parts: TableParts, folder: String, waitingBytes: Int) throws {
        self.parts = parts
        self.waitingBytes = waitingBytes
        rowBytes = parts.recordBytes + 4
        path = "\(folder)/\(newIdentifier()).rows"
        file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        waiting = .init(repeating: [], count: parts.count)
        written = .init(repeating: 0, count: parts.count)
        guard file >= 0 else { throw failure() }
        unlink(path)
        // Space is taken now: a full disk is known at the beginning.
        let taken = posix_fallocate(file, 0, off_t(parts.rows * rowBytes))
        guard taken == 0 else {
            errno = taken
            throw failure()
        }
    }

    deinit { if file >= 0 { close(file) } }

    func put(_ record: UnsafeRawBufferPointer, at place: Int) throws {
        let part = place / parts.rowsPerPart
        withUnsafeBytes(of: UInt32(place % parts.rowsPerPart)) { waiting[part].append(contentsOf: $0) }
        waiting[part].append(contentsOf: record)
        if waiting[part].count >= waitingBytes { try flush(part) }
    }

    func flush() throws {
        for part in waiting.indices { try flush(part) }
        waiting = []
    }

    private func flush(_ part: Int) throws {
        let start = part * parts.rowsPerPart * rowBytes + written[part]
        try waiting[part].withUnsafeBytes { bytes in
            var done = 0
            while done < bytes.count {
                let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
                let count = pwrite(file, rest.baseAddress, rest.count, off_t(start + done))
                if count < 0 {
                    if errno == EINTR { continue }
                    throw failure()
                }
                done += count
            }
        }
        written[part] += waiting[part].count
        waiting[part].removeAll(keepingCapacity: true)
    }

    func part(_ number: Int) throws -> [UInt8] {
        let rows = parts.rows(of: number)
        let start = rows.lowerBound * rowBytes
        var scattered = [UInt8](repeating: 0, count: rows.count * rowBytes)
        try scattered.withUnsafeMutableBytes { bytes in
            var done = 0
            while done < bytes.count {
                let rest = UnsafeMutableRawBufferPointer(rebasing: bytes[done...])
                let count = pread(file, rest.baseAddress, rest.count, off_t(start + done))
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { throw failure() }
                done += count
            }
        }
        let recordBytes = parts.recordBytes
        return [UInt8](unsafeUninitializedCapacity: rows.count * recordBytes) { ordered, count in
            scattered.withUnsafeBytes { scattered in
                for row in 0..<rows.count {
                    let from = row * rowBytes
                    let place = Int(scattered.loadUnaligned(fromByteOffset: from, as: UInt32.self))
                    UnsafeMutableRawBufferPointer(
                        UnsafeMutableBufferPointer(rebasing: ordered[(place * recordBytes)..<((place + 1) * recordBytes)])
                    )
                    .copyMemory(from: UnsafeRawBufferPointer(rebasing: scattered[(from + 4)..<(from + rowBytes)]))
                }
            }
            count = rows.count * recordBytes
        }
    }

    private func failure() -> CohortError {
        errno == ENOSPC
            ? CohortError(.storageFull, "no space is left for the \(parts.rows * rowBytes) bytes of \(path)")
            : CohortError(.internal, "\(path): \(String(cString: strerror(errno)))")
    }
}
