/// The script of `curl http://SERVER:8080/join | sh`. It runs only once all of it has arrived.
enum JoinScript {
    /// - Parameter server: the URL by which it was asked for, of letters, digits and `.:-[]/` alone.
    static func text(server: String, archive: Archive, offer: JoinOffer) -> String {
        let pinned = offer.pins.map { " --insecure --pinnedpubkey 'sha256//\($0.publicKey)'" } ?? ""
        let fingerprint = offer.pins.map { " --fingerprint \($0.certificate)" } ?? ""
        let values = [
            "server": server, "name": archive.name, "sha256": archive.sha256, "megabytes": "\(archive.bytes / 1_000_000 + 1)",
            "pinned": pinned, "fingerprint": fingerprint,
        ]
        return values.reduce(PageFile.named("join.sh")?.text ?? "") { $0.replacing("@\($1.key)@", with: $1.value) }
    }
}
