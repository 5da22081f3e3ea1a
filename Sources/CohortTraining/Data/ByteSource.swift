import CKernels
import CohortCore

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// A CSV file as bytes of UTF-8 with one delimiter between fields, whatever it is on disk.
final class ByteSource {
    private static let block = 1 << 18

    private let path: String
    private let file: Int32
    /// Bytes of the file that are text: a Ctrl-Z at its end, as MS-DOS wrote it, is none, nor are zeros there, as a loss of power leaves them.
    private let size: Int
    /// Zeros at the end of the file, which are left out.
    let zerosAtEnd: Int
    private var position = 0
    private var transcoder: Transcoder?
    private var spaces: SpaceFilter?
    private let tensors: TensorText?
    /// Converted, and from `given` on not handed out yet.
    private var converted: [UInt8] = []
    private var given = 0

    /// - Throws: ``CohortError`` `notFound` or `invalid` when the file cannot be opened.
    init(path: String, format: CSVFormat) throws {
        self.path = path
        #if canImport(Glibc)
            file = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        #else
            file = Darwin.open(path, O_RDONLY | O_CLOEXEC)
        #endif
        guard file >= 0 else { throw Self.unreadable(path) }
        var about = stat()
        var size = Int.max
        var zeros = 0
        if fstat(file, &about) == 0, about.st_mode & S_IFMT == S_IFREG, about.st_size > 0 {
            size = Int(about.st_size)
            // In UTF-16 a zero is half of a character.
            let isWide = format.encoding == .utf16le || format.encoding == .utf16be
            zeros = isWide || format.encoding == .safetensors ? 0 : Self.countAtEnd(file, of: 0, before: size)
            size -= zeros
            size -= Self.countAtEnd(file, of: 0x1a, before: size)
            if size == Int(about.st_size) { size = .max }
        }
        self.size = size
        zerosAtEnd = zeros
        do {
            tensors = format.encoding == .safetensors ? try TensorText(path: path, descriptor: file) : nil
        } catch {
            close(file)
            throw error
        }
        transcoder = format.encoding == .safetensors ? nil : format.encoding.map(Transcoder.init)
        spaces = format.isSpaced ? SpaceFilter() : nil
    }

    deinit { close(file) }

    /// Counts how often the byte is repeated at the end of the file's first `end` bytes.
    private static func countAtEnd(_ file: Int32, of byte: UInt8, before end: Int) -> Int {
        var block = [UInt8](repeating: 0, count: 4_096)
        var start = end
        while start > 0 {
            let count = min(block.count, start)
            guard pread(file, &block, count, off_t(start - count)) == count else { break }
            let same = block[..<count].reversed().prefix { $0 == byte }.count
            start -= same
            guard same == count else { break }
        }
        return end - start
    }

    /// - Returns: how many bytes; 0 at the end of the file.
    func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        if let tensors { return try tensors.read(into: buffer) }
        guard transcoder != nil || spaces != nil else { return try readRaw(into: buffer) }
        while given == converted.count {
            converted.removeAll(keepingCapacity: true)
            given = 0
            var raw = [UInt8](repeating: 0, count: Self.block)
            let count = try raw.withUnsafeMutableBytes(readRaw)
            raw.removeSubrange(count...)
            let text = transcoder?.convert(raw, isLast: count == 0) ?? raw
            if let filtered = spaces?.filter(text, isLast: count == 0) { converted = filtered } else { converted = text }
            if count == 0, converted.isEmpty { return 0 }
        }
        let count = min(buffer.count, converted.count - given)
        converted.withUnsafeBytes { buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[given..<(given + count)])) }
        given += count
        return count
    }

    private func readRaw(into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        let wanted = min(buffer.count, size - position)
        while true {
            #if canImport(Glibc)
                let count = Glibc.read(file, buffer.baseAddress, wanted)
            #else
                let count = Darwin.read(file, buffer.baseAddress, wanted)
            #endif
            if count >= 0 {
                position += count
                return count
            }
            if errno != EINTR { throw Self.unreadable(path) }
        }
    }

    private static func unreadable(_ path: String) -> CohortError {
        CohortError(errno == ENOENT ? .notFound : .invalid, "\(path) cannot be read: \(String(cString: strerror(errno)))")
    }
}

/// Converts another encoding to UTF-8, block by block.
struct Transcoder {
    let encoding: TextEncoding
    /// The bytes of a character that continues in the next block.
    private var rest: [UInt8] = []
    private var isFirst = true

    init(_ encoding: TextEncoding) { self.encoding = encoding }

    /// Converts a block; invalid characters become U+FFFD.
    mutating func convert(_ bytes: [UInt8], isLast: Bool) -> [UInt8] {
        switch encoding {
        case .safetensors: return bytes
        case .windows1252:
            var text: [UInt8] = []
            text.reserveCapacity(bytes.count + bytes.count / 8)
            for byte in bytes {
                if byte < 0x80 {
                    text.append(byte)
                } else {
                    text.append(contentsOf: Self.character(Self.windows1252(byte)))
                }
            }
            return text
        case .utf16le, .utf16be:
            var all = rest + bytes
            if isFirst, all.count >= 2 {
                // The byte order mark.
                if all.starts(with: encoding == .utf16le ? [0xff, 0xfe] : [0xfe, 0xff]) { all.removeFirst(2) }
                isFirst = false
            }
            return utf16(all, isLast: isLast)
        }
    }

    private mutating func utf16(_ bytes: [UInt8], isLast: Bool) -> [UInt8] {
        var text: [UInt8] = []
        text.reserveCapacity(bytes.count)
        func unit(_ index: Int) -> UInt32 {
            encoding == .utf16le
                ? UInt32(bytes[index]) | UInt32(bytes[index + 1]) << 8 : UInt32(bytes[index]) << 8 | UInt32(bytes[index + 1])
        }
        var index = 0
        while index + 1 < bytes.count {
            let first = unit(index)
            if first & 0xfc00 == 0xd800 {
                guard index + 3 < bytes.count else { break }
                let second = unit(index + 2)
                if second & 0xfc00 == 0xdc00 {
                    text.append(contentsOf: Self.character(0x10000 + ((first & 0x3ff) << 10 | second & 0x3ff)))
                    index += 4
                    continue
                }
            }
            text.append(contentsOf: Self.character(first))
            index += 2
        }
        rest = isLast ? [] : Array(bytes[index...])
        if isLast, index < bytes.count { text.append(contentsOf: Self.character(0xfffd)) }
        return text
    }

    private static func character(_ value: UInt32) -> String.UTF8View { String(Unicode.Scalar(value) ?? "\u{fffd}").utf8 }

    /// The code point of a byte past ASCII; those that stand for nothing are the control characters of the same number, as browsers have it.
    private static func windows1252(_ byte: UInt8) -> UInt32 {
        guard byte < 0xa0 else { return UInt32(byte) }
        return UInt32(past[Int(byte) - 0x80])
    }

    private static let past: [UInt16] = [
        0x20ac, 0x81, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039, 0x0152, 0x8d, 0x017d, 0x8f, 0x90,
        0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0x9d, 0x017e, 0x0178,
    ]
}

/// Replaces one or more spaces between fields by one tab; spaces at the ends of a line separate nothing, and those in
/// quotes stay.
struct SpaceFilter {
    private var isQuoted = false
    /// Spaces were seen since the last field.
    private var isPending = false
    private var isAtStart = true

    mutating func filter(_ bytes: [UInt8], isLast: Bool) -> [UInt8] {
        var text: [UInt8] = []
        text.reserveCapacity(bytes.count)
        for byte in bytes {
            if !isQuoted, byte == 0x20 || byte == 0x09 {
                isPending = true
                continue
            }
            if !isQuoted, byte == 0x0a || byte == 0x0d {
                (isPending, isAtStart) = (false, true)
                text.append(byte)
                continue
            }
            if isPending, !isAtStart { text.append(0x09) }
            (isPending, isAtStart) = (false, false)
            if byte == 0x22 { isQuoted.toggle() }
            text.append(byte)
        }
        return text
    }
}
