import CohortWire

extension Session {
    /// The progress of the session, 0 … 1: the closed rounds, and the mean over the peers of the current one.
    public var progress: Double {
        if status == .completed { return 1 }
        guard round < settings.rounds else { return 1 }
        let living = peers.filter(\.isAlive)
        let current = living.isEmpty ? 0 : living.reduce(0) { $0 + $1.progress } / Double(living.count)
        return min(1, (Double(round) + current) / Double(max(settings.rounds, 1)))
    }
}
