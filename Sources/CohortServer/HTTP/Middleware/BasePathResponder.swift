import Hummingbird

/// Serves the routes below a base path, for proxies that keep the path; requests of proxies that remove it are served as well.
struct BasePathResponder<Next: HTTPResponder>: HTTPResponder {
    /// Such as `/cohort`; empty: nothing is taken away.
    let basePath: String
    let next: Next

    func respond(to request: Request, context: Next.Context) async throws -> Response {
        guard !basePath.isEmpty, let path = request.head.path, path.hasPrefix(basePath) else {
            return try await next.respond(to: request, context: context)
        }
        let rest = path.dropFirst(basePath.count)
        guard rest.isEmpty || rest.hasPrefix("/") || rest.hasPrefix("?") else {
            return try await next.respond(to: request, context: context)
        }
        var head = request.head
        head.path = rest.hasPrefix("/") ? String(rest) : "/\(rest)"
        return try await next.respond(to: Request(head: head, body: request.body), context: context)
    }
}
