import CohortCore

/// Tells columns that name rows from columns that describe them.
enum Identifiers {
    private static let whole: Set<String> = [
        "index", "idx", "row", "rows", "rowid", "rowname", "rownames", "row names", "row name", "row number", "nr", "no", "unnamed 0",
        "seqno", "seq", "sno", "srno", "serial", "obs", "observation", "case", "caseno", "record", "recordno",
    ]

    /// Returns whether a column with this name is an id if all its values are different: `id`, `PassengerId`, `seqno`, `row_id`, `#`.
    static func areNamed(by name: String) -> Bool {
        if name == "#" { return true }
        let words = words(of: name)
        return whole.contains(words.joined(separator: " ")) || words.last.map { ["id", "uuid", "guid"].contains($0) } == true
            || words.first == "id"
    }

    /// The lowercased words of a name; a word begins with a capital letter, or with a letter after another character.
    private static func words(of name: String) -> [String] {
        var words: [String] = []
        var wasLower = false
        var isInWord = false
        for character in name {
            guard character.isLetter || character.isNumber else {
                isInWord = false
                continue
            }
            if !isInWord || (character.isUppercase && wasLower) { words.append("") }
            words[words.count - 1] += character.lowercased()
            wasLower = !character.isUppercase
            isInWord = true
        }
        return words
    }
}

/// Counts the distinct values of a column, up to a limit.
struct DistinctScan {
    /// Values that all columns of a file remember together; a column whose remembered ones are all different has different ones.
    static let most = 1 << 20

    /// Values that this column remembers.
    let limit: Int
    private var hashes: Set<UInt64> = []
    private(set) var values = 0
    private(set) var allDiffer = true

    /// - Parameter columns: how many share what may be remembered.
    init(columns: Int) { limit = max(1_000, Self.most / max(1, columns)) }

    mutating func add(_ bytes: CellBytes) {
        guard hashes.count < limit, !Cell.isMissing(bytes) else { return }
        values += 1
        let hash = bytes.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01b3 }
        if !hashes.insert(hash).inserted { allDiffer = false }
    }

    var different: Int { hashes.count }
}
