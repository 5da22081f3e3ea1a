package import CohortCore
import CohortSession
import CohortStrategies
package import CohortSystem
import CohortTraining
import CohortWire
import Crypto
import FoundationEssentials

/// Inspects the updates of one session and combines them into the next weights: large updates are read a piece at a time, small ones once. Hashing, checking
/// and averaging run on the coordinator's thread for them, never on the cooperative pool.
package actor Aggregator {
    /// Updates that were inspected and wait for their round to close have at most 4 bytes for each of so many parameters; what has more is read and written
    /// by slices.
    let maxKept: Int
    /// Parameters of a slice: 256 KiB of each update.
    let sliceWidth: Int

    let objects: any ObjectStore
    private let executor: ThreadExecutor
    /// The round's weights, by their hash; the initial ones by an empty one.
    var known: (sha256: String, parameters: [Float])?
    /// The slots of the outer optimizer for the newest weights.
    var knownSlots: (sha256: String, slots: [[Float]])?
    /// Inspected updates by key, each with the hash of its bytes.
    var kept: [String: (sha256: String, chunks: [[UInt8]])] = [:]

    package nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    /// An update differs from the one that was accepted.
    struct Changed: Error {
        let peerId: String
        let reason: String
    }

    /// The server's own step resulted in weights that are not finite: a retry would do the same.
    struct Diverged: Error {
        let message: String
    }

    package init(_ objects: any ObjectStore, on executor: ThreadExecutor, maxKept: Int = 4 << 20, sliceWidth: Int = 64 << 10) {
        self.maxKept = maxKept
        self.sliceWidth = sliceWidth
        self.objects = objects
        self.executor = executor
    }

    static func key(_ session: Session, generation: Int, round: Int, attempt: Int, peerId: String) -> String {
        "\(session.updatePrefix)g\(generation)-r\(round)-a\(attempt)-\(peerId).safetensors"
    }

    /// The file of the round's weights, when it is small and still at hand.
    func smallFile(of weights: ObjectReference, _ layout: WeightsLayout) throws -> Data? {
        guard weights.bytes <= TrainCommandBuilder.maxInlineWeightsBytes, let known, known.sha256 == weights.sha256 else { return nil }
        return Data(try Weights.encode(layout, known.parameters))
    }

    /// The weights that the session's round starts from.
    func parameters(of session: Session) async throws -> [Float]? {
        guard let layout = session.layout else { return nil }
        return layout.parameters(of: try await start(of: session, layout))
    }

    /// The parameters of the given weights, which need not be the newest.
    func parameters(of session: Session, weights: ObjectReference) async throws -> [Float]? {
        guard let layout = session.layout(of: weights) else { return nil }
        if let known, known.sha256 == weights.sha256 { return layout.parameters(of: known.parameters) }
        return layout.parameters(of: try Weights.decode(try await objects.get(weights.key), layout))
    }

    /// The round's weights, followed by the averaged streams.
    func start(of session: Session, _ layout: WeightsLayout) async throws -> [Float] {
        let sha256 = session.weights?.sha256 ?? ""
        if let known, known.sha256 == sha256 { return known.parameters }
        let parameters =
            if let weights = session.weights {
                try Weights.decode(try await objects.get(weights.key), layout)
            } else {
                layout.values(initialParameters(layout.model, seed: session.settings.seed), nil)
            }
        known = (sha256, parameters)
        return parameters
    }
}
