/// Where the tests' servers of MongoDB's protocol are.
public enum TestMongo {
    /// `url` with a database's name in its place, before the options.
    public static func uri(_ url: String, database: String) -> String {
        let parts = url.split(separator: "?", maxSplits: 1)
        let base = parts[0].hasSuffix("/") ? parts[0] : parts[0] + "/"
        return "\(base)\(database)\(parts.count > 1 ? "?\(parts[1])" : "")"
    }
}
