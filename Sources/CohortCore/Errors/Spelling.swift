/// Finds the name that was probably meant by a misspelt one.
public enum Spelling {
    /// Levenshtein's distance; nil when more than two letters are wrong, missing, too many or swapped, or more than one of three.
    private static func distance(_ a: String, _ b: String) -> Int? {
        let (a, b) = (Array(a.lowercased()), Array(b.lowercased()))
        guard abs(a.count - b.count) <= 2, a.count <= 100 else { return nil }
        var row = Array(0...b.count)
        for (i, letter) in a.enumerated() {
            var previous = row[0]
            row[0] = i + 1
            for (j, other) in b.enumerated() {
                let replaced = previous + (letter == other ? 0 : 1)
                previous = row[j + 1]
                row[j + 1] = min(replaced, row[j] + 1, row[j + 1] + 1)
            }
        }
        return row[b.count] <= 2 && row[b.count] * 3 <= max(a.count, b.count) ? row[b.count] : nil
    }

    /// The name among `names` that was meant; nil when none is near.
    public static func nearest(to text: String, in names: [String]) -> String? {
        names.compactMap { name in distance(name, text).map { (name, $0) } }.min { $0.1 < $1.1 }?.0
    }
}
