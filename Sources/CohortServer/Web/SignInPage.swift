import CohortAPI
import CohortCore
import FoundationEssentials
import HTTPTypes
import Hummingbird

/// Signing in, signing up, signing out.
struct SignInPage: Sendable {
    let pages: WebPages
    let accounts: AuthRoutes

    static let template = #"""
        {{<layout}}{{$main}}
        <h1>Pool your machines and train one model together</h1>
        <div class="grid">
        <section class="card narrow" aria-labelledby="in">
        <h2 id="in">Sign in</h2>
        {{#wrong}}<p class="problem" role="alert">{{wrong}}</p>{{/wrong}}
        <form method="post" action="{{base}}/app/signin">
        <input type="hidden" name="csrf" value="{{csrf}}"><input type="hidden" name="next" value="{{next}}">
        <label for="email">E-mail</label><input id="email" name="email" type="email" autocomplete="username" required value="{{email}}">
        <label for="password">Password</label><input id="password" name="password" type="password" autocomplete="current-password" required>
        <p><button>Sign in</button></p>
        </form>
        </section>
        {{^closed}}<section class="card narrow" aria-labelledby="up">
        <h2 id="up">Make an account</h2>
        {{#refused}}<p class="problem" role="alert">{{refused}}</p>{{/refused}}
        <form method="post" action="{{base}}/app/signup">
        <input type="hidden" name="csrf" value="{{csrf}}"><input type="hidden" name="next" value="{{next}}">
        <label for="new-email">E-mail</label><input id="new-email" name="email" type="email" autocomplete="username" required value="{{email}}">
        <label for="new-name">Name</label><input id="new-name" name="name" autocomplete="name" maxlength="64" aria-describedby="name-help" value="{{name}}">
        <p class="help" id="name-help">How others see you; else the first part of the e-mail.</p>
        <label for="new-password">Password</label><input id="new-password" name="password" type="password" autocomplete="new-password" minlength="8" maxlength="72" required aria-describedby="password-help">
        <p class="help" id="password-help">8 characters or more.</p>
        {{#invited}}<label for="invitation">Invitation code</label><input id="invitation" name="invitation" autocomplete="off" spellcheck="false" required aria-describedby="invitation-help" value="{{invitation}}">
        <p class="help" id="invitation-help">Whoever runs this server gives it to you.</p>
        {{/invited}}<p><button>Make the account</button></p>
        </form>
        </section>{{/closed}}{{#closed}}<section class="card narrow" aria-labelledby="up"><h2 id="up">Make an account</h2>
        <p>This server takes no new accounts. Ask whoever runs it.</p></section>{{/closed}}
        </div>
        {{/main}}{{/layout}}
        """#

    private struct Form {
        let fields: [String: String]
        subscript(_ name: String) -> String { fields[name] ?? "" }
    }

    var routes: [Route] {
        [
            pages.route(.get, "/app/signin", summary: "The page to sign in") { request, _ in
                pages.page(
                    request, template: "signin", title: "Sign in", person: nil,
                    values: signUpFields.merging(
                        ["next": Self.next(request.query("next")), "invitation": (request.query("invitation") ?? "").printable(max: 80)]
                    ) { $1 })
            },
            pages.route(.post, "/app/signin", summary: "Signs in from the page") { request, context in
                let form = try await form(request)
                do {
                    return try await enter(
                        form,
                        try await accounts.signIn(
                            email: form["email"], password: form["password"], from: accounts.origin(of: request, context)))
                } catch let problem as HTTPProblem {
                    return page(request, form: form, values: ["wrong": problem.detail], status: problem.status)
                } catch let error as CohortError where error.code == .invalid {
                    return page(request, form: form, values: ["wrong": error.message], status: .badRequest)
                }
            },
            pages.route(.post, "/app/signup", summary: "Makes an account from the page") { request, context in
                let form = try await form(request)
                do {
                    let name = form["name"].trimmed.isEmpty ? nil : form["name"]
                    return try await enter(
                        form,
                        try await accounts.signUp(
                            API.Signup(
                                email: form["email"], password: form["password"], name: name, invitation: form["invitation"].trimmed),
                            from: accounts.origin(of: request, context)))
                } catch let problem as HTTPProblem {
                    return page(request, form: form, values: ["refused": problem.detail], status: problem.status)
                } catch let error as CohortError where [.invalid, .conflict, .forbidden, .invitationRequired].contains(error.code) {
                    return page(request, form: form, values: ["refused": error.message], status: error.code.status)
                }
            },
            pages.route(.post, "/app/signout", summary: "Signs out of the pages") { request, _ in
                _ = try await form(request)
                try await accounts.signOut(request)
                return pages.redirect(to: "/app/signin", cookie: pages.web.signingOut)
            },
        ]
    }

    private func enter(_ form: Form, _ token: API.AccessToken) async throws -> Response {
        pages.redirect(
            to: Self.next(form["next"]),
            cookie: pages.web.signingIn(token.accessToken, seconds: token.expiresIn))
    }

    private func page(_ request: Request, form: Form, values: [String: Any], status: HTTPResponse.Status) -> Response {
        pages.page(
            request, template: "signin", title: "Sign in", person: nil, status: status,
            values: values.merging([
                "email": form["email"].printable(max: 254), "name": form["name"].printable(max: 64), "next": Self.next(form["next"]),
                "invitation": form["invitation"].printable(max: 80),
            ]) { $1 }.merging(signUpFields) { $1 })
    }

    /// The fields of the sign-up form.
    private var signUpFields: [String: Any] {
        switch accounts.signUpRule {
        case .open: [:]
        case .invited: ["invited": true]
        case .closed: ["closed": true]
        }
    }

    /// A path of this server's pages, whatever was asked for.
    private static func next(_ path: String?) -> String {
        guard let path, path.hasPrefix("/app/"), path.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || "/-_".contains($0)) })
        else { return "/" }
        return path
    }

    private func form(_ request: Request) async throws -> Form {
        let text = String(buffer: try await request.bytes(upTo: 16 << 10))
        let fields: [String: String]
        do {
            fields = try URLEncodedFormDecoder().decode([String: String].self, from: text)
        } catch {
            throw CohortError(.invalid, "the form cannot be read: load the page again")
        }
        try pages.web.check(request, sent: fields[WebSession.csrfField])
        return Form(fields: fields)
    }
}
