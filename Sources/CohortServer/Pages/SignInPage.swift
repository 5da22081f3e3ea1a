import CohortAPI
import CohortCore
import FoundationEssentials
import HTTPTypes
import Hummingbird

/// Signing in, signing up, signing out.
struct SignInPage: Sendable {
    let pages: WebPages
    let accounts: AuthRoutes

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
