import CohortCore
import FoundationEssentials
import TestSupport
import Testing

@testable import CohortTraining

/// The rows of a table that a machine has.
@Suite struct LocalTableTests {
    /// A packed table and its records.
    private struct Packed {
        let manifest: TableManifest
        let dictionary: [Float]
        let records: [UInt8]

        init(rows: Int, in folder: String) throws {
            let path = "\(folder)/data.csv"
            let text =
                "a,b,c,y\n" + (0..<rows).map { "\(Double($0) * 1.37 - 5),\($0 % 9),\(["x", "y", "z"][$0 % 3]),c\($0 % 4)\n" }.joined()
            try Data(text.utf8).write(to: URL(filePath: path))
            let finding = try SchemaInference.infer(csvAt: path, target: "y", task: nil, validation: 0.2, seed: 2)
            let plan = RecordPlan(finding.schema, finding.values)
            let packer = try TablePacker(csvAt: path, schema: finding.schema, plan: plan, seed: 2, folder: folder)
            records = try (0..<packer.parts.count).flatMap(packer.part)
            dictionary = plan.dictionary
            manifest = TableManifest(
                task: .classification, outputs: 4, layout: plan.layout, parts: packer.parts,
                partSha256: Array(repeating: String(repeating: "0", count: 64), count: packer.parts.count),
                dictionary: Data(dictionary.flatMap { value in withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) } }),
                dictionarySha256: String(repeating: "0", count: 64))
        }

        func records(_ range: RowRange) -> [UInt8] {
            let size = manifest.layout.recordBytes
            return Array(records[(range.start * size)..<(range.end * size)])
        }

        /// All rows, in memory.
        func whole(in folder: String) throws -> LocalTable {
            let table = try LocalTable(manifest, sha256: "whole", dictionary: dictionary, path: "\(folder)/whole.rows")
            let all = RowRange(start: 0, end: manifest.parts.rows)
            try table.add(records(all), at: all)
            return table
        }
    }

    /// A table in memory, and one in a file.
    @Test(arguments: [300, 150_000]) func `what was added is there, at its place, packed and as floats`(rows: Int) async throws {
        try await withFolder { folder in
            let packed = try Packed(rows: rows, in: folder)
            let whole = try packed.whole(in: folder)
            let table = try LocalTable(packed.manifest, sha256: "s", dictionary: packed.dictionary, path: "\(folder)/some.rows")
            let ranges = [RowRange(start: rows / 2, end: rows / 2 + 40), RowRange(start: 3, end: 17)]
            for range in ranges { try table.add(packed.records(range), at: range) }
            #expect(table.rows == RowSet(ranges))
            #expect(FileManager.default.fileExists(atPath: "\(folder)/some.rows") == (rows > 1_000))
            let floats = try table.expanded(in: folder)
            for row in ranges.flatMap({ $0.start..<$0.end }) {
                let expected = whole.table.features(of: row..<(row + 1))
                for some in [table.table, floats] {
                    #expect(some.features(of: row..<(row + 1)).map(\.bitPattern) == expected.map(\.bitPattern))
                    #expect(some.target(of: row) == whole.table.target(of: row))
                }
            }
            // A large one is a file without a name, which a module's process can map.
            #expect((floats.file != nil) == (rows > 1_000))
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder).allSatisfy { !$0.hasSuffix(".part") })
        }
    }

    @Test func `another run finds the rows that are there, of the same table and the same start of the machine`() async throws {
        try await withFolder { folder in
            let packed = try Packed(rows: 150_000, in: folder)
            let path = "\(folder)/kept.rows"
            let range = RowRange(start: 70, end: 900)
            func open(_ sha256: String) throws -> LocalTable {
                try LocalTable(packed.manifest, sha256: sha256, dictionary: packed.dictionary, path: path)
            }
            try open("s").add(packed.records(range), at: range)
            let again = try open("s")
            #expect(again.rows.ranges == [range])
            #expect(again.table.features(of: 70..<80) == (try packed.whole(in: folder)).table.features(of: 70..<80))
            // The machine was started again: what was not flushed may be zeros.
            let index = try String(contentsOfFile: "\(path).json", encoding: .utf8)
            let boot = try String(contentsOfFile: "/proc/sys/kernel/random/boot_id", encoding: .utf8).split(separator: "\n")[0]
            #expect(index.contains(boot))
            try index.replacing(boot, with: "another").write(toFile: "\(path).json", atomically: true, encoding: .utf8)
            #expect(try open("s").rows.isEmpty)
            try open("s").add(packed.records(range), at: range)
            #expect(try open("another").rows.isEmpty)
            // What is damaged says nothing.
            try open("s").add(packed.records(range), at: range)
            try Data("{".utf8).write(to: URL(filePath: "\(path).json"))
            #expect(try open("s").rows.isEmpty)
            LocalTable.remove(path)
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder).allSatisfy { !$0.hasPrefix("kept") })
        }
    }

    @Test(.enabled(if: SmallDisk.isPossible, SmallDisk.reason))
    func `a full disk is reported before rows are fetched, and fewer rows still fit`() async throws {
        try await withFolder { folder in
            let packed = try Packed(rows: 150_000, in: folder)
            try await SmallDisk.with(kilobytes: 256) { disk in
                let table = try LocalTable(packed.manifest, sha256: "s", dictionary: packed.dictionary, path: "\(disk.path)/some.rows")
                let error = #expect(throws: CohortError.self) { try table.reserve(RowRange(start: 0, end: packed.manifest.parts.rows)) }
                #expect(error?.code == .storageFull)
                let few = RowRange(start: 1_000, end: 2_000)
                try table.reserve(few)
                try table.add(packed.records(few), at: few)
                #expect(table.rows.ranges == [few])
            }
        }
    }

    @Test func `records that do not fit are refused, and change nothing`() async throws {
        try await withFolder { folder in
            let packed = try Packed(rows: 300, in: folder)
            let table = try LocalTable(packed.manifest, sha256: "s", dictionary: packed.dictionary, path: "\(folder)/some.rows")
            let range = RowRange(start: 10, end: 20)
            let good = packed.records(range)
            var badCode = good
            badCode[packed.manifest.layout.targetOffset] = 9
            for (records, place) in [
                (Array(good.dropLast()), range), ([], range), (good, RowRange(start: 295, end: 305)), (good, RowRange(start: -5, end: 5)),
                (badCode, range),
            ] {
                let error = #expect(throws: CohortError.self) { try table.add(records, at: place) }
                #expect(error?.code == .invalid)
            }
            #expect(table.rows.isEmpty)
            try table.add(good, at: range)
            #expect(table.rows.ranges == [range])
        }
    }

    /// A byte changed, a piece cut out, a number replaced by an extreme one: refused, or read within bounds.
    @Test func `damaged manifests are refused in a sentence, and never read out of bounds`() async throws {
        try await withFolder { folder in
            let packed = try Packed(rows: 300, in: folder)
            let text = String(decoding: try CohortJSON.encode(packed.manifest), as: UTF8.self)
            try CohortJSON.decode(TableManifest.self, from: text.utf8).check()
            var generator = SeededGenerator(seed: 7)
            let extremes = [
                "-1", "0", "1", "255", "256", "65536", "4294967296", "9223372036854775807", "-9223372036854775808", "1e300", "null", "\"\"",
            ]
            var accepted = 0
            for _ in 0..<5_000 {
                var damaged = Array(text.utf8)
                switch Int.random(in: 0..<3, using: &generator) {
                case 0: damaged[Int.random(in: damaged.indices, using: &generator)] = UInt8.random(in: 32...126, using: &generator)
                case 1:
                    let start = Int.random(in: damaged.indices, using: &generator)
                    damaged.removeSubrange(start..<min(damaged.count, start + Int.random(in: 1...40, using: &generator)))
                default:
                    let numbers = text.matches(of: /[:\[,](-?\d+)/)
                    guard let found = numbers.randomElement(using: &generator), let word = extremes.randomElement(using: &generator) else {
                        continue
                    }
                    damaged = Array((text[..<found.output.1.startIndex] + word + text[found.output.1.endIndex...]).utf8)
                }
                do {
                    let manifest = try CohortJSON.decode(TableManifest.self, from: damaged)
                    try manifest.check()
                    guard manifest.parts.bytes < 1 << 20 else { continue }
                    accepted += 1
                    let dictionary = try manifest.floats(ofDictionary: manifest.dictionary ?? Data(count: 4 * manifest.dictionaryFloats))
                    let table = try LocalTable(manifest, sha256: "s", dictionary: dictionary, path: "\(folder)/x.rows")
                    let all = RowRange(start: 0, end: manifest.parts.rows)
                    try table.add([UInt8](repeating: 0, count: manifest.parts.bytes), at: all)
                    _ = table.table.features(of: 0..<manifest.parts.rows)
                } catch let error as CohortError {
                    #expect(error.code == .invalid, "\(error)")
                }
            }
            #expect(accepted > 100, "what is still whole is read: \(accepted)")
        }
    }
}
