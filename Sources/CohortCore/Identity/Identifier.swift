import FoundationEssentials

/// Identifiers of users, peers, sessions, tokens: random UUIDs, lowercased.
public func newIdentifier() -> String { UUID().uuidString.lowercased() }
