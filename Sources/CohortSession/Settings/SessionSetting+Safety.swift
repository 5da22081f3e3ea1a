import CohortCore

/// Who takes part, and what is refused.
extension SessionSetting {
    static let safety: [SessionSetting] = [
        choice(
            "pool", standard: Pool.mine,
            help: "Whose peers may take part, and so see the data: mine, or everyone (those started with --serve everyone).",
            read: { $0.pool }, write: { $0.pool = $1 }),
        SessionSetting(
            name: "min_peers", kind: .whole(1...10_000), help: "Fewer living peers than this end the session.", standard: "1",
            read: { "\($0.minPeers)" },
            write: { settings, text in
                guard let value = Int(text) else { throw misread("min_peers", text: text, expected: "a whole number") }
                settings.minPeers = value
            },
            check: { settings in
                guard settings.minPeers >= 1, settings.minPeers <= settings.peers else {
                    throw problem(
                        "min_peers", value: settings.minPeers, expected: "from 1 to the number of peers asked for (\(settings.peers))")
                }
            }),
        number(
            "max_norm_ratio", \.maxNormRatio, in: .above(1, right: "above 1"),
            help: "Refuse updates whose norm is so many times the running median; absent: only warn, past three times."),
        flag(
            "keep_updates", \.keepUpdates,
            help: "Keep every round's updates, so that cohort replay can compute the model again, without a peer if need be."),
    ]
}
