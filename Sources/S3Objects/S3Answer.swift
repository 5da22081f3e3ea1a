/// One element of a store's XML answer: its text, or the elements in it.
///
/// S3's answers are flat lists of elements and texts, from a server that the operator chose; FoundationXML would make every machine that
/// runs Cohort need libxml2 and ICU for them. No attributes, no DTD: an entity that is not one of XML's five is kept as it stands.
struct S3Answer {
    let name: String
    private(set) var text = ""
    private(set) var children: [S3Answer] = []

    /// The root element; nil for what is not well-formed.
    init?(_ bytes: [UInt8]) {
        var open: [S3Answer] = []
        var rest = bytes[...]
        func index(of byte: Character) -> Int? { rest.firstIndex(of: byte.asciiValue ?? 0) }
        while let start = index(of: "<") {
            if !open.isEmpty { open[open.count - 1].text += Self.unescaped(rest[..<start]) }
            rest = rest[(start + 1)...]
            guard let end = index(of: ">") else { return nil }
            var tag = rest[..<end]
            rest = rest[(end + 1)...]
            // The declaration, a comment.
            if tag.first == UInt8(ascii: "?") || tag.first == UInt8(ascii: "!") { continue }
            let isClosing = tag.first == UInt8(ascii: "/")
            let isEmpty = tag.last == UInt8(ascii: "/")
            if isClosing { tag = tag.dropFirst() }
            let name = String(decoding: tag.prefix { ![0x20, 0x09, 0x0a, 0x0d, UInt8(ascii: "/")].contains($0) }, as: UTF8.self)
            if !isClosing {
                guard open.count < 16 else { return nil }
                open.append(S3Answer(name: name))
                guard isEmpty else { continue }
            }
            guard let done = open.popLast(), done.name == name else { return nil }
            if open.isEmpty {
                self = done
                return
            }
            open[open.count - 1].children.append(done)
        }
        return nil
    }

    private init(name: String) { self.name = name }

    /// The text of the first child of that name.
    subscript(name: String) -> String? { children.first { $0.name == name }?.text }

    func all(_ name: String) -> [S3Answer] { children.filter { $0.name == name } }

    private static func unescaped(_ bytes: ArraySlice<UInt8>) -> String {
        let text = String(decoding: bytes, as: UTF8.self)
        guard text.contains("&") else { return text }
        var result = ""
        var rest = text[...]
        while let start = rest.firstIndex(of: "&") {
            result += rest[..<start]
            rest = rest[start...]
            guard let end = rest.firstIndex(of: ";"), let character = character(rest[rest.index(after: start)..<end]) else {
                result += "&"
                rest = rest.dropFirst()
                continue
            }
            result.append(character)
            rest = rest[rest.index(after: end)...]
        }
        return result + rest
    }

    private static func character(_ entity: Substring) -> Character? {
        switch entity {
        case "amp": return "&"
        case "lt": return "<"
        case "gt": return ">"
        case "quot": return "\""
        case "apos": return "'"
        default:
            guard entity.hasPrefix("#") else { return nil }
            let digits = entity.dropFirst()
            let code = digits.hasPrefix("x") ? UInt32(digits.dropFirst(), radix: 16) : UInt32(digits)
            return code.flatMap(Unicode.Scalar.init).map(Character.init)
        }
    }
}
