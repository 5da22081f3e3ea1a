import CohortCore
import FoundationEssentials
import Hummingbird

/// The API's description (OpenAPI 3.1), made from the table of routes, so that it cannot name what is not there.
struct OpenAPIRoute: Sendable {
    private let document: [UInt8]

    /// - Throws: what encoding throws; it happens once, at the start.
    init(describing routes: [Route]) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        document = [UInt8](try encoder.encode(Document(routes)))
    }

    var route: Route {
        .open(.get, "/openapi.json", "This description") { [document] _, _ in
            .text(String(decoding: document, as: UTF8.self), type: "application/json; charset=utf-8")
        }
    }

    private struct Document: Encodable {
        var openapi = "3.1.0"
        var info = Info()
        var paths: [String: [String: Operation]]
        var components = Components()

        init(_ routes: [Route]) {
            paths = routes.reduce(into: [:]) { paths, route in
                paths[route.path.replacing("**", with: "{key}"), default: [:]][route.method.rawValue.lowercased()] = Operation(route)
            }
        }
    }

    private struct Info: Encodable {
        var title = "Cohort"
        var version = CohortVersion.current
        var license = ["name": "Apache-2.0", "identifier": "Apache-2.0"]
    }

    private struct Operation: Encodable {
        var summary: String
        var parameters: [Parameter]
        var security: [[String: [String]]]
        var responses: [String: Answer]

        init(_ route: Route) {
            summary = route.summary
            parameters = route.path.split(separator: "/").compactMap { part in
                part == "**" ? Parameter(name: "key") : part.hasPrefix("{") ? Parameter(name: String(part.dropFirst().dropLast())) : nil
            }
            security =
                switch route.access {
                case .open, .link: []
                case .user: [["user": []]]
                case .peer: [["peer": []]]
                case .machine: [["machine": []]]
                }
            responses = ["2XX": Answer(description: "Done"), "default": .problem]
        }
    }

    private struct Parameter: Encodable {
        var name: String
        var `in` = "path"
        var required = true
        var schema = ["type": "string"]
    }

    private struct Answer: Encodable {
        var description: String
        var content: [String: [String: [String: String]]]?

        static let problem = Answer(
            description: "What was wrong, in `detail`",
            content: ["application/problem+json": ["schema": ["$ref": "#/components/schemas/Problem"]]])
    }

    private struct Components: Encodable {
        var securitySchemes = [
            "user": ["type": "http", "scheme": "bearer", "description": "A sign-in: access_token of /auth/signin"],
            "peer": ["type": "http", "scheme": "bearer", "description": "A join token: token of /auth/tokens"],
            "machine": ["type": "http", "scheme": "bearer", "description": "A peer's credential: credential of POST /peers"],
        ]
        var schemas = ["Problem": Problem()]
    }

    private struct Problem: Encodable {
        var type = "object"
        var required = ["type", "title", "status", "detail", "code"]
        var properties = [
            "type": ["type": "string"], "title": ["type": "string"], "status": ["type": "integer"], "detail": ["type": "string"],
            "code": ["type": "string"],
        ]
    }
}
