import Hummingbird
import Logging

/// Counts and logs what was asked: each request at debug, what went wrong on the server's side at error.
struct RequestMiddleware: RouterMiddleware {
    let metrics: ServerMetrics

    func handle(_ request: Request, context: Context, next: (Request, Context) async throws -> Response) async throws -> Response {
        let start = ContinuousClock.now
        var response = try await next(request, context)
        // Its headers alone, those of problems too.
        if request.method == .head { response = response.createHeadResponse() }
        let duration = ContinuousClock.now - start
        metrics.answered(
            method: request.method.rawValue, route: context.endpointPath ?? "NotFound", status: response.status.code, in: duration)
        let level: Logger.Level = response.status.kind == .serverError && response.status != .serviceUnavailable ? .error : .debug
        // The path alone: a query may hold a link's signature.
        context.logger.log(level: level, "\(request.method) \(request.uri.path) \(response.status.code) in \(duration)")
        return response
    }
}
