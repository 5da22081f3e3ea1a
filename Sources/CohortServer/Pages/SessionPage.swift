import CohortAPI
import CohortCore
import CohortSession
import FoundationEssentials
import HTTPTypes
import Hummingbird

/// One session: live while it runs, and what came of it.
struct SessionPage: Sendable {
    let pages: WebPages
    let documents: any Documents
    let strategies: [any Strategy]

    /// A peer's epochs, thinned.
    private struct Curve: Encodable {
        var name: String
        var round: [Int]
        var epoch: [Int]
        var loss: [Float?]
        /// Accuracy, or R² of a quantity.
        var score: [Float?]
    }

    /// Points that a curve is drawn with, and all curves of many machines.
    private static let (most, mostOfAll) = (400, 4_000)

    private static func curves(_ points: [MetricPoint], isRegression: Bool) -> [Curve] {
        let peers = Dictionary(grouping: points.filter { $0.peerId != nil }) { $0.peerName ?? "" }
        return peers.sorted { $0.key < $1.key }.map { name, points in
            Curve(
                name: name, round: points.map(\.round), epoch: points.map(\.epoch), loss: points.map { short($0.loss) },
                score: points.map { short(isRegression ? $0.r2 : $0.accuracy) })
        }
    }

    /// A number with the digits that a curve needs.
    private static func short(_ value: Double?) -> Float? { value.map { Float($0) }.flatMap { $0.isFinite ? $0 : nil } }

    var routes: [Route] {
        [
            pages.route(.get, "/app/curves/{id}", summary: "The curves of a session's page") { request, context in
                let caller = try await pages.authenticator.caller(of: request, scope: .user)
                let id = try context.parameters.require("id")
                guard let session = try await documents.session(id: id), session.ownerId == caller.userId else {
                    throw CohortError(.notFound, "there is no session '\(id.printable(max: 60))' of yours")
                }
                let task = session.dataset?.task ?? session.settings.task
                let most = max(50, min(Self.most, Self.mostOfAll / max(1, session.peers.count)))
                return try .json(
                    Self.curves(try await documents.metrics(sessionId: id, maxPerPeer: most), isRegression: task == .regression))
            },
            pages.route(.get, "/app/session/{id}", summary: "The page of a session") { request, context in
                let id = try context.parameters.require("id")
                guard let person = try await pages.person(request) else {
                    return pages.redirect(
                        to: "/app/signin?next=/app/session/\(id.filter { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-") })")
                }
                guard let session = try await documents.session(id: id), session.ownerId == person.id else {
                    return pages.page(
                        request, template: "problem", title: "Not found", person: person.name, status: .notFound,
                        values: ["detail": "There is no session '\(id.printable(max: 60))' of yours."])
                }
                return pages.page(
                    request, template: "session", title: session.settings.name ?? session.filename, person: person.name,
                    scripts: ["session.js"],
                    values: [
                        "id": session.id, "short": String(session.id.prefix(8)), "name": session.settings.name ?? session.filename,
                        "state": API.TrainingStatus(session).message, "progress": "\(session.progress)",
                        "own": "\(strategies.first { $0.name == session.settings.strategy }?.trainsOwnModels == true)",
                    ])
            },
        ]
    }
}
