import CohortCore
import HTTPTypes
import Hummingbird

/// One row of the table of what the server answers to. The router and the API's description are both made from it.
struct Route: Sendable {
    enum Access: String, Sendable {
        /// Anybody.
        case open
        /// A person's token.
        case user
        /// A join token.
        case peer
        /// The credential of a registered peer.
        case machine
        /// A presigned link.
        case link
        /// A person in a browser.
        case page
    }

    let method: HTTPRequest.Method
    /// `/sessions/{id}`; a last `**` matches whatever follows.
    let path: String
    let access: Access
    let summary: String
    let respond: @Sendable (Request, Context, Authenticator) async throws -> Response

    static func open(
        _ method: HTTPRequest.Method, _ path: String, summary: String, access: Access = .open,
        _ respond: @escaping @Sendable (Request, Context) async throws -> Response
    ) -> Route {
        Route(method: method, path: path, access: access, summary: summary) { request, context, _ in
            try await respond(request, context)
        }
    }

    static func user(
        _ method: HTTPRequest.Method, _ path: String, summary: String,
        _ respond: @escaping @Sendable (Request, Context, Caller) async throws -> Response
    ) -> Route {
        Route(method: method, path: path, access: .user, summary: summary) { request, context, authenticator in
            try await respond(request, context, try await authenticator.caller(of: request, scope: .user))
        }
    }

    static func peer(
        _ method: HTTPRequest.Method, _ path: String, summary: String,
        _ respond: @escaping @Sendable (Request, Context, Caller) async throws -> Response
    ) -> Route {
        Route(method: method, path: path, access: .peer, summary: summary) { request, context, authenticator in
            try await respond(request, context, try await authenticator.caller(of: request, scope: .peer))
        }
    }

    /// - Parameter respond: the caller's peer is the one that the path names.
    static func machine(
        _ method: HTTPRequest.Method, _ path: String, _ summary: String,
        _ respond: @escaping @Sendable (Request, Context, Caller, _ peer: (id: String, registration: Int)) async throws -> Response
    ) -> Route {
        Route(method: method, path: path, access: .machine, summary: summary) { request, context, authenticator in
            let caller = try await authenticator.caller(of: request, scope: .machine)
            let id = try context.parameters.require("id")
            guard let peer = caller.peer, peer.id == id else {
                throw CohortError(.forbidden, "this credential is another peer's than '\(id.printable(max: 60))'")
            }
            return try await respond(request, context, caller, peer)
        }
    }

    /// A stream has no answer without its events.
    private var isStream: Bool { path.hasSuffix("/events") || path.hasSuffix("/commands") }

    /// HEAD is served wherever GET is.
    var methods: [HTTPRequest.Method] { method == .get && !isStream ? [.get, .head] : [method] }

    /// Returns whether the route has this path, with any method.
    func matches(path: String) -> Bool {
        let parts = path.split(separator: "/")
        let pattern = self.path.split(separator: "/")
        for (index, element) in pattern.enumerated() {
            if element == "**" { return index < parts.count }
            guard index < parts.count, element.hasPrefix("{") || element == parts[index] else { return false }
        }
        return parts.count == pattern.count
    }
}
