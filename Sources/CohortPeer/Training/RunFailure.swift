import CohortCore
import CohortWire

/// The failure of a peer's work.
struct RunFailure: Error {
    let message: String
    /// The same work may succeed on this peer later.
    let retryable: Bool
    /// The work is of a round that is over: nothing went wrong here.
    let isStale: Bool

    init(message: String, retryable: Bool, isStale: Bool = false) {
        self.isStale = isStale
        // What ERROR may carry.
        self.message = message.printable(max: 1_000)
        self.retryable = retryable
    }

    init(_ error: any Error) {
        switch error {
        case let failure as RunFailure: self = failure
        case let error as CohortError:
            // An expired link (forbidden) comes fresh with the next command; a full disk and wrong data stay as they are.
            self.init(message: error.message, retryable: [.unavailable, .internal, .forbidden, .notFound].contains(error.code))
        default: self.init(message: "\(error)", retryable: false)
        }
    }
}

extension RunFailure {
    static func diverged(_ command: TrainCommand, epoch: Int) -> RunFailure {
        RunFailure(
            message:
                "the loss is not a number any more after epoch \(epoch): training diverged; lower the learning rate (lr is \(command.options.learningRate))",
            retryable: false)
    }
}
