import CohortCore
import CohortSystem
import Crypto
import FoundationEssentials

/// Links that need no credentials: the signature, by a secret of the server, is over the method, the key and the expiry.
struct SignedLinks: Sendable {
    private let secret: SymmetricKey

    init(secret: [UInt8]) throws {
        guard secret.count >= 32 else {
            throw CohortError(.invalid, "the secret of the object links has \(secret.count) bytes; it must have 32 random ones")
        }
        self.secret = SymmetricKey(data: secret)
    }

    /// `/objects/KEY?expires=SECONDS&signature=HEX`, relative to the server.
    func link(method: String, key: ObjectKey, maxBytes: Int? = nil, scope: String? = nil, expiry: Date) -> String {
        let expires = Int(exactly: expiry.timeIntervalSince1970.rounded(.up)) ?? 0
        let signature = HMAC<SHA256>.authenticationCode(
            for: message(method, key: key.text, expires: expires, maxBytes: maxBytes, scope: scope), using: secret)
        return
            "/objects/\(key.text.percentEncoded(keepsSlashes: true))?expires=\(expires)\(maxBytes.map { "&max=\($0)" } ?? "")\(scope.map { "&for=\($0.percentEncoded(keepsSlashes: false))" } ?? "")&signature=\(signature.hexadecimal)"
    }

    /// The signature comes first: who cannot sign learns nothing else, and the comparison takes the same time wherever they differ.
    func verify(method: String, key: String, expires: Int, maxBytes: Int?, scope: String?, signature: String, now: Date) throws {
        guard let code = bytes(hex: signature),
            HMAC<SHA256>.isValidAuthenticationCode(
                code, authenticating: message(method, key: key, expires: expires, maxBytes: maxBytes, scope: scope), using: secret)
        else { throw CohortError(.forbidden, "the link's signature is wrong: it is for another method, object or time, or was altered") }
        guard now.timeIntervalSince1970 < Double(expires) else {
            let expiry = Date(timeIntervalSince1970: Double(expires)).formatted(.iso8601)
            throw CohortError(.forbidden, "the link has expired at \(expiry): ask for a new one")
        }
    }

    private func message(_ method: String, key: String, expires: Int, maxBytes: Int?, scope: String?) -> [UInt8] {
        // A scope comes last, and with it there is a line for the bytes in any case.
        if let scope { return [UInt8]("\(method)\n\(key)\n\(expires)\n\(maxBytes.map(String.init) ?? "")\n\(scope)".utf8) }
        // No part but the last can hold a line feed that would shift the others: methods are GET and PUT, and keys are checked.
        return [UInt8]("\(method)\n\(key)\n\(expires)\(maxBytes.map { "\n\($0)" } ?? "")".utf8)
    }

    private func bytes(hex text: String) -> [UInt8]? {
        let digits = Array(text.utf8)
        guard digits.count == 64 else { return nil }
        var bytes: [UInt8] = []
        for index in stride(from: 0, to: 64, by: 2) {
            guard let high = value(digits[index]), let low = value(digits[index + 1]) else { return nil }
            bytes.append(high << 4 | low)
        }
        return bytes
    }

    private func value(_ digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
        default: nil
        }
    }
}
