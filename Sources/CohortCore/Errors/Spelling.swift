/// Finds the name that was probably meant by a misspelt one.
public enum Spelling {
    /// The optimal string alignment distance (Boytsov 2011); nil when more than two letters are wrong, missing or too many, or more than one of
    /// three. Two neighbours that are swapped count as one.
    private static func distance(_ a: String, _ b: String) -> Int? {
        let (a, b) = (Array(a.lowercased()), Array(b.lowercased()))
        guard abs(a.count - b.count) <= 2, a.count <= 100 else { return nil }
        var (before, last) = ([Int](), Array(0...b.count))
        for (i, letter) in a.enumerated() {
            var row = [i + 1]
            for (j, other) in b.enumerated() {
                var least = min(last[j] + (letter == other ? 0 : 1), row[j] + 1, last[j + 1] + 1)
                if i > 0, j > 0, letter == b[j - 1], other == a[i - 1] { least = min(least, before[j - 1] + 1) }
                row.append(least)
            }
            (before, last) = (last, row)
        }
        return last[b.count] <= 2 && last[b.count] * 3 <= max(a.count, b.count) ? last[b.count] : nil
    }

    /// The name among `names` that was meant; nil when none is near.
    public static func nearest(to text: String, in names: [String]) -> String? {
        names.compactMap { name in distance(name, text).map { (name, $0) } }.min { $0.1 < $1.1 }?.0
    }
}
