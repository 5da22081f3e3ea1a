import CohortCore
import HTTPTypes
import Hummingbird
import Logging

/// Turns every error of a route into a problem document, those of the framework as well.
struct ProblemMiddleware: RouterMiddleware {
    /// All routes, for 405.
    let routes: [Route]
    let pages: WebPages

    func handle(_ request: Request, context: Context, next: (Request, Context) async throws -> Response) async throws -> Response {
        do {
            return try await next(request, context)
        } catch let problem as HTTPProblem {
            return problem.response
        } catch let error as CohortError {
            if error.code == .internal || error.code == .storageFull {
                context.logger.error("\(request.method) \(request.uri.path.withoutSecret): \(error)")
            }
            return HTTPProblem(error).response
        } catch let error as HTTPError where error.status == .notFound {
            let problem = notFound(request)
            // A person who followed a wrong link gets a page.
            let isBrowser = request.method == .get && request.headers[.accept]?.contains("text/html") == true
            return isBrowser && problem.status == .notFound ? try await pages.notFound(request) : problem.response
        } catch let error as HTTPError {
            let code: CohortError.Code = error.status.kind == .serverError ? .internal : .invalid
            return HTTPProblem(status: error.status, code: code, error.body ?? error.status.reasonPhrase, headers: error.headers).response
        } catch is CancellationError {
            return HTTPProblem(CohortError(.unavailable, "the server is stopping: try again in a moment")).response
        } catch {
            context.logger.error("\(request.method) \(request.uri.path.withoutSecret): \(error)")
            return HTTPProblem(CohortError(.internal, "the server failed at this; its log says why")).response
        }
    }

    private func notFound(_ request: Request) -> HTTPProblem {
        let path = request.uri.path
        let matching = routes.filter { $0.matches(path: path) }
        // `/sessions/check` is no session's id.
        let exact = matching.filter { !$0.path.contains("{") }
        let methods = (exact.isEmpty ? matching : exact).flatMap(\.methods).map(\.rawValue)
        guard !methods.isEmpty else {
            return HTTPProblem(CohortError(.notFound, "there is nothing at \(path.prefix(200)); /openapi.json lists what there is"))
        }
        return HTTPProblem(
            status: .methodNotAllowed, code: .invalid, "\(path) takes \(methods.joined(separator: ", ")), not \(request.method)",
            headers: [.allow: methods.joined(separator: ", ")])
    }
}
