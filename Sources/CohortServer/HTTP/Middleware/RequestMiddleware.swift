import HTTPTypes
import Hummingbird
import Logging
import Tracing

/// Counts, logs and traces what was asked: each request at debug, what went wrong on the server's side at error.
struct RequestMiddleware: RouterMiddleware {
    let metrics: ServerMetrics
    let sendsHSTS: Bool

    func handle(_ request: Request, context: Context, next: (Request, Context) async throws -> Response) async throws -> Response {
        let start = ContinuousClock.now
        var response = try await traced(request, context: context, next: next)
        // Its headers alone, those of problems too.
        if request.method == .head { response = response.createHeadResponse() }
        // Browsers must not guess another type than the given one, and caches must not keep answers to signed-in users.
        if response.headers[Self.contentTypeOptions] == nil { response.headers[Self.contentTypeOptions] = "nosniff" }
        if request.headers[.authorization] != nil || request.uri.path.hasPrefix("/auth/"), response.headers[.cacheControl] == nil {
            response.headers[.cacheControl] = "no-store"
        }
        if sendsHSTS { response.headers[.strictTransportSecurity] = "max-age=31536000" }
        let duration = ContinuousClock.now - start
        metrics.answered(
            method: request.method.rawValue, route: context.endpointPath ?? "NotFound", status: response.status.code, in: duration)
        let level: Logger.Level = response.status.kind == .serverError && response.status != .serviceUnavailable ? .error : .debug
        // The path alone: a query may hold a link's signature.
        context.logger.log(level: level, "\(request.method) \(request.uri.path.withoutSecret) \(response.status.code) in \(duration)")
        return response
    }

    private static let contentTypeOptions = HTTPField.Name.xContentTypeOptions

    /// Routes that are polled and not traced.
    private static let untraced: Set<String> = [
        "/health", "/health/live", "/health/ready", "/metrics", "/peers/{id}/heartbeat", "/peers/{id}/commands", "/peers/events",
        "/sessions/{id}/events", "/events",
    ]

    private func traced(
        _ request: Request, context: Context, next: (Request, Context) async throws -> Response
    ) async throws -> Response {
        guard let route = context.endpointPath, !Self.untraced.contains(route) else { return try await next(request, context) }
        var parent = ServiceContext.topLevel
        InstrumentationSystem.instrument.extract(request.headers, into: &parent, using: Headers())
        return try await withSpan("\(request.method) \(route)", context: parent, ofKind: .server) { span in
            span.attributes["http.request.method"] = request.method.rawValue
            span.attributes["http.route"] = route
            let response = try await next(request, context)
            span.attributes["http.response.status_code"] = response.status.code
            if response.status.kind == .serverError { span.setStatus(SpanStatus(code: .error)) }
            return response
        }
    }

    private struct Headers: Extractor {
        func extract(key: String, from carrier: HTTPFields) -> String? { HTTPField.Name(key).flatMap { carrier[$0] } }
    }
}

extension String {
    /// A request's path for the log: without the secret of a link that shows a session.
    var withoutSecret: String {
        var parts = split(separator: "/", omittingEmptySubsequences: false)
        guard let shared = parts.firstIndex(of: "shared"), parts.indices.contains(shared + 2) else { return self }
        parts[shared + 2] = "…"
        return parts.joined(separator: "/")
    }
}
