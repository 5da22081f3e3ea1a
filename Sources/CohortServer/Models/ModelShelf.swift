import CohortAPI
import CohortCore
import CohortSystem
import CohortTraining

/// The models that were last predicted with, in memory, so that a prediction does not read its model each time.
actor ModelShelf {
    private static let places = 4

    private let objects: any ObjectStore
    private let lanes = BlockingLanes("predictions", count: 1, limit: 64)
    /// Newest last.
    private var shelf: [(sha256: String, predictor: SharedPredictor)] = []

    init(objects: any ObjectStore) { self.objects = objects }

    func predict(_ rows: [[String: String?]], allowMissing: Bool, with object: ObjectReference) async throws -> API.Prediction {
        let predictor = try await predictor(object)
        return try await lanes.run {
            let predictions = try predictor.value.predict(rows, allowMissing: allowMissing)
            let isClassification = predictor.value.file.spec.task == .classification
            return API.Prediction(
                predictions: predictions.map { prediction in prediction.label.map { .text($0) } ?? .number(prediction.value ?? 0) },
                probabilities: isClassification ? predictions.map(\.probabilities) : nil)
        }
    }

    private func predictor(_ object: ObjectReference) async throws -> SharedPredictor {
        if let index = shelf.firstIndex(where: { $0.sha256 == object.sha256 }) {
            let found = shelf.remove(at: index)
            shelf.append(found)
            return found.predictor
        }
        let bytes = try await objects.get(object.key)
        let predictor = try await lanes.run { SharedPredictor(value: try Predictor(ModelFile.decode(bytes))) }
        shelf.append((object.sha256, predictor))
        if shelf.count > Self.places { shelf.removeFirst() }
        return predictor
    }

    /// @unchecked: used on the one thread of `lanes` alone.
    private struct SharedPredictor: @unchecked Sendable {
        let value: Predictor
    }
}
