public import CohortCore
import CohortSystem
public import FoundationEssentials

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// The rows of a session's table that this machine has, each at its place: in memory when the whole table is small, else in a file with holes, which is
/// mapped as it is. Belongs to one thread.
public final class LocalTable {
    /// Bytes of a table that stays in memory.
    private static let maxBytesInMemory = 1 << 20

    public let manifest: TableManifest
    /// The SHA-256 of the manifest.
    public let sha256: String
    /// The rows that are there.
    public private(set) var rows = RowSet()
    /// The table for engines that read packed rows. Rows that are added later are in it as well.
    public let table: FeatureTable
    private let mapping: Mapping
    private let packed: PackedRows
    private let file: (descriptor: Int32, path: String)?

    /// The contents of the file, as JSON beside it.
    private struct Index: Codable {
        var sha256: String
        /// The identifier of the operating system's boot: after another boot, a file that was not flushed may lack rows.
        var boot: String
        var rows: RowSet
    }

    /// Opens what an earlier run has left for the same table, or creates an empty one.
    /// - Parameters:
    ///   - manifest: checked.
    ///   - path: of the file that a large table needs.
    /// - Throws: ``CohortError`` `storageFull`, `internal` when the file cannot be used, `unavailable` without memory.
    public init(_ manifest: TableManifest, sha256: String, dictionary: [Float], path: String) throws {
        self.manifest = manifest
        self.sha256 = sha256
        let bytes = manifest.parts.bytes
        if bytes <= Self.maxBytesInMemory {
            file = nil
            mapping = try Mapping(zeros: bytes)
        } else {
            let descriptor = try Self.open(path, bytes: bytes)
            guard let mapped = Mapping(descriptor, size: bytes) else {
                close(descriptor)
                throw CohortError(.unavailable, "\(path) cannot be mapped into memory: \(String(cString: strerror(errno)))")
            }
            mapping = mapped
            file = (descriptor, path)
            if bytes > EpochOrder.Limits().whole { mapping.readNothingAhead() }
            if let index = Self.index(path), index.sha256 == sha256, index.boot == Self.boot {
                rows = index.rows
            } else {
                unlink(Self.indexPath(path))
            }
        }
        packed = PackedRows(base: UnsafeRawPointer(mapping.base), layout: manifest.layout, dictionary: dictionary)
        let (mapping, size, parts) = (mapping, manifest.layout.recordBytes, manifest.parts)
        let isFile = file != nil
        table = FeatureTable(
            .packed(packed), rowCount: parts.rows, featureCount: manifest.layout.featureCount,
            trainingRows: Array(0..<UInt32(parts.trainingRows)),
            validationRows: Array(UInt32(parts.trainingRows)..<UInt32(parts.rows)),
            willNeed: { rows in if isFile { mapping.readAhead((rows.lowerBound * size)..<(rows.upperBound * size)) } },
            release: { _ = mapping })
    }

    private static func open(_ path: String, bytes: Int) throws -> Int32 {
        let descriptor = systemOpen(path, O_RDWR | O_CREAT | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure(path) }
        var about = stat()
        guard fstat(descriptor, &about) == 0, about.st_size == bytes || ftruncate(descriptor, off_t(bytes)) == 0 else {
            defer { close(descriptor) }
            throw failure(path)
        }
        return descriptor
    }

    /// Takes the disk space of rows that are to be added, so that a full disk is reported before they are fetched.
    /// - Throws: ``CohortError`` `storageFull`.
    public func reserve(_ range: RowRange) throws {
        guard let file, range.isValid(among: manifest.parts.rows), range.count > 0 else { return }
        #if canImport(Glibc)
            let size = manifest.layout.recordBytes
            let taken = posix_fallocate(file.descriptor, off_t(range.start * size), off_t(range.count * size))
            // Other errors: the file system cannot do this, and writing reports a full disk.
            guard taken != ENOSPC else {
                errno = taken
                throw Self.failure(file.path)
            }
        #endif
    }

    /// Adds rows.
    /// - Parameter records: of all rows of `range`, from elsewhere.
    /// - Throws: ``CohortError`` `invalid` for records that do not fit the manifest, `storageFull`.
    public func add(_ records: some ContiguousBytes, at range: RowRange) throws {
        try records.withUnsafeBytes { bytes in
            guard range.isValid(among: manifest.parts.rows), bytes.count == range.count * manifest.layout.recordBytes else {
                throw CohortError(
                    .invalid,
                    "\(bytes.count) bytes came for rows \(range.start) to \(range.end), which have \(manifest.layout.recordBytes) bytes each"
                )
            }
            try manifest.layout.check(records: bytes, outputs: manifest.outputs)
            let offset = range.start * manifest.layout.recordBytes
            guard let file else {
                return bytes.baseAddress.map { mapping.base.advanced(by: offset).copyMemory(from: $0, byteCount: bytes.count) } ?? ()
            }
            try Self.write(bytes, to: file.descriptor, at: offset, path: file.path)
        }
        rows.insert(range)
        try saveIndex()
    }

    private func saveIndex() throws {
        guard let file, let boot = Self.boot else { return }
        try Data(CohortJSON.encode(Index(sha256: sha256, boot: boot, rows: rows))).write(
            to: URL(filePath: Self.indexPath(file.path)), options: .atomic)
    }

    /// The rows that are there as floats, at their places, for engines that read no packed rows: in a file without a name when the table is large.
    /// - Parameter folder: of that file.
    /// - Throws: ``CohortError`` `storageFull`, `internal`, `unavailable`.
    public func expanded(in folder: String) throws -> FeatureTable {
        let (count, width) = (manifest.parts.rows, manifest.layout.featureCount)
        let targetsStart = count * width * 4
        let bytes = targetsStart + count * 4
        var target: FeatureTable.File?
        let memory: Mapping
        if bytes <= Self.maxBytesInMemory {
            memory = try Mapping(zeros: bytes)
        } else {
            let path = "\(folder)/\(newIdentifier()).part"
            let descriptor = try Self.open(path, bytes: bytes)
            unlink(path)
            guard let mapped = Mapping(descriptor, size: bytes) else {
                close(descriptor)
                throw CohortError(.unavailable, "\(path) cannot be mapped into memory: \(String(cString: strerror(errno)))")
            }
            memory = mapped
            target = FeatureTable.File(descriptor: descriptor, bytes: bytes, featuresStart: 0, targetsStart: targetsStart)
        }
        let block = max(1, (1 << 20) / (width * 4))
        let scratch = UnsafeMutablePointer<Float>.allocate(capacity: block * (width + 1))
        defer { scratch.deallocate() }
        for range in rows.ranges {
            for start in stride(from: range.start, to: range.end, by: block) {
                let some = min(block, range.end - start)
                for row in 0..<some {
                    packed.expand(start + row, into: scratch + row * width)
                    scratch[block * width + row] = packed.target(of: start + row)
                }
                let features = UnsafeRawBufferPointer(start: scratch, count: some * width * 4)
                let targets = UnsafeRawBufferPointer(start: scratch + block * width, count: some * 4)
                for (values, offset) in [(features, start * width * 4), (targets, targetsStart + start * 4)] {
                    if let target {
                        try Self.write(values, to: target.descriptor, at: offset, path: folder)
                    } else if let base = values.baseAddress {
                        (memory.base + offset).copyMemory(from: base, byteCount: values.count)
                    }
                }
            }
        }
        let base = UnsafeRawPointer(memory.base)
        let isFile = target != nil
        return FeatureTable(
            .dense(
                features: base.assumingMemoryBound(to: Float.self), targets: (base + targetsStart).assumingMemoryBound(to: Float.self)),
            rowCount: count, featureCount: width, trainingRows: table.trainingRows, validationRows: table.validationRows, file: target,
            willNeed: { rows in if isFile { memory.readAhead((rows.lowerBound * width * 4)..<(rows.upperBound * width * 4)) } },
            release: { _ = memory })
    }

    /// Removes what is kept at `path`. A table that is open stays readable.
    public static func remove(_ path: String) {
        unlink(path)
        unlink(indexPath(path))
    }

    private static func indexPath(_ path: String) -> String { "\(path).json" }

    private static func index(_ path: String) -> Index? {
        guard let bytes = FileManager.default.contents(atPath: indexPath(path)) else { return nil }
        // One that cannot be read says nothing: the rows are fetched again.
        return try? CohortJSON.decode(Index.self, from: bytes)
    }

    private static let boot: String? = FileManager.default.contents(atPath: "/proc/sys/kernel/random/boot_id")
        .map { String(decoding: $0, as: UTF8.self) }

    private static func write(_ bytes: UnsafeRawBufferPointer, to descriptor: Int32, at offset: Int, path: String) throws {
        var done = 0
        while done < bytes.count {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
            let count = pwrite(descriptor, rest.baseAddress, rest.count, off_t(offset + done))
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw failure(path) }
            done += count
        }
    }

    private static func failure(_ path: String) -> CohortError {
        errno == ENOSPC
            ? CohortError(.storageFull, "no space is left for the rows in \(path)")
            : CohortError(.internal, "\(path): \(String(cString: strerror(errno)))")
    }
}

/// open(2), which `LocalTable.open` hides.
private func systemOpen(_ path: String, _ flags: Int32) -> Int32 { open(path, flags, 0o600) }
