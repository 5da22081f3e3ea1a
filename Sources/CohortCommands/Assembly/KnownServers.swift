import CohortClient
import CohortCore
import CohortSystem
import FoundationEssentials
import NIOSSL

/// Certificates that no authority vouches for, as they were when this machine first saw them, in `known-servers.json`.
enum KnownServers {
    private struct Entry: Codable {
        /// 64 hexadecimal digits.
        var fingerprint: String
        /// PEM.
        var certificate: String
    }

    private static var path: String { "\(StandardFolder.configuration())/known-servers.json" }

    /// Resolves a server with the certificate that it may show. A new certificate without an authority is kept, and reported.
    /// - Parameters:
    ///   - fingerprint: the fingerprint that the operator published; another one is refused.
    ///   - asks: on a terminal, the user confirms a new certificate without an authority.
    ///   - waiting: called once with the reason for which the server is unavailable, and it is retried; nil: the next request reports it.
    /// - Throws: ``CohortError`` `invalid` when the server shows another certificate than that.
    static func server(
        _ text: String, fingerprint: String?, authorities: [NIOSSLCertificate], asks: Bool = false,
        waiting: ((CohortError) -> Void)? = nil
    ) async throws -> ServerURL {
        var backoff = Backoff()
        var isNew = true
        while true {
            do {
                return try await resolve(text, fingerprint: fingerprint, authorities: authorities, waits: waiting != nil, asks: asks)
            } catch let error as CohortError where error.code == .unavailable && waiting != nil {
                if isNew { waiting?(error) }
                isNew = false
                try await Task.sleep(for: backoff.next())
            }
        }
    }

    private static func resolve(
        _ text: String, fingerprint: String?, authorities: [NIOSSLCertificate], waits: Bool, asks: Bool
    ) async throws -> ServerURL {
        var url = try ServerURL(text)
        let wanted = try fingerprint.map(digits)
        guard url.isTLS else {
            guard wanted == nil else { throw CohortError(.invalid, "a fingerprint is for a server at https://, not \(url)") }
            return url
        }
        var known = try load()
        if let entry = known[url.place], wanted == nil || wanted == entry.fingerprint {
            url.certificate = try NIOSSLCertificate(bytes: [UInt8](entry.certificate.utf8), format: .pem)
            return url
        }
        let shown: NIOSSLCertificate
        do {
            if wanted == nil, try await url.isTrusted(authorities: authorities) { return url }
            shown = try await url.shownCertificate()
        } catch let error as CohortError where error.code == .unavailable && wanted == nil && !waits {
            // It is unavailable, which the next request reports.
            return url
        }
        let found = try shown.fingerprint
        if let wanted, wanted != found {
            throw CohortError(
                .invalid,
                "\(url) shows a certificate of fingerprint \(found), not \(wanted): the connection may be intercepted, or it is another server"
            )
        }
        url.certificate = shown
        guard try await url.isTrusted() else {
            throw CohortError(
                .invalid,
                "the certificate of \(url) is none that this machine trusts, or has expired, or is another host's; COHORT_CA_FILE names the authority that has signed it"
            )
        }
        if wanted == nil, asks, Terminal.asksForPasswords {
            Terminal.printStatus(
                "\(url) is new to this machine, and its certificate is self-signed. Its fingerprint:\n\n    \(groups(found))\n\nCompare it with the one that the server printed when it started. Is it the same (yes/no)? "
            )
            guard readLine(strippingNewline: true)?.lowercased() == "yes" else {
                throw CohortError(.invalid, "the certificate of \(url) was not confirmed: nothing was sent")
            }
        }
        known[url.place] = Entry(fingerprint: found, certificate: try pem(shown))
        try save(known)
        if wanted == nil, !(asks && Terminal.asksForPasswords) {
            Terminal.printNote(
                "\(url) is new to this machine and has a self-signed certificate, which is trusted from now on. Compare its fingerprint with the one that the server printed when it started: \(found)"
            )
        }
        return url
    }

    /// Groups of four digits, eight to a line.
    private static func groups(_ digits: String) -> String {
        let digits = Array(digits)
        let groups = stride(from: 0, to: digits.count, by: 4).map { String(digits[$0..<min($0 + 4, digits.count)]) }
        return stride(from: 0, to: groups.count, by: 8).map { groups[$0..<min($0 + 8, groups.count)].joined(separator: " ") }
            .joined(separator: "\n    ")
    }

    /// Accepts colons, spaces and capitals.
    private static func digits(_ text: String) throws -> String {
        let digits = text.lowercased().filter { $0 != ":" && !$0.isWhitespace }
        guard digits.count == 64, digits.allSatisfy({ $0.isHexDigit && $0.isASCII }) else {
            throw CohortError(
                .invalid,
                "--fingerprint is '\(text.printable(max: 100))'; it must be 64 hexadecimal digits, as the server's start says them")
        }
        return digits
    }

    private static func pem(_ certificate: NIOSSLCertificate) throws -> String {
        let lines = Data(try certificate.toDERBytes()).base64EncodedString(options: [.lineLength64Characters, .endLineWithLineFeed])
        return "-----BEGIN CERTIFICATE-----\n\(lines)\n-----END CERTIFICATE-----\n"
    }

    private static func load() throws -> [String: Entry] {
        guard let data = FileManager.default.contents(atPath: path) else { return [:] }
        do {
            return try CohortJSON.decode([String: Entry].self, from: data)
        } catch {
            throw CohortError(
                .invalid, "\(path) cannot be read (\(error)): fix it, or remove it and compare the servers' fingerprints again")
        }
    }

    private static func save(_ known: [String: Entry]) throws {
        if let reason = createPrivateFolder(StandardFolder.configuration()) {
            throw CohortError(.invalid, "the folder of \(path) could not be created: \(reason)")
        }
        try AtomicFile.write(CohortJSON.encode(known), to: path)
    }
}
