import FoundationEssentials

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// The CLI's output: results on standard output, everything else on standard error. A reader that went away (EPIPE) ends the
/// process quietly.
enum Terminal {
    static func printLine(_ text: String) { write(text + "\n", to: STDOUT_FILENO) }

    /// Ends the process.
    static func end(_ code: Int32) -> Never { exit(code) }

    /// Without a line break.
    static func print(_ text: String) { write(text, to: STDOUT_FILENO) }

    static func printNote(_ text: String) { write(text + "\n", to: STDERR_FILENO) }

    static func printError(_ text: String, prefix: String = "error: ") { write(prefix + text + "\n", to: STDERR_FILENO) }

    static var isInteractive: Bool {
        isatty(STDOUT_FILENO) == 1 && isatty(STDIN_FILENO) == 1 && getenv("TERM").map { String(cString: $0) } != "dumb"
    }

    /// Standard error, where a service writes, is a terminal.
    static var isWatched: Bool { isatty(STDERR_FILENO) == 1 && getenv("TERM").map { String(cString: $0) } != "dumb" }

    /// Writes to standard error, without a line break.
    static func printStatus(_ text: String) { write(text, to: STDERR_FILENO) }

    /// Columns of the terminal; 80 when it does not say.
    static var width: Int {
        var size = winsize()
        return ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0 ? Int(size.ws_col) : 80
    }

    /// The columns available to a table; nil when the output is not a terminal.
    static var room: Int? { isatty(STDOUT_FILENO) == 1 ? width : nil }

    /// `true` when a person types passwords.
    static var asksForPasswords: Bool { isatty(STDIN_FILENO) == 1 }

    /// Asks for a secret, without echo on a terminal; else the first line of standard input.
    static func password(prompt: String) -> String? {
        guard asksForPasswords else { return readLine(strippingNewline: true) }
        write(prompt, to: STDERR_FILENO)
        var before = termios()
        tcgetattr(STDIN_FILENO, &before)
        var silent = before
        silent.c_lflag &= ~tcflag_t(ECHO)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent)
        defer {
            tcsetattr(STDIN_FILENO, TCSAFLUSH, &before)
            write("\n", to: STDERR_FILENO)
        }
        return readLine(strippingNewline: true)
    }

    private static func write(_ text: String, to descriptor: Int32) {
        var text = text
        text.withUTF8 { bytes in
            var rest = UnsafeRawBufferPointer(bytes)
            while !rest.isEmpty {
                #if canImport(Glibc)
                    let count = Glibc.write(descriptor, rest.baseAddress, rest.count)
                #else
                    let count = Darwin.write(descriptor, rest.baseAddress, rest.count)
                #endif
                if count < 0 {
                    if errno == EINTR || errno == EAGAIN { continue }
                    if errno == EPIPE { exit(0) }
                    return
                }
                rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count))
            }
        }
    }
}

/// A table for people: columns padded to their widest cell.
struct TextTable {
    var header: [String]
    var rows: [[String]] = []

    /// Returns the table without columns, in this order, until a line has at most so many characters.
    func text(width: Int?, dropping columns: [String]) -> String {
        var table = self
        for name in columns {
            guard let width, table.width > width, let place = table.header.firstIndex(of: name) else { continue }
            table.header.remove(at: place)
            for index in table.rows.indices { table.rows[index].remove(at: place) }
        }
        return table.text
    }

    private var width: Int { text.split(separator: "\n").map(\.count).max() ?? 0 }

    var text: String {
        let all = [header] + rows
        let widths = header.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
        return all.map { row in
            var line = zip(row, widths).map { cell, width in cell + String(repeating: " ", count: width - cell.count) }.joined(
                separator: "  ")
            while line.last == " " { line.removeLast() }
            return line
        }.joined(separator: "\n")
    }
}

/// Numbers as people read them.
enum Figure {
    static func decimal(_ value: Double?, digits: Int = 4) -> String {
        guard let value else { return "-" }
        let scale = (0..<digits).reduce(1.0) { scale, _ in scale * 10 }
        guard value.isFinite, abs(value) < 1e12 else { return "\(value)" }
        let scaled = (abs(value) * scale).rounded()
        let whole = Int(scaled / scale)
        let fraction = String(Int(scaled - Double(whole) * scale))
        let sign = value < 0 && scaled > 0 ? "-" : ""
        guard digits > 0 else { return "\(sign)\(whole)" }
        return "\(sign)\(whole).\(String(repeating: "0", count: max(0, digits - fraction.count)))\(fraction)"
    }

    /// Four significant digits, of whatever size the number is; whole digits stay.
    static func significant(_ value: Double?) -> String {
        guard let value else { return "-" }
        guard value.isFinite, value != 0 else { return decimal(value, digits: 0) }
        var digits = 3
        var size = abs(value)
        while size >= 10, digits > 0 { (size, digits) = (size / 10, digits - 1) }
        while size < 1, digits < 12 { (size, digits) = (size * 10, digits + 1) }
        return decimal(value, digits: digits)
    }

    static func percent(_ share: Double?) -> String { share.map { decimal($0 * 100, digits: 1) + " %" } ?? "-" }

    /// 2026-01-31 12:00 in this machine's time zone.
    static func time(_ date: Date) -> String {
        var seconds = time_t(date.timeIntervalSince1970.rounded(.down))
        var parts = tm()
        guard localtime_r(&seconds, &parts) != nil else { return "-" }
        var text = [CChar](repeating: 0, count: 32)
        let count = strftime(&text, text.count, "%Y-%m-%d %H:%M", &parts)
        return String(decoding: text.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    static func seconds(_ value: Double) -> String {
        value < 120 ? "\(decimal(value, digits: 1)) s" : "\(decimal(value / 60, digits: 1)) min"
    }

    /// 12345678 → 12,345,678
    static func whole(_ value: Int) -> String {
        var digits = String(abs(value))
        var groups: [String] = []
        while digits.count > 3 {
            groups.insert(String(digits.suffix(3)), at: 0)
            digits.removeLast(3)
        }
        return (value < 0 ? "-" : "") + ([digits] + groups).joined(separator: ",")
    }

    static func bytes(_ value: Int) -> String {
        let units = ["B", "KiB", "MiB", "GiB", "TiB"]
        var size = Double(value)
        var unit = 0
        while size >= 1024, unit < units.count - 1 {
            size /= 1024
            unit += 1
        }
        return "\(decimal(size, digits: unit == 0 ? 0 : 1)) \(units[unit])"
    }
}
