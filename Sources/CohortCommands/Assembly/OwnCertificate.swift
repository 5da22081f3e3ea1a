import CohortCore
import CohortSystem
import Crypto
import FoundationEssentials
import SwiftASN1
import X509

/// A certificate that the server makes for itself, once, in its data folder: clients and peers keep it, and its fingerprint tells whether
/// theirs is the right one.
struct OwnCertificate {
    let certificate: String
    let key: String
    /// 64 lowercase hexadecimal digits.
    let fingerprint: String
    /// SHA-256 of its public key (SPKI), in base64, as curl takes it after `sha256//`.
    let publicKeyPin: String

    /// - Throws: ``CohortError`` `invalid` when the files are damaged or cannot be written.
    init(in folder: String) throws {
        let place = "\(folder)/tls"
        (certificate, key) = ("\(place)/certificate.pem", "\(place)/key.pem")
        // No other user may read the folder: the key is in it.
        if let why = createPrivateFolder(place) { throw CohortError(.invalid, "the folder \(place) could not be created: \(why)") }
        do {
            if !FileManager.default.fileExists(atPath: certificate) { try Self.make(certificate, key) }
            let made = try Certificate(pemEncoded: String(contentsOfFile: certificate, encoding: .utf8))
            var serializer = DER.Serializer()
            try serializer.serialize(made)
            fingerprint = SHA256.hash(data: serializer.serializedBytes).hexadecimal
            let secret = try P256.Signing.PrivateKey(pemRepresentation: String(contentsOfFile: key, encoding: .utf8))
            publicKeyPin = Data(SHA256.hash(data: secret.publicKey.derRepresentation)).base64EncodedString()
        } catch {
            throw CohortError(
                .invalid,
                "\(certificate) cannot be read or made (\(error)): fix it; if it is removed, a new one is made, and all users need its fingerprint"
            )
        }
    }

    private static func make(_ certificate: String, _ key: String) throws {
        let secret = P256.Signing.PrivateKey()
        let name = try DistinguishedName { CommonName("Cohort server") }
        let now = Date()
        let made = try Certificate(
            version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: .init(secret.publicKey),
            // Clocks differ.
            notValidBefore: now.addingTimeInterval(-86_400), notValidAfter: now.addingTimeInterval(20 * 365 * 86_400), issuer: name,
            subject: name, signatureAlgorithm: .ecdsaWithSHA256,
            extensions: try Certificate.Extensions {
                // It vouches for itself, which only an authority may.
                Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 0))
                Critical(KeyUsage(digitalSignature: true, keyCertSign: true))
                try ExtendedKeyUsage([.serverAuth])
                // Clients that keep the certificate check no name.
                SubjectAlternativeNames([.dnsName("localhost"), .dnsName(ProcessInfo.processInfo.hostName)])
            }, issuerPrivateKey: .init(secret))
        // The key first: a certificate without one would be of no use.
        try AtomicFile.write(Array(secret.pemRepresentation.utf8), to: key)
        try AtomicFile.write(Array(made.serializeAsPEM().pemString.utf8), to: certificate, permissions: 0o644)
    }
}
