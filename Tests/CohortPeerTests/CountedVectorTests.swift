import CohortCore
import CohortSession
import CohortWire
import FoundationEssentials
import Logging
import Testing

@testable import CohortPeer

@Suite final class CountedVectorTests {
    private let folder = "\(FileManager.default.temporaryDirectory.path)/cohort-counted-\(newIdentifier())"
    private let model = ModelSpec(inputs: 2, hidden: [], outputs: 1, task: .regression)
    private var layout: WeightsLayout { WeightsLayout(model) }

    deinit { try? FileManager.default.removeItem(atPath: folder) }

    private func vector(_ name: String = "v") -> CountedVector {
        CountedVector(name, folder: folder, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    private func command(_ round: Int, counted: Int?, session: String = "s") -> TrainCommand {
        TrainCommand(
            work: WorkKey(sessionId: session, generation: 0, round: round), csvLink: "",
            table: TableLink(tableSha256: "ab"), start: StartingModel(model: model, modelSeed: 0),
            plan: WorkPlan(rows: [], epochs: 1), options: TrainingOptions(),
            update: UpdateTarget(url: "", key: "", countedRound: counted))
    }

    private var files: [String] { ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).sorted() }

    @Test(arguments: [false, true])
    func `what an answer leaves goes on only if it counted, over restarts as well`(restarts: Bool) {
        var vector = vector()
        func counted(_ round: Int, _ counted: Int?, session: String = "s") -> [Float]? {
            if restarts { vector = self.vector() }
            return vector.counted(for: command(round, counted: counted, session: session), layout)
        }
        #expect(counted(0, nil) == nil)
        vector.keep([1, 1, 1], of: command(0, counted: nil), layout)
        #expect(counted(1, 0) == [1, 1, 1])
        vector.keep([2, 2, 2], of: command(1, counted: 0), layout)
        // Too late: the round closed without it.
        #expect(counted(2, 0) == [1, 1, 1])
        vector.keep([3, 3, 3], of: command(2, counted: 0), layout)
        // The same round, formed again.
        #expect(counted(2, 0) == [1, 1, 1])
        vector.keep([4, 4, 4], of: command(2, counted: 0), layout)
        #expect(files.count == 2)
        #expect(counted(3, 2) == [4, 4, 4])
        #expect(files.count == 1)
        #expect(counted(0, nil, session: "../other") == nil)
        #expect(files.isEmpty)
    }

    @Test func `a damaged file is done without, and other vectors' files stay`() throws {
        var (one, other) = (vector("one"), vector("two"))
        one.keep([1, 2, 3], of: command(0, counted: nil), layout)
        other.keep([4, 5, 6], of: command(0, counted: nil), layout)
        let path = "\(folder)/\(try #require(files.first))"
        try Data("not a file of tensors".utf8).write(to: URL(filePath: path))
        one = vector("one")
        #expect(one.counted(for: command(1, counted: 0), layout) == nil)
        other = vector("two")
        #expect(other.counted(for: command(1, counted: 0), layout) == [4, 5, 6])
    }
}
