import CohortClient
import CohortCore
import CohortSystem
import CohortTraining
import CohortWire
import Crypto
import FoundationEssentials
import Logging

/// A round's weights: uploaded, or small enough to go in DONE.
struct Update: Sendable {
    var reference: ObjectReference
    var data: Data?
    /// The optimizer's steps, where its moments travel with the weights.
    var optimizerSteps: Int?
}

/// Encodes and sends updates, and keeps what the next one depends on. Lives on the training thread.
final class UpdateSender {
    private let objects: ObjectTransfer
    /// The rounding errors of earlier updates.
    private var feedback: CountedVector
    /// This peer's control variate.
    private var variate: CountedVector

    init(objects: ObjectTransfer, folder: String, logger: Logger) {
        self.objects = objects
        feedback = CountedVector("error-feedback", folder: folder, logger: logger)
        variate = CountedVector("control-variate", folder: folder, logger: logger)
    }

    /// Releases the memory; the files stay.
    func release() {
        feedback.forget()
        variate.forget()
    }

    /// Returns the variates of a round of SCAFFOLD; nil for other strategies and for an evaluation.
    /// - Parameter values: the numbers of the weights file that the round begins with.
    func controlVariates(for command: TrainCommand, values: [Float]) -> ControlVariates? {
        let layout = command.layout
        guard command.plan.epochs > 0, layout.streams == [WeightsLayout.controlVariate] else { return nil }
        // In the first round there is none.
        let mean = layout.controlVariate(of: values) ?? [Float](repeating: 0, count: layout.parameters(of: values).count)
        let own = variate.counted(for: command, WeightsLayout(command.start.model))
        return ControlVariates(ofAll: mean, own: own ?? mean)
    }

    /// Sends the model as the update of the command.
    /// - Parameters:
    ///   - start: the weights that the round began with.
    ///   - rates: the sum of all steps' learning rates.
    /// - Returns: nil when no update was asked for.
    /// - Throws: ``RunFailure`` for weights that are not finite; what the upload throws.
    nonisolated(nonsending) func send(
        _ model: any TrainableModel, from start: [Float], command: TrainCommand, variates: ControlVariates?, rates: Double,
        progress: ProgressReporter
    ) async throws -> Update? {
        guard let target = command.update else { return nil }
        let layout = command.updateLayout
        let weightsAlone = WeightsLayout(command.start.model)
        let state = layout.streams.isEmpty || variates != nil ? nil : try model.optimizerState()
        var values = try model.parameters()
        if let variates {
            values += variates.next(from: start, to: values, rates: rates)
        } else {
            values = layout.values(values, state)
        }
        guard values.allSatisfy(\.isFinite) else { throw RunFailure.diverged(command, epoch: command.plan.epochs) }
        let compression = target.compression ?? .none
        let bytes: [UInt8]
        if compression != .none {
            var rest = feedback.counted(for: command, weightsAlone) ?? []
            bytes = try UpdateFile.encode(layout, values: values, start: start, compression: compression, rest: &rest)
            if !rest.isEmpty { feedback.keep(rest, of: command, weightsAlone) }
        } else {
            bytes = try Weights.encode(layout, values)
        }
        if variates != nil {
            // As it was sent: what all have of it, and what this peer goes on from, are the same to the bit.
            if compression != .none { values = try UpdateFile.decode(bytes, layout, start: start) }
            variate.keep(Array(values.suffix(start.count)), of: command, weightsAlone)
        }
        let reference = ObjectReference(key: target.key, sha256: SHA256.hash(data: bytes).hexadecimal, bytes: bytes.count)
        if let limit = target.inlineBytes, bytes.count <= limit {
            return Update(reference: reference, data: Data(bytes), optimizerSteps: state?.steps)
        }
        try await objects.upload(bytes, to: target.url) { progress.sign(.uploading, $0) }
        return Update(reference: reference, data: nil, optimizerSteps: state?.steps)
    }
}
