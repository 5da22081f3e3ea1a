/// The script of `curl http://SERVER:8080/join | sh`. It runs only once all of it has arrived.
enum JoinScript {
    /// - Parameter server: the URL by which it was asked for, of letters, digits and `.:-[]/` alone.
    static func text(server: String, archives: [Archive], offer: JoinOffer) -> String {
        let pinned = offer.pins.map { " --insecure --pinnedpubkey 'sha256//\($0.publicKey)'" } ?? ""
        let fingerprint = offer.pins.map { " --fingerprint \($0.certificate)" } ?? ""
        let values = [
            "server": server,
            "archives": archives.map(\.name).joined(separator: ", ") + archives.compactMap(choice).map { "\n\($0)" }.joined(),
            "names": archives.map(\.name).joined(separator: " and "), "pinned": pinned, "fingerprint": fingerprint,
        ]
        return values.reduce(PageFile.named("join.sh")?.text ?? "") { $0.replacing("@\($1.key)@", with: $1.value) }
    }

    /// The branch of the script's `case` that is for the archive's machine.
    private static func choice(_ archive: Archive) -> String? {
        archive.machine.map {
            "    'Linux \($0)') machine='\($0)' name='\(archive.name)' sha256='\(archive.sha256)' megabytes=\(archive.bytes / 1_000_000 + 1) ;;"
        }
    }
}
