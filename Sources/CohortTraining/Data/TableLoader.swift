public import CohortCore
import Dispatch
import FoundationEssentials

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Reads a CSV into a table that engines train on, by way of a binary file that is mapped: memory is the system's to give and take.
public enum TableLoader {
    /// The file: magic (8 bytes), then as 64-bit little-endian words rows, features, training rows, validation rows, a checksum of these;
    /// then features (rows × features floats), targets (rows floats), training rows and validation rows (32-bit each).
    private static let magic: UInt64 = 0x3130_4c42_5448_4f43  // "COHTBL01"
    private static let headerBytes = 48

    /// Parses `path` and writes the binary table beside `cache`, then renames it there: it is whole or not there.
    /// - Parameters:
    ///   - threads: nil: as many as there are cores. The table does not depend on it.
    ///   - shouldContinue: asked about every 1,024 rows.
    /// - Throws: ``CohortError`` `invalid` with line and column; `storageFull`; `CancellationError` when told to stop.
    public static func build(
        csvAt path: String, schema: TableSchema, cacheAt cache: String, threads: Int? = nil, shouldContinue: () -> Bool = { true }
    ) throws {
        let features = schema.featureCount
        let rows = schema.trainingRows + schema.validationRows
        guard rows > 0, rows < Int(UInt32.max), features > 0 else {
            throw CohortError(.invalid, "a table of \(rows) rows and \(features) features cannot be trained on")
        }
        let temporary = "\(cache).\(newIdentifier()).part"
        let file = systemOpen(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC)
        guard file >= 0 else { throw failure(temporary) }
        var done = false
        defer {
            close(file)
            if !done { unlink(temporary) }
        }
        let featureBytes = rows * features * 4
        let size = headerBytes + featureBytes + rows * 8
        // Space is taken now: a full disk is an error here, not a signal while writing to the mapping.
        let taken = posix_fallocate(file, 0, off_t(size))
        guard taken == 0 else {
            errno = taken
            throw failure(temporary)
        }
        let output = PositionedFile(descriptor: file, path: temporary)
        let targetsStart = headerBytes + featureBytes
        let indicesStart = targetsStart + rows * 4
        var targets = WordWriter(output, at: targetsStart)
        var training = WordWriter(output, at: indicesStart)
        var validation = WordWriter(output, at: indicesStart + schema.trainingRows * 4)
        let transform = RowTransform(schema: schema)
        guard let target = schema.columns.firstIndex(where: { $0.kind == .target }) else {
            throw CohortError(.invalid, "the schema has no target column")
        }
        let mean = schema.columns[target].mean ?? 0
        let std = schema.columns[target].std ?? 1
        let parallel = InParallel(threads: threads)
        // Rows are made a few at a time, in memory of each thread's own, and written where they belong.
        let few = max(1, (1 << 19) / (features * 4))
        let buffer = UnsafeMutableBufferPointer<Float>.allocate(capacity: parallel.threads * few * features)
        defer { buffer.deallocate() }
        var usable = try UsableRows(schema: schema)
        var row = 0
        var batch: [CSVRecord] = []
        let reader = CSVReader(path: path, format: try CSVFormat(schema))
        try SchemaInference.forEachBatch(reader, hasHeader: schema.hasHeader, shouldContinue) { records in
            let firstRow = row
            batch.removeAll(keepingCapacity: true)
            // Which row a record is depends on those before it; its features do not.
            let rest = Result {
                for record in records {
                    guard let kind = try usable.next(record) else { continue }
                    guard row < rows else { throw CohortError(.invalid, "the file has more rows than the \(rows) that its schema says") }
                    if kind.isValidation { try validation.append(UInt32(row)) } else { try training.append(UInt32(row)) }
                    try targets.append(Float(schema.task == .classification ? kind.target : (kind.target - mean) / std).bitPattern)
                    batch.append(record)
                    row += 1
                }
            }
            try parallel.divide(batch.count) { range, part in
                let mine = UnsafeMutableBufferPointer(rebasing: buffer[(part * few * features)..<((part + 1) * few * features)])
                for start in stride(from: range.lowerBound, to: range.upperBound, by: few) {
                    let count = min(few, range.upperBound - start)
                    let values = UnsafeMutableBufferPointer(rebasing: mine[..<(count * features)])
                    // What the transform leaves alone is 0.
                    values.update(repeating: 0)
                    for index in 0..<count {
                        let place = (index * features)..<((index + 1) * features)
                        try transform.encode(batch[start + index], into: UnsafeMutableBufferPointer(rebasing: values[place]))
                    }
                    try output.write(UnsafeRawBufferPointer(values), at: headerBytes + (firstRow + start) * features * 4)
                }
            }
            // A fault of a record is reported after the faults of those before it.
            try rest.get()
        }
        guard training.count == schema.trainingRows, validation.count == schema.validationRows else {
            throw CohortError(
                .invalid,
                "the file has \(training.count) training and \(validation.count) validation rows where its schema says \(schema.trainingRows) and \(schema.validationRows)"
            )
        }
        try targets.flush()
        try training.flush()
        try validation.flush()
        try header(rows: rows, features: features, training: training.count, validation: validation.count).withUnsafeBytes {
            try output.write($0, at: 0)
        }
        guard fsync(file) == 0, rename(temporary, cache) == 0 else { throw failure(cache) }
        done = true
    }

    /// Maps a table that `build` wrote.
    /// - Throws: ``CohortError`` `invalid` when the file is damaged or of another version.
    public static func open(cacheAt path: String) throws -> FeatureTable {
        let file = systemOpen(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw failure(path) }
        var about = stat()
        guard fstat(file, &about) == 0 else {
            close(file)
            throw failure(path)
        }
        let size = Int(about.st_size)
        let damaged = CohortError(.invalid, "\(path) is damaged: it is not a whole table of this version")
        guard size >= headerBytes, let mapping = Mapping(file, size: size) else {
            close(file)
            throw damaged
        }
        let base = mapping.base
        // Of a table that is read in blocks only what is asked for is read: `EpochOrder` says what comes next.
        if size > EpochOrder.Limits().whole { mapping.readNothingAhead() }
        let words = (0..<6).map { base.load(fromByteOffset: $0 * 8, as: UInt64.self) }
        let limit = UInt64(1) << 40
        guard words[0] == magic, words[1] < limit, words[2] < limit, words[3] <= words[1], words[4] <= words[1],
            words == header(rows: Int(words[1]), features: Int(words[2]), training: Int(words[3]), validation: Int(words[4])),
            case let (cells, overflow) = Int(words[1]).multipliedReportingOverflow(by: Int(words[2])), !overflow, cells < Int(limit),
            words[3] + words[4] == words[1], size == headerBytes + cells * 4 + Int(words[1]) * 8
        else { throw damaged }
        let rows = Int(words[1])
        let features = Int(words[2])
        let targetsStart = headerBytes + rows * features * 4
        let indicesStart = targetsStart + rows * 4
        let indices = UnsafeRawPointer(base + indicesStart).assumingMemoryBound(to: UInt32.self)
        let training = [UInt32](UnsafeBufferPointer(start: indices, count: Int(words[3])))
        let validation = [UInt32](UnsafeBufferPointer(start: indices + training.count, count: rows - training.count))
        guard training.allSatisfy({ $0 < rows }), validation.allSatisfy({ $0 < rows }) else { throw damaged }
        return FeatureTable(
            .dense(
                features: UnsafePointer((base + headerBytes).assumingMemoryBound(to: Float.self)),
                targets: UnsafePointer((base + targetsStart).assumingMemoryBound(to: Float.self))), rowCount: rows, featureCount: features,
            trainingRows: training, validationRows: validation,
            file: .init(descriptor: file, bytes: size, featuresStart: headerBytes, targetsStart: targetsStart),
            willNeed: { rows in
                mapping.readAhead((headerBytes + rows.lowerBound * features * 4)..<(headerBytes + rows.upperBound * features * 4))
            }, release: { _ = mapping })
    }

    private static func header(rows: Int, features: Int, training: Int, validation: Int) -> [UInt64] {
        let words = [magic] + [rows, features, training, validation].map { UInt64($0) }
        var mixer = SeededGenerator(seed: words.reduce(0) { ($0 ^ $1) &* 0x0000_0100_0000_01b3 })
        return words + [mixer.next()]
    }

    fileprivate static func failure(_ path: String) -> CohortError {
        errno == ENOSPC
            ? CohortError(.storageFull, "no space is left for \(path)")
            : CohortError(.invalid, "\(path): \(String(cString: strerror(errno)))")
    }
}

/// A file that is written in any order, by any thread.
private struct PositionedFile {
    let descriptor: Int32
    let path: String

    func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws {
        var written = 0
        while written < bytes.count {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[written...])
            let count = pwrite(descriptor, rest.baseAddress, rest.count, off_t(offset + written))
            if count < 0 {
                if errno == EINTR { continue }
                throw TableLoader.failure(path)
            }
            written += count
        }
    }
}

/// Words that follow one another in a file, written many at a time.
private struct WordWriter {
    private static let many = 1 << 14

    private let file: PositionedFile
    private var offset: Int
    private var waiting: [UInt32] = []
    /// The number of appended rows.
    private(set) var count = 0

    init(_ file: PositionedFile, at offset: Int) {
        self.file = file
        self.offset = offset
        waiting.reserveCapacity(Self.many)
    }

    mutating func append(_ word: UInt32) throws {
        waiting.append(word)
        count += 1
        if waiting.count == Self.many { try flush() }
    }

    mutating func flush() throws {
        try waiting.withUnsafeBytes { try file.write($0, at: offset) }
        offset += waiting.count * 4
        waiting.removeAll(keepingCapacity: true)
    }
}

/// open(2), which `TableLoader.open` hides.
private func systemOpen(_ path: String, _ flags: Int32) -> Int32 { open(path, flags, 0o600) }
