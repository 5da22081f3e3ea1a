import CohortCore
import FoundationEssentials
import Testing

@testable import CohortServer

/// Answers beside what the API's description says of them.
enum DescribedAPI {
    /// - Returns: what is not as described; nothing for a path outside the API.
    static func faults(_ method: String, _ path: String, _ answer: ServerWorld.Answer) throws -> [String] {
        // Pages are for people.
        guard path != "/", !path.hasPrefix("/?"), !["/app/", "/assets/", "/docs"].contains(where: path.hasPrefix) else { return [] }
        guard let operation = operation(method, String(path.prefix { $0 != "?" })) else {
            return [404, 405].contains(answer.status) ? [] : ["an answer where there is no operation"]
        }
        let type = (answer.headers["content-type"] ?? "").prefix { $0 != ";" }
        guard let described = operation.answers.first(where: { $0.status == answer.status }) else {
            let isKnown =
                operation.problems.contains(answer.status) || [400, 401, 403, 408, 429, 500, 503].contains(answer.status)
                || operation.body != nil && answer.status == 413
            guard isKnown, type == "application/problem+json" else { return ["no such answer is described"] }
            return check(try CohortJSON.decode(JSONValue.self, from: answer.body.utf8), against: .named("Problem"), at: "")
        }
        guard !described.content.isEmpty else { return answer.body.isEmpty ? [] : ["there is a body"] }
        guard let content = described.content.first(where: { $0.type == type }) else { return ["its type is \(type)"] }
        guard type == "application/json", let schema = content.schema, method != "HEAD" else { return [] }
        return check(try CohortJSON.decode(JSONValue.self, from: answer.body.utf8), against: schema, at: "")
    }

    private static func operation(_ method: String, _ path: String) -> Operation? {
        let parts = path.split(separator: "/")
        let keys = Operation.all.keys.filter { key in
            let pattern = key.split(separator: " ")[1].split(separator: "/")
            guard key.hasPrefix("\(method == "HEAD" ? "GET" : method) ") else { return false }
            if pattern.last == "**" { return parts.first == pattern.first }
            return parts.count == pattern.count && zip(parts, pattern).allSatisfy { $0 == $1 || $1.hasPrefix("{") }
        }
        // `/sessions/training-status` is no session's id.
        return keys.min { $0.contains("{") && !$1.contains("{") ? false : $0 < $1 }.flatMap { key in
            keys.first { !$0.contains("{") }.flatMap { Operation.all[$0] } ?? Operation.all[key]
        }
    }

    /// What of JSON Schema the description uses; records are closed: a field that is not described is a fault.
    static func check(_ value: JSONValue, against schema: Schema, at place: String) -> [String] {
        check(value, against: schema.json, at: place)
    }

    private static func check(_ value: JSONValue, against schema: [String: JSONValue], at place: String) -> [String] {
        if case .text(let reference) = schema["$ref"] {
            guard let named = Schema.all[String(reference.dropFirst("#/components/schemas/".count))] else {
                return ["\(place): there is no schema \(reference)"]
            }
            return check(value, against: named.json, at: place)
        }
        if case .list(let choices) = schema["anyOf"] {
            let fits = choices.contains { choice in
                if case .object(let choice) = choice { check(value, against: choice, at: place).isEmpty } else { false }
            }
            return fits ? [] : ["\(place) fits none of the choices"]
        }
        if let type = schema["type"] {
            let types: [JSONValue] = if case .list(let all) = type { all } else { [type] }
            guard types.contains(where: { isA(value, $0) }) else { return ["\(place) is \(value), no \(type)"] }
        }
        if case .list(let values) = schema["enum"], !values.contains(value) { return ["\(place) is \(value), none of \(values)"] }
        switch value {
        case .list(let items):
            guard case .object(let schema) = schema["items"] else { return [] }
            return items.enumerated().flatMap { check($1, against: schema, at: "\(place)[\($0)]") }
        case .object(let fields):
            var faults: [String] = []
            if case .list(let required) = schema["required"] {
                for case .text(let name) in required where fields[name] == nil { faults.append("\(place).\(name) is missing") }
            }
            for (name, field) in fields {
                if case .object(let properties) = schema["properties"] {
                    guard case .object(let described) = properties[name] else {
                        faults.append("\(place).\(name) is not described")
                        continue
                    }
                    faults += check(field, against: described, at: "\(place).\(name)")
                } else if case .object(let described) = schema["additionalProperties"] {
                    faults += check(field, against: described, at: "\(place).\(name)")
                }
            }
            return faults
        default: return []
        }
    }

    private static func isA(_ value: JSONValue, _ type: JSONValue) -> Bool {
        switch (value, type) {
        case (.null, .text("null")), (.text, .text("string")), (.flag, .text("boolean")), (.list, .text("array")),
            (.object, .text("object")), (.whole, .text("integer")), (.whole, .text("number")), (.number, .text("number")):
            true
        default: false
        }
    }
}

@Suite struct DescribedAPITests {
    @Test func `every operation and every schema that is named is there, once`() throws {
        let ids = Operation.all.values.map(\.id)
        #expect(Set(ids).count == ids.count)
        func references(_ value: JSONValue) -> [String] {
            switch value {
            case .object(let fields):
                if case .text(let name) = fields["$ref"] { return [name] }
                return fields.values.flatMap(references)
            case .list(let items): return items.flatMap(references)
            default: return []
            }
        }
        for (name, schema) in Schema.all {
            for reference in references(.object(schema.json)) {
                #expect(Schema.all[String(reference.dropFirst("#/components/schemas/".count))] != nil, "\(name): \(reference)")
            }
        }
    }

    @Test func `the document has every route and no other, with what each takes and answers`() async throws {
        try await withServer { world in
            let document = try CohortJSON.decode(JSONValue.self, from: try await world.call("GET", "/openapi.json").body.utf8)
            guard case .object(let root) = document, case .object(let paths) = root["paths"] else {
                Issue.record("no document: \(document)")
                return
            }
            var found: Set<String> = []
            for case (let path, .object(let operations)) in paths {
                for case (let method, .object(let operation)) in operations {
                    found.insert("\(method.uppercased()) \(path.replacing("{key}", with: "**"))")
                    #expect(operation["operationId"] != nil && operation["security"] != nil && operation["tags"] != nil, "\(path)")
                    guard case .object(let answers) = operation["responses"] else {
                        Issue.record("\(method) \(path) answers nothing")
                        continue
                    }
                    #expect(answers.keys.contains { $0.hasPrefix("2") } && answers["400"] != nil, "\(method) \(path)")
                }
            }
            #expect(found == Set(Operation.all.keys))
            guard case .object(let form) = SettingsForm.schema.json["properties"] ?? .null else { return }
            #expect(Set(form.keys) == Set(SettingsForm.fields))
        }
    }

    @Test func `a query that means nothing is refused, with what would be right`() async throws {
        try await withServer { world in
            let token = try await world.signup()
            let misspelt = try await world.call("GET", "/sessions?limt=1", token: token)
            #expect(
                misspelt.status == 400
                    && misspelt.detail == "/sessions has no query parameter 'limt'; it takes limit, before: did you mean 'limit'?",
                "\(misspelt)")
            let none = try await world.call("GET", "/auth/me?x=1", token: token)
            #expect(none.detail == "/auth/me has no query parameter 'x'; it takes none", "\(none)")
            #expect(try await world.call("GET", "/sessions?limit=1", token: token).status == 200)
        }
    }

    @Test func `an answer that is not as described is found`() throws {
        func faults(_ method: String, _ path: String, status: Int, body: String) throws -> [String] {
            try DescribedAPI.faults(method, path, .init(status: status, headers: ["content-type": "application/json"], body: body))
        }
        #expect(try faults("GET", "/health/live", status: 200, body: #"{"status":"live"}"#) == [])
        #expect(try faults("GET", "/health/live", status: 200, body: #"{"status":"dead"}"#) != [])
        #expect(try faults("GET", "/health/live", status: 200, body: #"{"status":"live","x":1}"#) == [".x is not described"])
        #expect(try faults("GET", "/health/live", status: 200, body: "{}") == [".status is missing"])
        #expect(try faults("GET", "/health/live", status: 201, body: #"{"status":"live"}"#) != [])
        #expect(try faults("GET", "/sessions", status: 200, body: #"[{"id":1}]"#).contains("[0].id is whole(1), no text(\"string\")"))
    }
}
