import CohortCore
import Foundation

/// A folder of one test, removed with all that is in it.
public struct TemporaryFolder: Sendable {
    public let path: String

    public func path(_ name: String) -> String { "\(path)/\(name)" }

    /// Runs `body` with a new folder, which is removed afterwards.
    @discardableResult
    public static func with<Value>(_ body: (TemporaryFolder) async throws -> Value) async throws -> Value {
        let folder = TemporaryFolder(path: "\(FileManager.default.temporaryDirectory.path)/cohort-\(newIdentifier())")
        try FileManager.default.createDirectory(atPath: folder.path, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder.path) }
        return try await body(folder)
    }

    /// - Returns: the file's path.
    @discardableResult
    public func write(_ bytes: [UInt8], to name: String) throws -> String {
        try Data(bytes).write(to: URL(filePath: path(name)))
        return path(name)
    }

    /// Every file below, by its path, hidden ones too.
    public func files() -> [String] {
        let names = FileManager.default.enumerator(atPath: path)?.compactMap { $0 as? String } ?? []
        return names.filter { name in
            let attributes = try? FileManager.default.attributesOfItem(atPath: self.path(name))
            return attributes?[.type] as? FileAttributeType == .typeRegular
        }.sorted()
    }
}

/// Runs `body` with the path of a new folder, which is removed afterwards.
@discardableResult
public func withFolder<Value>(_ body: (String) async throws -> Value) async throws -> Value {
    try await TemporaryFolder.with { try await body($0.path) }
}
