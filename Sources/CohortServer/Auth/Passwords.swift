import CCrypt
import CohortCore
import CohortSystem

/// bcrypt (`$2b$`) on separate threads: at cost 12 one check takes about a quarter of a second. Signing up, which needs no account, has another lane:
/// many sign-ups do not delay sign-ins. In each lane the networks that ask take turns.
struct Passwords: Sendable {
    private let cost: Int
    private let checks = FairLanes("sign-ins", count: 2, limitPerKey: 64, limit: 512)
    private let hashes = FairLanes("sign-ups", count: 1, limitPerKey: 64, limit: 256)

    /// bcrypt reads no more than this.
    static let longest = 72
    static let shortest = 8

    /// - Throws: ``CohortError`` `invalid` for an invalid cost.
    init(cost: Int) throws {
        guard (4...31).contains(cost) else { throw CohortError(.invalid, "the bcrypt cost is \(cost); it must be from 4 to 31") }
        self.cost = cost
    }

    /// - Throws: ``CohortError`` `invalid` for a password that is too short, too long or holds a NUL, which C would take for its end.
    static func check(_ password: String) throws {
        let bytes = password.utf8.count
        guard bytes >= shortest else {
            throw CohortError(.invalid, "the password is too short: it must have at least \(shortest) letters, digits or other characters")
        }
        guard bytes <= longest else {
            throw CohortError(
                .invalid, "the password has \(bytes) bytes; bcrypt reads only the first \(longest), so it must have at most \(longest)")
        }
        guard !password.utf8.contains(0) else { throw CohortError(.invalid, "the password holds a NUL character; leave it out") }
    }

    /// - Parameter network: that asks.
    func hash(_ password: String, for network: String) async throws -> String {
        try Self.check(password)
        return try await hashes.run(for: network) { [cost] in
            guard let hash = bcrypt(password, setting: try newSetting(cost: cost)) else {
                throw CohortError(.internal, "bcrypt failed: is this machine's libcrypt built without it?")
            }
            return hash
        }
    }

    /// Returns whether the password matches the hash. For nil, an account that does not exist, it takes as long and returns false.
    func verify(_ password: String, against hash: String?, for network: String) async throws -> Bool {
        try await checks.run(for: network) { [cost] in
            let setting = try hash ?? newSetting(cost: cost)
            // A password that sign-up refuses is wrong, and must not be shortened to one that matches.
            let isPossible = (try? Self.check(password)) != nil
            guard let found = bcrypt(isPossible ? password : "", setting: setting), let hash else { return false }
            return isPossible && equalInConstantTime(found, hash)
        }
    }
}

/// `$2b$COST$SALT` with 16 random bytes.
private func newSetting(cost: Int) throws -> String {
    let salt = (0..<16).map { _ in CChar.random(in: .min ... .max) }
    var output = [CChar](repeating: 0, count: 192)
    guard crypt_gensalt_rn("$2b$", UInt(cost), salt, Int32(salt.count), &output, Int32(output.count)) != nil else {
        throw CohortError(.internal, "bcrypt is missing in this machine's libcrypt")
    }
    return String(decoding: output.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
}

/// Blocks. The work area (32 KiB) lives as long as the call and is wiped after it.
private func bcrypt(_ password: String, setting: String) -> String? {
    let size = MemoryLayout<crypt_data>.size
    let area = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 16)
    area.initializeMemory(as: UInt8.self, repeating: 0)
    defer {
        area.initializeMemory(as: UInt8.self, repeating: 0)
        area.deallocate()
    }
    guard let output = crypt_rn(password, setting, area.baseAddress, Int32(size)) else { return nil }
    let hash = String(cString: output)
    return hash.hasPrefix("*") ? nil : hash
}

private func equalInConstantTime(_ a: String, _ b: String) -> Bool {
    guard a.utf8.count == b.utf8.count else { return false }
    return zip(a.utf8, b.utf8).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
}
