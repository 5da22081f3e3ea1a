import CohortCore
import FoundationEssentials
import Testing

@testable import CohortTraining

/// Ids and numbers in which time hides.
@Suite struct TimeWarningTests {
    private func warnings(_ text: String, _ options: DataOptions = DataOptions()) throws -> [String] {
        let path = FileManager.default.temporaryDirectory.appending(path: "cohort-time-\(newIdentifier()).csv").path
        try Data(text.utf8).write(to: URL(filePath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        return try SchemaInference.infer(csvAt: path, target: "y", task: nil, validation: 0.2, seed: 1, options: options).warnings
    }

    /// Rows by `id`, each with a number that tells nothing.
    private func table(_ ids: [Int], _ target: (Int) -> String) -> String {
        var generator = SeededGenerator(seed: 3)
        return "id,x,y\n" + ids.map { "\($0),\(generator.nextFloat()),\(target($0))\n" }.joined()
    }

    private let ids = Array(1...400)
    /// All different, in no order.
    private var shuffled: [Int] { ids.map { ($0 * 173) % 401 } }
    private static func noise(_ id: Int) -> Double { Double((id * 7_919) % 101) / 101 }
    private static func trend(_ id: Int) -> String { "\(Double(id) / 100 + noise(id))" }
    private static let said = "'id' is left out as an id, but rows that follow one another"

    @Test(arguments: [false, true]) func `an id by which the target drifts is named, in whatever order the rows are`(isShuffled: Bool)
        throws
    {
        let rows = isShuffled ? shuffled : ids
        #expect(try warnings(table(rows, Self.trend)).contains { $0.hasPrefix(Self.said) && $0.contains("--use id keeps it") })
        #expect(try warnings(table(rows) { ($0 / 40) % 2 == 0 ? "spam" : "ham" }).contains { $0.hasPrefix(Self.said) })
    }

    @Test func `an id that tells nothing, that is used, that was asked to go or that the rows were sorted by is not named`() throws {
        for (text, options) in [
            (table(ids) { "\(Self.noise($0))" }, DataOptions()), (table(ids) { $0 % 3 == 0 ? "a" : "b" }, DataOptions()),
            (table(ids, Self.trend), DataOptions(ignore: ["id"])), (table(ids, Self.trend), DataOptions(use: ["id"])),
            (table(ids) { "\($0 * $0)" }, DataOptions()), (table(ids) { $0 < 150 ? "a" : $0 < 300 ? "b" : "c" }, DataOptions()),
        ] {
            let found = try warnings(text, options).filter { $0.contains("is left out as an id, but") }
            #expect(found.isEmpty, "\(found)")
        }
    }

    @Test func `year and month in one number are distinguished from other numbers`() throws {
        func text(_ month: (Int) -> Int) -> String {
            "month,x,y\n" + (0..<120).map { "\(month($0)),\(Self.noise($0)),\($0 % 2 == 0 ? "a" : "b")\n" }.joined()
        }
        let months = try warnings(text { (2_020 + $0 % 36 / 12) * 100 + $0 % 12 + 1 })
        #expect(
            months.contains { $0.contains("'month' looks like year and month in one number (2020") && $0.contains("2020-") }, "\(months)")
        let others = try warnings(text { 202_000 + $0 % 90 })
        #expect(!others.contains { $0.contains("year and month") }, "\(others)")
    }
}
