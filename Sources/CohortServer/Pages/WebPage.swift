import CohortCore
import CohortSession
import CohortSystem
import Crypto
import HTTPTypes
import Hummingbird
import Logging
import Mustache

/// Pages, made of templates.
struct WebPages: Sendable {
    private let library: MustacheLibrary
    let assets: WebAssets
    let authenticator: Authenticator
    private let documents: any Documents
    let web: WebSession

    init(web: WebSession, authenticator: Authenticator, documents: any Documents) throws {
        self.web = web
        self.authenticator = authenticator
        self.documents = documents
        do {
            var templates: [String: MustacheTemplate] = [:]
            for file in PageFile.all where file.isTemplate {
                templates[file.stem] = try MustacheTemplate(string: file.text)
            }
            library = MustacheLibrary(templates: templates)
        } catch {
            throw CohortError(.internal, "a page's template is wrong: \(error)")
        }
        assets = WebAssets(PageFile.all.compactMap { file in file.mediaType.map { (file.name, $0, file.text) } })
    }

    /// - Parameters:
    ///   - scripts: names of assets.
    ///   - values: what the template names.
    func page(
        _ request: Request, template: String, title: String, person: String?, scripts: [String] = [], status: HTTPResponse.Status = .ok,
        values: [String: Any] = [:]
    ) -> Response {
        let csrf = web.csrf(request)
        var values = values
        values["title"] = title
        values["base"] = web.basePath
        values["person"] = person
        values["csrf"] = csrf.token
        values["version"] = assets.version
        values["scripts"] = scripts
        values["release"] = CohortVersion.current
        values["links"] = person == nil ? [] : Self.links(current: request.uri.path)
        // What the library itself holds is found.
        let html = library.render(values, withTemplate: template) ?? ""
        var response = Response.text(html, type: "text/html; charset=utf-8")
        response.status = status
        response.headers[.contentSecurityPolicy] = Self.policy
        response.headers[.cacheControl] = "no-store"
        response.headers[.xContentTypeOptions] = "nosniff"
        if let name = HTTPField.Name("Referrer-Policy") { response.headers[name] = "same-origin" }
        if let cookie = csrf.newCookie { response.headers[.setCookie] = cookie }
        return response
    }

    /// The links of the header, for a person who is signed in.
    private static func links(current: String) -> [[String: Any]] {
        [
            ("/", "home", "Dashboard"), ("/app/new", "new", "New session"), ("/app/sessions", "sessions", "Sessions"),
            ("/app/models", "models", "Models"), ("/app/account", "account", "Account"),
        ].map { path, icon, text in ["path": path, "icon": icon, "text": text, "current": path == current] }
    }

    /// The page for an address that leads nowhere.
    func notFound(_ request: Request) async throws -> Response {
        page(
            request, template: "problem", title: "Nothing is here", person: try await person(request)?.name, status: .notFound,
            values: ["detail": "There is no page at \(request.uri.path.printable(max: 100))."])
    }

    /// The user who is signed in, if any.
    func person(_ request: Request) async throws -> User? {
        do {
            let caller = try await authenticator.caller(of: request, scope: .user)
            return try await documents.user(id: caller.userId)
        } catch let problem as HTTPProblem where problem.status == .unauthorized {
            return nil
        } catch let error as CohortError where error.code == .forbidden {
            return nil
        }
    }

    static let policy =
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

    /// - Parameter path: of this server, without the base path.
    func redirect(to path: String, cookie: String? = nil) -> Response {
        var headers: HTTPFields = [.location: web.basePath + path, .cacheControl: "no-store"]
        if let cookie { headers[.setCookie] = cookie }
        return Response(status: .seeOther, headers: headers)
    }
}

extension WebPages {
    var routes: [Route] {
        [
            .page(.get, "/assets/{version}/{name}", summary: "A file of the pages") { _, context in
                try assets.answer(context.parameters.require("name"), version: context.parameters.require("version"))
            }
        ]
    }
}

extension WebPages {
    /// A page for people. What goes wrong is a page too, for who asks for pages.
    func route(
        _ method: HTTPRequest.Method, _ path: String, summary: String,
        _ respond: @escaping @Sendable (Request, Context) async throws -> Response
    ) -> Route {
        .page(method, path, summary: summary) { request, context in
            do {
                return try await respond(request, context)
            } catch let error as CohortError where request.headers[.accept]?.contains("text/html") == true {
                if error.code == .internal { context.logger.error("\(request.method) \(request.uri.path.withoutSecret): \(error)") }
                return page(
                    request, template: "problem", title: "Something went wrong", person: nil, status: error.code.status,
                    values: ["detail": error.message])
            }
        }
    }
}

extension Route {
    /// A page for people, which the API's description leaves out.
    static func page(
        _ method: HTTPRequest.Method, _ path: String, summary: String,
        _ respond: @escaping @Sendable (Request, Context) async throws -> Response
    ) -> Route { .open(method, path, summary: summary, access: .page, respond) }
}

/// Files that pages need: one URL a version, kept by browsers for ever.
struct WebAssets: Sendable {
    let version: String
    private let files: [String: (type: String, text: String)]

    init(_ files: [(name: String, type: String, text: String)]) {
        self.files = Dictionary(files.map { ($0.name, ($0.type, $0.text)) }, uniquingKeysWith: { first, _ in first })
        version = String(SHA256.hash(data: [UInt8](files.map(\.text).joined().utf8)).hexadecimal.prefix(12))
    }

    func answer(_ name: String, version: String) throws -> Response {
        guard let file = files[name] else { throw CohortError(.notFound, "there is no file '\(name.printable(max: 60))' of the pages") }
        var response = Response.text(file.text, type: file.type)
        response.headers[.cacheControl] = version == self.version ? "public, max-age=31536000, immutable" : "no-store"
        response.headers[.xContentTypeOptions] = "nosniff"
        return response
    }
}
