/// Who may train with whom. The one place that says so: at a session's start and in mid-session alike.
public enum Pool: String, Codable, Sendable, CaseIterable {
    /// A peer serves its owner's sessions; a session takes its owner's peers.
    case mine
    /// A peer serves everyone's sessions; a session takes everyone's peers. Both must say so.
    case everyone
}
