public import CohortCore
public import CohortTraining

/// An engine that knows how fast it is here: what a peer needs of one.
public protocol MeasuredEngine: TrainingEngine {
    /// Samples a second on the fixed small net (64-128-64-10, batch 64), measured for about so many seconds. Blocks its thread.
    func measureSamplesPerSecond(for seconds: Double) throws -> Double
}

extension NativeEngine: MeasuredEngine {}

extension PeerConfiguration.EngineChoice {
    /// Called on the training thread.
    func makeEngine(threads: Int) -> any MeasuredEngine {
        switch self {
        case .auto, .native: NativeEngine(threads: threads)
        }
    }
}
