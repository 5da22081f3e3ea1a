import CohortAPI
import CohortCore
import CohortSession
import CohortSystem
import Crypto
import FoundationEssentials
import HTTPTypes
import Hummingbird

/// A session for people without an account, by its owner's link: curves and results, without rows, names of machines, people or files, and events.
struct SharedPage: Sendable {
    let pages: WebPages
    let parts: ServerParts
    let models: ModelShelf
    let strategies: [any Strategy]
    /// Predictions, by link.
    private let predictions = RateLimiter(perMinute: 60, burst: 20)

    init(pages: WebPages, parts: ServerParts, models: ModelShelf, strategies: [any Strategy]) {
        self.pages = pages
        self.parts = parts
        self.models = models
        self.strategies = strategies
    }

    /// The path of the page below the server's address.
    static func path(sessionId: String, secret: String) -> String { "/shared/\(sessionId)/\(secret)" }

    /// What the page shows.
    private struct View: Encodable {
        struct Round: Encodable {
            var round: Int
            var loss: Double?
            var score: Double?
        }

        var name: String
        var target: String?
        var task: LearningTask?
        /// Each machine trained a separate model.
        var isIndependent: Bool
        var rounds: [Round]
        var curves: SessionCurves
        var results: API.Results?
        /// The columns that the model predicts from; nil: nobody may try it.
        var columns: [TableSchema.Column]?
    }

    var routes: [Route] {
        [
            pages.route(.get, "/shared/{id}/{secret}", summary: "A session for people without an account") { request, context in
                guard let (session, _) = try await found(context) else { return gone(request) }
                return hidden(
                    pages.page(
                        request, template: "shared", title: Self.name(of: session), person: nil, scripts: ["shared.js"],
                        values: ["name": Self.name(of: session)]))
            },
            pages.route(.get, "/shared/{id}/{secret}/data", summary: "What the page of a shared session shows") { _, context in
                guard let (session, link) = try await found(context) else { throw Self.goneError }
                return hidden(try .json(try await view(of: session, link)))
            },
            pages.route(.post, "/shared/{id}/{secret}/predict", summary: "Predicts a row from the page of a shared session") {
                request, context in
                guard let (session, link) = try await found(context), let object = session.modelObject else { throw Self.goneError }
                guard link.allowsPredictions else {
                    throw CohortError(.forbidden, "this link shows the model; its owner does not let others try it")
                }
                if let wait = predictions.acquire(link.id) { throw AuthRoutes.tooMany("predictions by this link", wait) }
                let body = try await request.json(API.PredictRequest.self, fields: ["rows", "allow_missing"], upTo: 64 << 10)
                guard body.rows.count == 1 else {
                    throw CohortError(.invalid, "rows has \(body.rows.count) rows; a link predicts one at a time")
                }
                let answer = try await models.predict(body.rows.map { $0.mapValues(\.cell) }, allowMissing: true, with: object)
                return hidden(try .json(answer))
            },
        ]
    }

    /// The session of a link that is valid now.
    private func found(_ context: Context) async throws -> (Session, SharedLink)? {
        let hash = SharedLink.hash(try context.parameters.require("secret"))
        guard let session = try await parts.documents.session(id: try context.parameters.require("id")) else { return nil }
        let now = parts.time.date
        guard let link = session.labels?.links.first(where: { Self.isSame($0.secretSha256, hash) && $0.expiresAt > now }) else {
            return nil
        }
        return (session, link)
    }

    /// Compares two hashes in constant time.
    private static func isSame(_ a: String, _ b: String) -> Bool {
        a.utf8.count == b.utf8.count && zip(a.utf8, b.utf8).reduce(0) { $0 | ($1.0 ^ $1.1) } == 0
    }

    private static let goneError = CohortError(.notFound, "This link does not exist, was revoked, or has expired. Ask for a new one.")

    private func gone(_ request: Request) -> Response {
        hidden(
            pages.page(
                request, template: "problem", title: "Nothing is here", person: nil, status: .notFound,
                values: ["detail": Self.goneError.message]))
    }

    /// No search engine lists it, and no other site learns the link from a click.
    private func hidden(_ response: Response) -> Response {
        var response = response
        for (name, value) in [("Referrer-Policy", "no-referrer"), ("X-Robots-Tag", "noindex, nofollow")] {
            if let name = HTTPField.Name(name) { response.headers[name] = value }
        }
        response.headers[.cacheControl] = "no-store"
        return response
    }

    /// The name that the owner gave; the file's name is not shown.
    private static func name(of session: Session) -> String { session.settings.name ?? "A model" }

    private func view(of session: Session, _ link: SharedLink) async throws -> View {
        let history = try await parts.documents.rounds(sessionId: session.id)
        var curves = try await SessionCurves(of: session, documents: parts.documents)
        let machines = Dictionary(
            session.peers.map(\.name).sorted().enumerated().map { ($1, "machine \($0 + 1)") }, uniquingKeysWith: { first, _ in first })
        for index in curves.peers.indices { curves.peers[index].name = machines[curves.peers[index].name] ?? "a machine" }
        var results = session.results.map { API.Results(session, $0, history: []) }
        if var shown = results {
            for index in shown.peers.indices {
                let name = machines[shown.peers[index].name] ?? "a machine"
                (shown.peers[index].id, shown.peers[index].name, shown.peers[index].message) = (name, name, nil)
            }
            shown.bestPeer = shown.bestPeer.flatMap { machines[$0] }
            shown.warnings = []
            // Pairs of single rows.
            shown.evaluation?.predictions = nil
            results = shown
        }
        var columns: [TableSchema.Column]?
        if link.allowsPredictions, session.modelObject != nil, let object = session.dataset?.schemaObject {
            let schema = try CohortJSON.decode(TableSchema.self, from: try await parts.objects.get(object.key))
            columns = schema.columns.filter { [.numeric, .categorical, .date].contains($0.kind) }
        }
        let isRegression = session.dataset?.task == .regression
        return View(
            name: Self.name(of: session), target: session.dataset?.target, task: session.dataset?.task,
            isIndependent: strategies.first { $0.name == session.settings.strategy }?.trainsOwnModels == true,
            rounds: history.map {
                View.Round(round: $0.round, loss: $0.validation?.loss, score: isRegression ? $0.validation?.r2 : $0.validation?.accuracy)
            }, curves: curves, results: results, columns: columns)
    }
}
