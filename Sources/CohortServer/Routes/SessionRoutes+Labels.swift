import CohortAPI
import CohortCore
import CohortSession
import CohortSystem
import CohortWire
import Crypto
import FoundationEssentials
import HTTPTypes
import Hummingbird

/// Notes, tags and links of a session.
extension SessionRoutes {
    var labelRoutes: [Route] {
        [
            .user(.patch, "/sessions/{id}", summary: "Change the note and the tags") { request, context, caller in
                let session = try await session(context, caller)
                let body = try await request.json(API.Labels.self, fields: ["note", "tags"], upTo: 64 << 10)
                let labels = try await change(session) { labels in
                    if let note = body.note { try labels.setNote(note) }
                    if let tags = body.tags { try labels.setTags(tags.map(\.trimmed)) }
                }
                return try .json(API.Labels(note: labels.note ?? session.settings.note, tags: labels.tags))
            },
            .user(.get, "/sessions/{id}/links", summary: "Links that show the session to people without an account") {
                _, context, caller in
                let session = try await session(context, caller)
                return try .json(valid(session.labels?.links ?? []).map { API.Link($0) })
            },
            .user(.post, "/sessions/{id}/links", summary: "Make a link that shows the session to people without an account") {
                request, context, caller in
                let session = try await session(context, caller)
                guard session.status == .completed else { throw missing(session, "results to show") }
                let body = try await request.json(API.NewLink.self, fields: ["allows_predictions", "expires_in"])
                let seconds = body.expiresIn ?? Self.linkSeconds
                guard (60...31_536_000).contains(seconds) else {
                    throw CohortError(.invalid, "expires_in is \(seconds); it must be from 60 to 31536000 seconds")
                }
                let secret = SharedLink.newSecret()
                let link = SharedLink(
                    id: newIdentifier(), secretSha256: SharedLink.hash(secret), createdAt: parts.time.date,
                    expiresAt: parts.time.date.addingTimeInterval(Double(seconds)), allowsPredictions: body.allowsPredictions == true)
                _ = try await change(session) { labels in
                    labels.links = valid(labels.links)
                    guard labels.links.count < SessionLabels.maxLinks else {
                        throw CohortError(
                            .conflict, "the session has \(SessionLabels.maxLinks) links, which is the most: revoke one of them first")
                    }
                    labels.links.append(link)
                }
                return try .json(API.Link(link, path: SharedPage.path(sessionId: session.id, secret: secret)), status: .created)
            },
            .user(.delete, "/sessions/{id}/links/{link}", summary: "Revoke a link") { _, context, caller in
                let session = try await session(context, caller)
                let id = try context.parameters.require("link")
                _ = try await change(session) { labels in
                    guard labels.links.contains(where: { $0.id == id }) else {
                        throw CohortError(.notFound, "the session has no link '\(id.printable(max: 60))'")
                    }
                    labels.links.removeAll { $0.id == id }
                }
                return .noContent
            },
        ]
    }

    /// Seconds after which a link expires.
    private static let linkSeconds = 30 * 86_400

    private func valid(_ links: [SharedLink]) -> [SharedLink] { links.filter { $0.expiresAt > parts.time.date } }

    /// Changes the labels as they are stored now, again when another change came first.
    private func change(_ session: Session, _ change: (inout SessionLabels) throws -> Void) async throws -> SessionLabels {
        for _ in 0..<100 {
            guard let stored = try await documents.session(id: session.id) else { break }
            var labels = stored.labels ?? SessionLabels()
            try change(&labels)
            if let changed = try await documents.setLabels(labels, sessionId: session.id) { return changed }
        }
        throw CohortError(.conflict, "the session was deleted, or is being changed by others all the time: load it again")
    }
}

extension SharedLink {
    /// 128 bits of chance, as 22 characters for an address.
    static func newSecret() -> String {
        let bytes = SymmetricKey(size: .bits128).withUnsafeBytes { Data($0) }
        return bytes.base64EncodedString().replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
    }

    /// SHA-256 of a secret, 64 hexadecimal digits. A secret has 128 bits of chance: no slower hash makes guessing it harder.
    static func hash(_ secret: String) -> String { SHA256.hash(data: [UInt8](secret.utf8)).hexadecimal }
}
