import CohortCore

extension SessionSettings.Override {
    static let fields = ["batch_size", "epochs", "lr"]

    /// Peer's name or id → what it overrides, from JSON.
    /// - Throws: ``CohortError`` `invalid`, with what would be right.
    static func parse(_ text: String) throws -> [String: SessionSettings.Override] {
        let right = #"JSON such as {"lena-mbp": {"lr": 0.01, "batch_size": 16}}"#
        let named: [String: [String: JSONScalar]]
        do { named = try CohortJSON.decode([String: [String: JSONScalar]].self, from: text.utf8) } catch {
            throw CohortError(.invalid, "per_peer must be \(right); it is '\(text.printable(max: 60))'")
        }
        for (peer, given) in named {
            guard let unknown = given.keys.sorted().first(where: { !fields.contains($0) }) else { continue }
            let hint = Spelling.nearest(to: unknown, in: fields).map { "; did you mean '\($0)'?" } ?? ""
            throw CohortError(
                .invalid,
                "there is no field 'per_peer.\(peer.printable(max: 40)).\(unknown.printable(max: 40))'; the fields are \(fields.joined(separator: ", "))\(hint)"
            )
        }
        do { return try CohortJSON.decode([String: SessionSettings.Override].self, from: text.utf8) } catch let error as CohortError {
            throw CohortError(.invalid, "per_peer must be \(right): \(error.message)")
        }
    }
}
