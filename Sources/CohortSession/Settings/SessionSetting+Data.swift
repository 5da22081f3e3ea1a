import CohortCore

/// Settings of the columns, and of the rows that are held out.
extension SessionSetting {
    static let data: [SessionSetting] = [
        text("target", \.target, help: "The column to predict; else the last."),
        choice(
            "task", standard: LearningTask?.none, isOfModel: true, help: "classification or regression; else told from the target column.",
            read: { $0.task }, write: { $0.task = $1 }),
        SessionSetting(
            name: "header", kind: .choice(["yes", "no", "auto"]),
            help: "Whether the first line names the columns: yes or no; else told by looking.", standard: "auto",
            read: { $0.data?.header.map { $0 ? "yes" : "no" } },
            write: { settings, text in
                guard ["yes", "no", "auto"].contains(text) else { throw misread("header", text: text, expected: "yes, no or auto") }
                if text != "auto" { settings.changeData { $0.header = text == "yes" } }
            }),
        columns("use", \.use, help: "Take this column as a feature although it looks like an id."),
        columns("ignore", \.ignore, help: "Leave this column out."),
        columns("category", \.category, help: "Take this column's numbers as codes: each value is a category."),
        columns("number", \.number, help: "Take this column as a quantity although its values are written as codes (007)."),
        SessionSetting(
            name: "group", kind: .text(most: nil),
            help: "Keep rows with one value of this column (a patient, a household) on one side of the split.", standard: nil,
            read: { $0.data?.group }, write: { settings, text in settings.changeData { $0.group = text } }),
        choice(
            "scaling", standard: Scaling.auto, isOfModel: true, help: "How numbers are scaled: auto, standard, range, robust or none.",
            read: { $0.data?.scaling }, write: { settings, scaling in settings.changeData { $0.scaling = scaling } }),
        SessionSetting(
            name: "class_weight", kind: .text(most: nil),
            help: "Let rare classes count more: balanced, or JSON such as {\"yes\": 5, \"no\": 1}; else all rows count alike.",
            standard: nil,
            read: { settings in
                switch settings.classWeight {
                case nil: nil
                case .balanced: "balanced"
                case .byLabel(let weights): String(decoding: try CohortJSON.encode(weights), as: UTF8.self)
                }
            },
            write: { $0.classWeight = try ClassWeight.parse($1) },
            check: { settings in
                guard case .byLabel(let weights) = settings.classWeight else { return }
                for (label, weight) in weights where !(weight > 0 && weight <= 1e6) {
                    throw problem("class_weight.\(label.prefix(60))", value: weight, expected: "a number above 0, at most 1000000")
                }
            }),
        number(
            "validation", \.validation, in: Range(right: "a share from 0 to 0.9") { $0 >= 0 && $0 <= 0.9 },
            help: "Share of rows held out for validation."),
    ]
}
