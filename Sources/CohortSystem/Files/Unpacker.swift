import CInflate
import CohortCore

/// Takes a file out of the gzip or ZIP that it may be packed in, as its bytes come; what is not packed comes out as it is. Of a ZIP the one file that
/// it holds is taken, and no name or path of it is used. Memory stays flat.
///
///     unpacker.feed(chunk)
///     while let bytes = try unpacker.next() { … }
///     try unpacker.finish()      // at the end
///     while let bytes = try unpacker.next() { … }
///     try unpacker.checkWhole()
public final class Unpacker {
    private enum State {
        /// Too few bytes to tell.
        case unknown
        case plain
        case gzip(Inflater)
        /// A member of a gzip has ended; another may follow.
        case gzipEnded
        case zipHeader
        case zipDeflated(Inflater, Member)
        /// Bytes as they are, so many of which are to come.
        case zipStored(left: UInt64, Member)
        case zipDescriptor(Member)
        /// After the members comes their directory, which is not read.
        case zipEnded
    }

    private struct Member {
        var name: String
        /// A folder, or what macOS puts beside files.
        var isIgnored: Bool
        /// The checksum of the header; nil: it follows the bytes.
        var checksum: UInt32?
        var crc: UInt32 = 0
        var ignoredBytes = 0
        var isLong = false
    }

    /// Bytes that come out at once, at the most.
    public static let block = 1 << 18
    private static let maxIgnored = 16 << 20

    private var state = State.unknown
    private var input: [UInt8] = []
    private var position = 0
    private var isAtEnd = false
    /// The name of the ZIP's file, for errors.
    private var found: String?

    public init() {}

    /// Returns whether a file with this beginning is packed in a supported format; needs nine bytes.
    public static func isPacked(_ head: some Collection<UInt8>) -> Bool {
        let head = Array(head.prefix(9))
        // No file of tensors, which begins with the length of its header in eight bytes and a brace.
        guard head.count == 9, head[8] != UInt8(ascii: "{") else { return false }
        // The second of a ZIP that holds nothing.
        return [[0x1f, 0x8b, 8], [0x50, 0x4b, 3, 4], [0x50, 0x4b, 5, 6]].contains { head.starts(with: $0) }
    }

    /// The name that a packed file has once it is unpacked: without its last `.gz` or `.zip`.
    public static func unpackedName(_ name: String) -> String {
        for ending in [".gz", ".zip"] where name.lowercased().hasSuffix(ending) && name.count > ending.count {
            return String(name.dropLast(ending.count))
        }
        return name
    }

    /// The file is not packed and no bytes are held back: the rest may bypass this value.
    public var isPlain: Bool {
        if case .plain = state { position == input.count } else { false }
    }

    public func feed(_ bytes: some Sequence<UInt8>) {
        if position > 0 {
            input.removeSubrange(..<position)
            position = 0
        }
        input.append(contentsOf: bytes)
    }

    /// No more bytes will come.
    public func finish() { isAtEnd = true }

    /// - Returns: some bytes; nil when more have to come first, or at the end.
    /// - Throws: ``CohortError`` `invalid` for what is damaged, encrypted, holds several files, or is packed in another way.
    public func next() throws -> [UInt8]? {
        while true {
            switch state {
            case .unknown:
                guard input.count - position >= 9 || isAtEnd else { return nil }
                let head = input[position...]
                state = !Self.isPacked(head) ? .plain : head.first == 0x1f ? .gzip(try Inflater(isGzip: true)) : .zipHeader
            case .plain:
                guard position < input.count else { return nil }
                defer { position = input.count }
                return Array(input[position...])
            case .gzip(let inflater):
                let (bytes, hasEnded) = try inflate(inflater, "gzip file")
                if hasEnded { state = .gzipEnded }
                if !bytes.isEmpty { return bytes }
                guard hasEnded else { return nil }
            case .gzipEnded:
                // Some writers fill the rest of a block with zeros.
                while position < input.count, input[position] == 0 { position += 1 }
                guard input.count - position >= 2 else {
                    if isAtEnd, position < input.count { throw damaged("gzip file") }
                    return nil
                }
                guard input[position] == 0x1f, input[position + 1] == 0x8b else { throw damaged("gzip file") }
                state = .gzip(try Inflater(isGzip: true))
            case .zipHeader:
                guard try beginMember() else { return nil }
            case .zipDeflated(let inflater, var member):
                let (bytes, hasEnded) = try inflate(inflater, "ZIP file")
                let given = try consume(bytes, &member)
                state = hasEnded ? try afterBody(member) : .zipDeflated(inflater, member)
                if let given { return given }
                guard hasEnded || !bytes.isEmpty else { return nil }
            case .zipStored(let left, var member):
                let count = Int(min(left, UInt64(min(input.count - position, Self.block))))
                guard count > 0 || left == 0 else { return nil }
                let bytes = Array(input[position..<(position + count)])
                position += count
                let given = try consume(bytes, &member)
                state = left == UInt64(count) ? try afterBody(member) : .zipStored(left: left - UInt64(count), member)
                if let given { return given }
            case .zipDescriptor(let member):
                guard try readDescriptor(member) else { return nil }
            case .zipEnded:
                position = input.count
                return nil
            }
        }
    }

    /// Checks the end, once all bytes have been taken.
    /// - Throws: ``CohortError`` `invalid` when the file breaks off before its end, or a ZIP holds no file.
    public func checkWhole() throws {
        switch state {
        case .unknown, .plain, .gzipEnded: return
        case .zipEnded:
            guard found != nil else { throw CohortError(.invalid, "the ZIP file is empty: it must hold one CSV") }
        case .gzip: throw CohortError(.invalid, "the gzip file breaks off before its end: send it whole")
        case .zipHeader, .zipDeflated, .zipStored, .zipDescriptor:
            throw CohortError(.invalid, "the ZIP file breaks off before its end: send it whole")
        }
    }

    // MARK: ZIP (APPNOTE.TXT 6.3.10, 4.3)

    private func number(_ offset: Int, _ bytes: Int) -> UInt64 {
        (0..<bytes).reversed().reduce(0) { $0 << 8 | UInt64(input[position + offset + $1]) }
    }

    /// - Returns: false when more bytes have to come.
    private func beginMember() throws -> Bool {
        guard input.count - position >= 4 else { return false }
        // The directory of the members, or its end.
        guard number(0, 4) == 0x0403_4b50 else {
            guard [0x0201_4b50, 0x0605_4b50, 0x0606_4b50, 0x0806_4b50].contains(number(0, 4)) else { throw damaged("ZIP file") }
            state = .zipEnded
            return true
        }
        guard input.count - position >= 30 else { return false }
        let (flags, method) = (number(6, 2), number(8, 2))
        let (nameLength, extraLength) = (Int(number(26, 2)), Int(number(28, 2)))
        guard input.count - position >= 30 + nameLength + extraLength else { return false }
        let name = String(decoding: input[(position + 30)..<(position + 30 + nameLength)], as: UTF8.self)
        var size = number(18, 4)
        let extra = (position + 30 + nameLength)..<(position + 30 + nameLength + extraLength)
        let (long, isLong) = longSize(extra)
        if size == 0xffff_ffff, let long { size = long }
        let hasDescriptor = flags & 8 != 0
        let isIgnored = name.hasSuffix("/") || name.hasPrefix("__MACOSX/")
        let member = Member(
            name: name, isIgnored: isIgnored, checksum: hasDescriptor ? nil : UInt32(truncatingIfNeeded: number(14, 4)), isLong: isLong)
        guard !["[Content_Types].xml", "mimetype", "_rels/.rels"].contains(name) else {
            throw CohortError(.invalid, "the file is a spreadsheet or another document: save it as CSV in UTF-8")
        }
        guard flags & 1 == 0 else { throw CohortError(.invalid, "the ZIP file is encrypted: unpack it first") }
        if !isIgnored {
            if let found {
                throw CohortError(
                    .invalid,
                    "the ZIP file holds several files ('\(found.printable(max: 60))', '\(name.printable(max: 60))', …): it must hold one CSV"
                )
            }
            found = name
        }
        position += 30 + nameLength + extraLength
        switch method {
        case 8: state = .zipDeflated(try Inflater(isGzip: false), member)
        case 0 where !hasDescriptor || size > 0: state = .zipStored(left: size, member)
        case 0 where isIgnored: state = .zipDescriptor(member)
        default:
            throw CohortError(
                .invalid,
                "'\(name.printable(max: 60))' in the ZIP file is packed in a way that Cohort does not know (method \(method)): pack it again, or unpack it first"
            )
        }
        return true
    }

    /// The size of the packed bytes where it takes 64 bits, and whether the member has such numbers.
    private func longSize(_ extra: Range<Int>) -> (size: UInt64?, isLong: Bool) {
        func number(_ offset: Int, _ bytes: Int) -> UInt64 { (0..<bytes).reversed().reduce(0) { $0 << 8 | UInt64(input[offset + $1]) } }
        var offset = extra.lowerBound
        while offset + 4 <= extra.upperBound {
            let (kind, length) = (number(offset, 2), Int(number(offset + 2, 2)))
            guard offset + 4 + length <= extra.upperBound else { break }
            if kind == 1 { return (length >= 16 ? number(offset + 12, 8) : nil, true) }
            offset += 4 + length
        }
        return (nil, false)
    }

    private func consume(_ bytes: [UInt8], _ member: inout Member) throws -> [UInt8]? {
        member.crc = cohort_crc32(member.crc, bytes, bytes.count)
        guard member.isIgnored else { return bytes.isEmpty ? nil : bytes }
        member.ignoredBytes += bytes.count
        guard member.ignoredBytes <= Self.maxIgnored else {
            throw CohortError(.invalid, "the ZIP file holds more than one CSV ('\(member.name.printable(max: 60))')")
        }
        return nil
    }

    private func afterBody(_ member: Member) throws -> State {
        guard let checksum = member.checksum else { return .zipDescriptor(member) }
        guard checksum == member.crc else { throw damaged("ZIP file") }
        return .zipHeader
    }

    /// Checksum and sizes behind the bytes, with a signature before them or without.
    private func readDescriptor(_ member: Member) throws -> Bool {
        guard input.count - position >= 4 else { return false }
        let start = number(0, 4) == 0x0807_4b50 ? 4 : 0
        let length = start + 4 + (member.isLong ? 16 : 8)
        guard input.count - position >= length else { return false }
        guard number(start, 4) == UInt64(member.crc) else { throw damaged("ZIP file") }
        position += length
        state = .zipHeader
        return true
    }

    // MARK: Inflating

    private func damaged(_ what: String) -> CohortError {
        CohortError(.invalid, "the \(what) is damaged: pack it again, or unpack it first")
    }

    private func inflate(_ inflater: Inflater, _ what: String) throws -> (bytes: [UInt8], hasEnded: Bool) {
        var outcome = COHORT_INFLATE_GOES_ON
        var taken = input.count - position
        let bytes = [UInt8](unsafeUninitializedCapacity: Self.block) { output, count in
            count = output.count
            outcome = input.withUnsafeBufferPointer { input in
                // Without input there is no address.
                var nothing: UInt8 = 0
                return withUnsafePointer(to: &nothing) { none in
                    cohort_inflate_step(
                        inflater.stream, input.baseAddress.map { $0 + position } ?? none, &taken, output.baseAddress, &count)
                }
            }
        }
        position += taken
        guard outcome != COHORT_INFLATE_DAMAGED else { throw damaged(what) }
        return (bytes, outcome == COHORT_INFLATE_ENDED)
    }

    private final class Inflater {
        let stream: OpaquePointer

        init(isGzip: Bool) throws {
            guard let stream = cohort_inflate_make(isGzip ? 1 : 0) else { throw CohortError(.unavailable, "memory is short") }
            self.stream = stream
        }

        deinit { cohort_inflate_free(stream) }
    }
}
