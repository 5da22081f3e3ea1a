import CohortCore
import CohortSystem

extension LockedFolder {
    /// A secret that is made once and kept in the file `name`: 32 random bytes.
    func secret(_ name: String) throws(CohortError) -> [UInt8] {
        try KeyFile.key(at: "\(path)/\(name)", consequence: "links and messages that it has signed then become invalid")
    }

    /// An identifier that is made once and kept, so that a restarted server knows its own leases.
    func identity() throws(CohortError) -> String { try secret("identity").prefix(16).hexadecimal }
}
