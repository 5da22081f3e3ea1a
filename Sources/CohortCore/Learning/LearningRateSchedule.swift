import FoundationEssentials

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Schedules of the learning rate over the epochs of a whole session; each epoch has one rate.
public enum LearningRateSchedule: String, Codable, Sendable, CaseIterable {
    /// The same in every epoch.
    case constant
    /// Equal steps down from `lr`: epoch e of n has `lr` · (1 − e / n).
    case linear
    /// Along half a cosine: epoch e of n has `lr` · (1 + cos(π e / n)) / 2 (Loshchilov and Hutter, "SGDR", 2017, without restarts).
    case cosine
    /// Constant for the first two thirds, then down in equal steps.
    case decay

    /// The factor of `lr`, above 0 and at most 1.
    /// - Parameter epoch: from 0; at or past `epochs` it is taken as the last one.
    public func factor(epoch: Int, of epochs: Int) -> Double {
        guard epochs > 1 else { return 1 }
        let share = Double(min(max(epoch, 0), epochs - 1)) / Double(epochs)
        switch self {
        case .constant: return 1
        case .linear: return 1 - share
        case .cosine: return (1 + cos(.pi * share)) / 2
        case .decay: return min(1, 3 * (1 - share))
        }
    }
}

/// A round's position in the session's schedule, as in TRAIN.
public struct SchedulePosition: Codable, Hashable, Sendable {
    public var name: LearningRateSchedule
    /// The session's epoch that this round begins with, from 0.
    public var epoch: Int
    /// All epochs of the session on this peer.
    public var epochs: Int

    public init(name: LearningRateSchedule, epoch: Int, epochs: Int) {
        self.name = name
        self.epoch = epoch
        self.epochs = epochs
    }

    /// - Parameter epoch: of the round, from 0.
    public func factor(epoch: Int) -> Double { name.factor(epoch: self.epoch + epoch, of: epochs) }
}
