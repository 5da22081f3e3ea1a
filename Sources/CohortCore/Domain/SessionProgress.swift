extension Session {
    /// Of the whole session, 0 … 1: rounds closed, and of the current one the mean over living peers.
    public var progress: Double {
        if status == .completed { return 1 }
        guard round < settings.rounds else { return 1 }
        let living = peers.filter(\.isAlive)
        let current = living.isEmpty ? 0 : living.reduce(0) { $0 + $1.progress } / Double(living.count)
        return min(1, (Double(round) + current) / Double(max(settings.rounds, 1)))
    }
}
