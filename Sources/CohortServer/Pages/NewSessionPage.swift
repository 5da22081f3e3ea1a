import CohortCore
import CohortSession
import CohortSystem
import CohortTraining
import FoundationEssentials
import HTTPTypes
import Hummingbird

/// A CSV is looked at, the settings are chosen, and it starts.
struct NewSessionPage: Sendable {
    let pages: WebPages
    let strategies: [any Strategy]
    /// The folder for the rows of an inspection.
    let folder: String

    let uploadLimit: Int
    /// Looks block their thread.
    private let lanes = BlockingLanes("looks at CSVs", count: 1, limit: 32)

    init(pages: WebPages, strategies: [any Strategy], folder: String, uploadLimit: Int) {
        self.pages = pages
        self.strategies = strategies
        self.folder = folder
        self.uploadLimit = uploadLimit
    }

    /// Bytes of a CSV's beginning that a look is taken at.
    private static let most = 1 << 20

    /// The settings that the template does not list itself, by group.
    private static var furtherSettings: [[String: Any]] {
        // Settings that come from the inspection, are drawn at random, or have other controls.
        let others = ["per_peer", "header", "use", "ignore", "category", "number", "group", "scaling", "from", "note"]
        let template = PageFile.named("new.mustache")?.text ?? ""
        let further = SessionSetting.all.filter { !others.contains($0.name) && !template.contains("name=\"\($0.name)\"") }
        return SessionSetting.Group.allCases.compactMap { group in
            let settings = further.filter { $0.group == group }.map(input)
            return settings.isEmpty ? nil : ["title": group.rawValue.capitalized, "settings": settings]
        }
    }

    private static func input(_ setting: SessionSetting) -> [String: Any] {
        var shown: [String: Any] = [
            "name": setting.name, "label": setting.label, "help": setting.help,
            "standard": setting.standard ?? "", "input": "type=\"text\"",
        ]
        switch setting.kind {
        case .whole(let range):
            shown["input"] = "type=\"number\" min=\"\(range.lowerBound)\" max=\"\(range.upperBound)\""
        case .number: shown["input"] = "type=\"number\" min=\"0\" step=\"any\""
        case .flag: shown["choices"] = Self.options(["false", "true"], standard: setting.standard)
        case .choice(let values): shown["choices"] = Self.options(values, standard: setting.standard)
        case .text: break
        }
        return shown
    }

    /// Without a default, an empty option comes first: a browser always sends the chosen one.
    private static func options(_ values: [String], standard: String?) -> [String: Any] {
        ["options": ((standard == nil ? [""] : []) + values).map { ["text": $0, "chosen": $0 == standard ?? ""] as [String: Any] }]
    }

    var routes: [Route] {
        [
            pages.route(.get, "/app/new", summary: "The page of a new session") { request, _ in
                guard let person = try await pages.person(request) else { return pages.redirect(to: "/app/signin?next=/app/new") }
                return pages.page(
                    request, template: "new", title: "New session", person: person.name, scripts: ["new.js"],
                    values: [
                        "strategies": strategies.map { ["name": $0.name, "summary": $0.summary, "own": "\($0.trainsOwnModels)"] },
                        "groups": Self.furtherSettings,
                        "limit": uploadLimit >= 1 << 30 ? "\(uploadLimit >> 30) GiB" : "\(max(1, uploadLimit >> 20)) MiB",
                    ])
            },
            pages.route(.post, "/app/look", summary: "What a CSV's beginning looks like") { request, _ in
                _ = try await pages.authenticator.caller(of: request, scope: .user)
                let bytes = try await request.bytes(upTo: Self.most)
                let isWhole = request.query("whole") == "true"
                let target = request.query("target")
                let task = try request.query("task").map { text in
                    guard let task = LearningTask(rawValue: text) else {
                        throw CohortError(.invalid, "task is '\(text.printable(max: 40))'; it must be classification or regression")
                    }
                    return task
                }
                let csv = [UInt8](buffer: bytes)
                return try .json(
                    try await lanes.run { [folder] in
                        try CSVLook.inspect(csv, isWhole: isWhole, target: target, task: task, folder: folder)
                    })
            },
        ]
    }
}
