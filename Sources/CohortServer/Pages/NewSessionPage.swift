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
        let others = [
            "per_peer", "header", "use", "ignore", "category", "number", "group", "scaling", "from", "module", "note", "target", "task",
        ]
        let template = PageFile.named("new.mustache")?.text ?? ""
        let further = SessionSetting.all.filter { !others.contains($0.name) && !template.contains("name=\"\($0.name)\"") }
        return SessionSetting.Group.allCases.compactMap { group in
            let settings = further.filter { $0.group == group }.map { PageInput($0).values }
            guard !settings.isEmpty else { return nil }
            var shown: [String: Any] = ["id": group.rawValue, "title": title(of: group), "settings": settings]
            if group == .common { shown["modules"] = true }
            return shown
        }
    }

    private static func title(of group: SessionSetting.Group) -> String {
        switch group {
        case .common: "Model and training"
        case .data: "Rows and classes"
        case .optimizer: "Optimizer"
        case .strategy: "How the machines work together"
        case .safety: "Machines and safety"
        }
    }

    /// The strategies by what they are for.
    private var strategiesByPurpose: [[String: Any]] {
        StrategyPurpose.allCases.compactMap { purpose in
            let options = strategies.filter { $0.purpose == purpose }.map { strategy in
                ["name": strategy.name, "title": strategy.title, "summary": strategy.summary, "own": "\(strategy.trainsOwnModels)"]
            }
            return options.isEmpty ? nil : ["purpose": purpose.rawValue, "options": options]
        }
    }

    /// Data that comes with Cohort: `Examples/README.md` names sources and licences.
    private static let samples: [[String: String]] = [
        [
            "file": "penguins.csv", "target": "species", "title": "Penguins",
            "about": "Tell three species apart by bill, flipper and mass.",
            "size": "344 rows, classification",
        ],
        [
            "file": "titanic.csv", "target": "survived", "title": "Titanic", "about": "Who survived, by class, age and sex.",
            "size": "2,201 rows, classification",
        ],
        [
            "file": "cars.csv", "target": "miles_per_gallon", "title": "Cars",
            "about": "How far a car goes on a gallon, by weight and engine.",
            "size": "406 rows, regression",
        ],
    ]

    var routes: [Route] {
        [
            pages.route(.get, "/app/new", summary: "The page of a new session") { request, _ in
                guard let person = try await pages.person(request) else { return pages.redirect(to: "/app/signin?next=/app/new") }
                return pages.page(
                    request, template: "new", title: "New session", person: person.name, scripts: ["new.js"],
                    values: [
                        "strategies": strategiesByPurpose, "groups": Self.furtherSettings, "samples": Self.samples,
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
