package import CohortCore
package import CohortTraining
package import CohortWire
import Crypto
import FoundationEssentials

/// A session's packed table, as a server gives it.
package struct ServedTable: Sendable {
    package private(set) var manifest: TableManifest
    package private(set) var manifestBytes: [UInt8]
    package let dictionary: [UInt8]
    package var parts: [[UInt8]]

    /// - Parameter seed: of the order of the training rows.
    package init(csvAt path: String, _ finding: SchemaInference.Finding, seed: UInt64, folder: String) throws {
        let (schema, plan) = (finding.schema, RecordPlan(finding.schema, finding.values))
        let packer = try TablePacker(csvAt: path, schema: schema, plan: plan, seed: seed, folder: folder, threads: 1)
        parts = try (0..<packer.parts.count).map(packer.part)
        dictionary = plan.dictionary.flatMap { value in withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) } }
        manifest = TableManifest(
            task: schema.task, outputs: schema.outputCount, layout: plan.layout, parts: packer.parts,
            partSha256: parts.map(Self.sha256), dictionary: Data(dictionary), dictionarySha256: Self.sha256(dictionary))
        manifestBytes = try CohortJSON.encode(manifest)
    }

    /// - Parameter isInline: whether the manifest stands in the message.
    package func link(isInline: Bool = false) -> TableLink {
        TableLink(tableSha256: Self.sha256(manifestBytes), table: isInline ? manifest : nil)
    }

    /// The same rows with another manifest.
    package func changed(_ change: (inout TableManifest) -> Void) throws -> ServedTable {
        var table = self
        change(&table.manifest)
        table.manifestBytes = try CohortJSON.encode(table.manifest)
        return table
    }

    /// The records of these rows, one behind the other.
    package func records(_ rows: Range<Int>) -> [UInt8] {
        let (size, each) = (manifest.layout.recordBytes, manifest.parts.rowsPerPart)
        return rows.flatMap { row in
            let start = row % each * size
            return parts[row / each].dropFirst(start).prefix(size)
        }
    }

    private static func sha256(_ bytes: [UInt8]) -> String {
        SHA256.hash(data: bytes).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    }
}
