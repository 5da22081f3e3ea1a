import CohortCore
import FoundationEssentials
import HTTPTypes
import Hummingbird

/// The API's description (OpenAPI 3.1), made from the table of routes, so that it cannot name what is not there.
struct OpenAPIRoute: Sendable {
    private let document: [UInt8]

    /// - Throws: what encoding throws, and ``CohortError`` `internal` for a route without a description; called once, at startup.
    init(describing routes: [Route]) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        document = [UInt8](try encoder.encode(Self.describe(routes.filter { $0.access != .page } + [Self.route([])])))
    }

    var route: Route { Self.route(document) }

    private static func route(_ document: [UInt8]) -> Route {
        .open(.get, "/openapi.json", summary: "This description") { _, _ in
            .text(String(decoding: document, as: UTF8.self), type: "application/json; charset=utf-8")
        }
    }

    private static func describe(_ routes: [Route]) throws -> JSONValue {
        var paths: [String: [String: JSONValue]] = [:]
        for route in routes {
            guard let operation = route.operation else { throw CohortError(.internal, "\(route.key) has no description") }
            let path = route.path.replacing("**", with: "{key}")
            paths[path, default: [:]][route.method.rawValue.lowercased()] = operation.json(of: route)
        }
        func bearer(_ words: String) -> JSONValue {
            .object(["type": .text("http"), "scheme": .text("bearer"), "description": .text(words)])
        }
        return .object([
            "openapi": .text("3.1.0"),
            "info": .object([
                "title": .text("Cohort"), "version": .text(CohortVersion.current),
                "description": .text("Pool machines and train one model together. Errors are problem documents (RFC 9457)."),
                "license": .object(["name": .text("Apache-2.0"), "identifier": .text("Apache-2.0")]),
            ]),
            "servers": .list([.object(["url": .text("/")])]),
            "tags": .list(["accounts", "pool", "sessions", "peers", "objects", "health"].map { .object(["name": .text($0)]) }),
            "paths": .object(paths.mapValues { .object($0) }),
            "components": .object([
                "securitySchemes": .object([
                    "user": bearer("A sign-in: access_token of /auth/signin"), "peer": bearer("A join token: token of /auth/tokens"),
                    "machine": bearer("A peer's credential: credential of POST /peers"),
                ]),
                "schemas": .object(Schema.all.mapValues { .object($0.json) }),
            ]),
        ])
    }
}

extension Route {
    /// The key in the table of operations.
    var key: String { "\(method.rawValue) \(path)" }
    var operation: Operation? { Operation.all[key] }

    /// - Throws: ``CohortError`` `invalid` for a name in the query that means nothing here.
    func checkQuery(_ request: Request) throws {
        let known = operation?.query.map(\.name) ?? []
        // Unknown fields of newer peers are ignored, as the protocol demands.
        guard access == .user || access == .open,
            let unknown = request.uri.queryParameters.map({ String($0.key) }).first(where: { !known.contains($0) })
        else {
            return
        }
        let hint = Spelling.nearest(to: unknown, in: known).map { ": did you mean '\($0)'?" } ?? ""
        let what = known.isEmpty ? "it takes none" : "it takes \(known.joined(separator: ", "))"
        throw CohortError(.invalid, "\(path) has no query parameter '\(unknown.printable(max: 60))'; \(what)\(hint)")
    }
}

extension Operation {
    fileprivate func json(of route: Route) -> JSONValue {
        var operation: [String: JSONValue] = [
            "summary": .text(route.summary), "operationId": .text(id), "tags": .list([.text(tag)]),
            "responses": .object(answers(of: route)),
        ]
        let parameters =
            pathParameters(of: route) + query.map { Self.parameter($0.name, in: "query", schema: $0.schema, isRequired: $0.isRequired) }
        if !parameters.isEmpty { operation["parameters"] = .list(parameters) }
        if let body {
            operation["requestBody"] = .object([
                "required": .flag(true),
                "content": .object(
                    Dictionary(uniqueKeysWithValues: body.content.map { ($0.type, .object(["schema": .object($0.schema.json)])) })),
            ])
        }
        operation["security"] =
            switch route.access {
            case .open, .link, .page: .list([])
            case .user, .peer, .machine: .list([.object([route.access.rawValue: .list([])])])
            }
        return .object(operation)
    }

    private static func parameter(_ name: String, in place: String, schema: Schema, isRequired: Bool) -> JSONValue {
        .object(["name": .text(name), "in": .text(place), "required": .flag(isRequired), "schema": .object(schema.json)])
    }

    private func pathParameters(of route: Route) -> [JSONValue] {
        route.path.split(separator: "/").compactMap { part in
            part == "**" || part.hasPrefix("{")
                ? Self.parameter(part == "**" ? "key" : String(part.dropFirst().dropLast()), in: "path", schema: .text, isRequired: true)
                : nil
        }
    }

    private func answers(of route: Route) -> [String: JSONValue] {
        var all: [String: JSONValue] = [:]
        for answer in answers {
            var json: [String: JSONValue] = ["description": .text(answer.words)]
            if !answer.content.isEmpty {
                json["content"] = .object(
                    Dictionary(
                        uniqueKeysWithValues: answer.content.map { type, schema in
                            (type, .object(schema.map { ["schema": .object($0.json)] } ?? [:]))
                        }))
            }
            all["\(answer.status)"] = .object(json)
        }
        let access =
            switch route.access {
            case .open, .link, .page: [Int]()
            case .user, .peer, .machine: [401, 403, 429]
            }
        // Of each route: a query that means nothing, HTTP that is none, a server that stops.
        for status in Set(problems + access + (body == nil ? [] : [413]) + [400, 408, 500, 503]) {
            all["\(status)"] = .object([
                "description": .text(HTTPResponse.Status(code: status).reasonPhrase),
                "content": .object([
                    "application/problem+json": .object(["schema": .object(Schema.named("Problem").json)])
                ]),
            ])
        }
        return all
    }
}
