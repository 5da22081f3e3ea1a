import CohortCore
import FoundationEssentials
import GRDB

extension CohortError {
    /// Creates an error from SQLite's, with what the user can do about it.
    init(_ error: DatabaseError, database path: String) {
        let said = error.message ?? error.resultCode.description
        switch error.resultCode {
        case .SQLITE_FULL:
            self.init(.storageFull, "the disk of \(path) is full: free some space and try again")
        case .SQLITE_IOERR, .SQLITE_CANTOPEN, .SQLITE_READONLY, .SQLITE_PERM:
            self.init(.storageFull, "the database \(path) cannot be written or read (\(said)): look at its disk and its permissions")
        case .SQLITE_NOTADB:
            self.init(.invalid, "\(path) is not a database of Cohort: name another file, or move this one away")
        case .SQLITE_BUSY, .SQLITE_LOCKED:
            self.init(.unavailable, "the database \(path) is held by another process (\(said)): try again")
        case .SQLITE_CORRUPT:
            self.init(.internal, "the database \(path) is damaged (\(said)): restore it from a backup")
        case .SQLITE_MISUSE:
            self.init(.unavailable, "the database \(path) is closed (\(said))")
        default:
            self.init(.internal, "the database \(path) failed: \(error.description)")
        }
    }
}

extension DatabaseError {
    /// A row with the same key is there already.
    var isDuplicate: Bool {
        extendedResultCode == .SQLITE_CONSTRAINT_UNIQUE || extendedResultCode == .SQLITE_CONSTRAINT_PRIMARYKEY
    }
}

extension Date {
    /// Milliseconds since 1970, as columns hold times.
    var milliseconds: Int64 {
        let value = (timeIntervalSince1970 * 1000).rounded()
        return Int64(exactly: value) ?? (value > 0 ? .max : .min)
    }

    init(milliseconds: Int64) { self.init(timeIntervalSince1970: Double(milliseconds) / 1000) }
}

extension Database {
    /// Runs a statement that is compiled once a connection.
    /// - Returns: how many rows it changed.
    @discardableResult
    func run(_ sql: String, _ arguments: StatementArguments) throws -> Int {
        try cachedStatement(sql: sql).execute(arguments: arguments)
        return changesCount
    }

    func row(_ sql: String, _ arguments: StatementArguments) throws -> Row? {
        try Row.fetchOne(try cachedStatement(sql: sql), arguments: arguments)
    }

    func rows(_ sql: String, _ arguments: StatementArguments = []) throws -> [Row] {
        try Row.fetchAll(try cachedStatement(sql: sql), arguments: arguments)
    }
}
