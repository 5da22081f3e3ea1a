import CohortCore
import CohortSession
import HTTPTypes

/// The description of a route, beside its path, method and access.
struct Operation: Sendable {
    struct Parameter: Sendable {
        var name: String
        var schema: Schema
        var isRequired = false
    }

    struct Body: Sendable {
        /// The content by media type.
        var content: [(type: String, schema: Schema)]

        init(type: String, schema: Schema) { content = [(type, schema)] }

        init(_ content: [(type: String, schema: Schema)]) { self.content = content }
    }

    struct Answer: Sendable {
        var status: Int
        var words: String
        /// The content by media type; nil: no schema is given.
        var content: [(type: String, schema: Schema?)]
    }

    /// The name in generated clients, such as `start_session`.
    var id: String
    var tag: String
    var query: [Parameter] = []
    var body: Body?
    var answers: [Answer]
    /// Statuses of problems.
    var problems: [Int]

    private static let binary = ("application/octet-stream", Schema.binary) as (String, Schema?)

    init(
        _ id: String, tag: String, query: [Parameter] = [], json: String? = nil, body: Body? = nil, answers: [Answer],
        problems: [Int] = []
    ) {
        self.id = id
        self.tag = tag
        self.query = query
        self.body = json.map { Body(type: "application/json", schema: .named($0)) } ?? body
        self.answers = answers
        self.problems = problems
    }

    private static func answer(_ name: String, _ status: Int = 200) -> [Answer] {
        [Answer(status: status, words: "Done", content: [("application/json", .named(name))])]
    }
    private static func list(of name: String) -> [Answer] {
        [Answer(status: 200, words: "Done", content: [("application/json", .list(.named(name)))])]
    }
    private static let nothing = [Answer(status: 204, words: "Done", content: [])]
    private static let stream = [Answer(status: 200, words: "Server-sent events", content: [("text/event-stream", .text)])]
    private static let bytes = [
        Answer(status: 200, words: "The bytes", content: [binary]),
        Answer(status: 206, words: "Those that Range names", content: [binary]),
        Answer(status: 304, words: "As If-None-Match has it", content: []),
    ]
    private static let redirect = [
        Answer(status: 307, words: "A link to the bytes, without the credential, for a minute", content: [])
    ]
    private static let link = [
        Parameter(name: "expires", schema: .whole, isRequired: true), Parameter(name: "signature", schema: .text, isRequired: true),
        Parameter(name: "max", schema: .whole), Parameter(name: "for", schema: .text),
    ]

    /// All operations by method and path.
    static let all: [String: Operation] = [
        "POST /auth/signup": Operation(
            "sign_up", tag: "accounts", json: "Signup", answers: answer("AccessToken", 201), problems: [400, 403, 409]),
        "POST /auth/signin": Operation(
            "sign_in", tag: "accounts", json: "Signin", answers: answer("AccessToken"), problems: [400, 401, 429]),
        "POST /auth/signout": Operation("sign_out", tag: "accounts", answers: nothing, problems: []),
        "GET /auth/signins": Operation("list_sign_ins", tag: "accounts", answers: list(of: "SignIn")),
        "DELETE /auth/signins/{id}": Operation("end_sign_in", tag: "accounts", answers: nothing, problems: [404]),
        "DELETE /auth/me": Operation(
            "delete_account", tag: "accounts", json: "Confirmation", answers: nothing, problems: [400, 403, 429, 503]),
        "POST /auth/password": Operation(
            "change_password", tag: "accounts", json: "NewPassword", answers: answer("AccessToken"), problems: [400, 403, 429]),
        "GET /auth/me": Operation("me", tag: "accounts", answers: answer("Account")),
        "POST /auth/tokens": Operation(
            "create_token", tag: "accounts", json: "NewToken", answers: answer("Token", 201), problems: [400, 404]),
        "GET /auth/tokens": Operation("list_tokens", tag: "accounts", answers: list(of: "Token")),
        "DELETE /auth/tokens/{id}": Operation("revoke_token", tag: "accounts", answers: nothing, problems: [404]),

        "GET /peers": Operation("list_peers", tag: "pool", answers: list(of: "Peer")),
        "GET /peers/events": Operation("pool_events", tag: "pool", answers: stream),
        "POST /peers": Operation(
            "register_peer", tag: "peers", json: "Registration", answers: answer("Registered", 201), problems: [400, 409]),
        "POST /peers/{id}/heartbeat": Operation("beat", tag: "peers", json: "Beat", answers: nothing, problems: [400, 409]),
        "DELETE /peers/{id}": Operation(
            "leave", tag: "peers", query: [Parameter(name: "registration", schema: .whole)], answers: nothing, problems: [400, 409]),
        "GET /peers/{id}/commands": Operation(
            "commands", tag: "peers", query: [Parameter(name: "registration", schema: .whole)], answers: stream, problems: [400, 409]),
        "POST /peers/{id}/commands/ack": Operation(
            "acknowledge_commands", tag: "peers", json: "CommandAcknowledgement", answers: nothing, problems: [400, 409]),
        "POST /peers/{id}/events": Operation(
            "send_events", tag: "peers", query: [Parameter(name: "through", schema: .whole)],
            body: Body([
                ("application/json", .map(.anything).about("One event, as docs/messages/messages.schema.json has it.")),
                ("application/x-ndjson", .text.about("Up to 64 events of one session, a line each.")),
            ]),
            answers: nothing, problems: [400, 409, 413, 503]),
        "GET /peers/{id}/sessions/{session}/table": Operation(
            "get_table", tag: "peers", answers: bytes + redirect, problems: [403, 404, 409, 416]),
        "GET /peers/{id}/sessions/{session}/table/dictionary": Operation(
            "get_table_dictionary", tag: "peers", answers: bytes, problems: [403, 404, 409]),
        "GET /peers/{id}/sessions/{session}/parts/{part}": Operation(
            "get_table_part", tag: "peers",
            query: [Parameter(name: "start", schema: .whole), Parameter(name: "end", schema: .whole)], answers: bytes + redirect,
            problems: [400, 403, 404, 409, 416]),

        "POST /modules": Operation(
            "add_module", tag: "sessions",
            body: Body(
                type: "application/octet-stream",
                schema: .binary.about("A module's file: docs/model-file.md has it; Python's cohort.save_module makes one.")),
            answers: answer("Module", 201), problems: [400, 409, 413, 507]),
        "GET /modules": Operation("list_modules", tag: "sessions", answers: list(of: "Module")),
        "DELETE /modules/{sha256}": Operation("delete_module", tag: "sessions", answers: nothing, problems: [404]),

        "POST /sessions/check": Operation(
            "check_session", tag: "sessions",
            body: Body(
                type: "application/json",
                schema: .map(.cell).about("The fields of the form of POST /sessions/start, but for the file; sha256 of the file.")),
            answers: answer("SessionCheck"), problems: [400, 503]),
        "POST /sessions/start": Operation(
            "start_session", tag: "sessions", body: Body(type: "multipart/form-data", schema: SettingsForm.schema),
            answers: answer("SessionStarted", 201),
            problems: [400, 404, 409, 413, 503, 507]),
        "GET /sessions": Operation(
            "list_sessions", tag: "sessions",
            query: [
                Parameter(name: "limit", schema: .whole(1...1_000).standard(.whole(100))),
                Parameter(name: "before", schema: .text.about("The id of the last session of the page before.")),
            ], answers: list(of: "SessionSummary"), problems: [400, 404]),
        "GET /sessions/training-status": Operation(
            "training_status", tag: "sessions", query: [Parameter(name: "session_id", schema: .text.about("Absent: the newest."))],
            answers: answer("TrainingStatus"), problems: [404]),
        "GET /sessions/{id}": Operation("get_session", tag: "sessions", answers: answer("Session"), problems: [404]),
        "DELETE /sessions/{id}": Operation("delete_session", tag: "sessions", answers: nothing, problems: [404, 409, 503]),
        "GET /sessions/{id}/events": Operation("session_events", tag: "sessions", answers: stream, problems: [404]),
        "GET /events": Operation(
            "events", tag: "sessions",
            query: [
                Parameter(name: "sessions", schema: .text.about("Ids of sessions, separated by commas; absent: none.")),
                Parameter(name: "peers", schema: .flag.about("With the changes of the pool, as GET /peers/events.")),
            ], answers: stream, problems: [400, 404]),
        "PATCH /sessions/{id}": Operation(
            "label_session", tag: "sessions", json: "Labels", answers: answer("Labels"), problems: [400, 404, 409]),
        "GET /sessions/{id}/links": Operation("list_links", tag: "sessions", answers: list(of: "Link"), problems: [404]),
        "POST /sessions/{id}/links": Operation(
            "make_link", tag: "sessions", json: "NewLink", answers: answer("Link", 201), problems: [400, 404, 409]),
        "DELETE /sessions/{id}/links/{link}": Operation("revoke_link", tag: "sessions", answers: nothing, problems: [404, 409]),
        "POST /sessions/{id}/cancel": Operation(
            "cancel_session", tag: "sessions", answers: answer("TrainingStatus", 202), problems: [404, 409]),
        "GET /sessions/{id}/results": Operation("get_results", tag: "sessions", answers: answer("Results"), problems: [404, 409]),
        "GET /sessions/{id}/receipt": Operation("get_receipt", tag: "sessions", answers: answer("Receipt"), problems: [404, 409]),
        "GET /sessions/{id}/update": Operation(
            "get_update", tag: "sessions", query: [Parameter(name: "key", schema: .text.about("Of the receipt."), isRequired: true)],
            answers: bytes,
            problems: [400, 404, 416]),
        "GET /sessions/{id}/metrics": Operation(
            "get_metrics", tag: "sessions",
            query: [Parameter(name: "format", schema: .one(of: ["json", "csv"]).about("Else as Accept has it."))],
            answers: [
                Answer(
                    status: 200, words: "The points",
                    content: [("application/json", .list(.named("MetricPoint"))), ("text/csv", .text)])
            ], problems: [400, 404]),
        "GET /sessions/{id}/card": Operation(
            "get_card", tag: "sessions", answers: [Answer(status: 200, words: "Markdown", content: [("text/markdown", .text)])],
            problems: [404, 409]),
        "GET /sessions/{id}/model": Operation("get_model", tag: "sessions", answers: bytes, problems: [404, 409, 416]),
        "POST /sessions/{id}/predict": Operation(
            "predict", tag: "sessions", json: "PredictRequest", answers: answer("Prediction"), problems: [400, 404, 409, 413]),

        "POST /sessions/{id}/predictions": Operation(
            "predict_file", tag: "sessions", query: [Parameter(name: "allow_missing", schema: .flag)],
            body: Body(type: "text/csv", schema: .text.about("A CSV with a header; its target column may be absent.")),
            answers: [Answer(status: 200, words: "The CSV, with the predictions behind its columns", content: [("text/csv", .text)])],
            problems: [400, 404, 409, 413, 503, 507]),

        "GET /objects/**": Operation("get_object", tag: "objects", query: link, answers: bytes, problems: [403, 404, 416]),
        "PUT /objects/**": Operation(
            "put_object", tag: "objects", query: link, body: Body(type: "application/octet-stream", schema: .binary),
            answers: answer("ObjectReference", 201) + answer("ObjectReference"), problems: [400, 403, 409, 413, 507]),
        "GET /health/live": Operation("live", tag: "health", answers: answer("Health")),
        "GET /health/ready": Operation("ready", tag: "health", answers: answer("Health"), problems: [503]),
        "GET /metrics": Operation(
            "server_metrics", tag: "health", answers: [Answer(status: 200, words: "Prometheus's text", content: [("text/plain", .text)])]),
        "GET /join": Operation(
            "join_script", tag: "health", answers: [Answer(status: 200, words: "A shell script", content: [("text/x-shellscript", .text)])],
            problems: [400, 404, 503]),
        "GET /join/archive": Operation(
            "join_archive", tag: "health", query: [Parameter(name: "machine", schema: .text)], answers: bytes, problems: [404, 416, 503]),
        "GET /openapi.json": Operation(
            "openapi", tag: "health", answers: [Answer(status: 200, words: "OpenAPI 3.1", content: [("application/json", .map(.anything))])]
        ),
    ]
}
