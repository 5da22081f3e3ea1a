import Hummingbird

/// Answers below the base path what stands at the root, for a proxy that leaves the path as it is; one that takes the base path away is served as well.
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
