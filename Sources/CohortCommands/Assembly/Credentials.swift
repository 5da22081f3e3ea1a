import CohortClient
import CohortCore
import CohortSystem
import FoundationEssentials
import SystemPackage

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Who is signed in where: `credentials.json` in the configuration folder, readable by its owner alone.
struct Credentials: Codable {
    var server: String
    var email: String
    var accessToken: String
    var expiresAt: Date

    static var path: String { "\(StandardFolder.configuration())/credentials.json" }

    /// - Throws: ``CohortError`` `unauthenticated` when no user is signed in, with what to do.
    static func load() throws -> Credentials {
        let bytes: Data
        do {
            bytes = try Data(contentsOf: URL(filePath: path))
        } catch {
            throw CohortError(.unauthenticated, "not signed in: run `cohort signup` or `cohort login` first")
        }
        let credentials: Credentials
        do {
            credentials = try CohortJSON.decode(Credentials.self, from: bytes)
        } catch {
            throw CohortError(.invalid, "\(path) is damaged (\(error)): run `cohort login` to write it again")
        }
        guard credentials.expiresAt > Date() else {
            throw CohortError(.unauthenticated, "the sign-in of \(credentials.email) has expired: run `cohort login`")
        }
        return credentials
    }

    /// - Returns: whether there were any.
    static func remove() throws -> Bool {
        guard unlink(path) == 0 else {
            if errno == ENOENT { return false }
            throw CohortError(.invalid, "\(path) could not be removed: \(Errno(rawValue: errno))")
        }
        return true
    }

    func save() throws {
        let folder = StandardFolder.configuration()
        if let reason = createPrivateFolder(folder) { throw CohortError(.invalid, "the folder \(folder) could not be created: \(reason)") }
        try AtomicFile.write(CohortJSON.encode(self), to: Self.path)
    }
}
