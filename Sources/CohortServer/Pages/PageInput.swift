import CohortCore
import CohortSession

/// The input of a setting on the page of a new session, in the words of a page: no options of commands, no JSON.
struct PageInput {
    private let setting: SessionSetting

    init(_ setting: SessionSetting) { self.setting = setting }

    /// What differs from the setting's own words.
    private struct Words {
        var label: String?
        var help: String?
        /// The choices, by the value that is sent.
        var choices: [(value: String, text: String)]?
    }

    private static let words: [String: Words] = [
        "early_stopping": Words(help: "Stop after so many rounds without a better validation loss. Empty: never."),
        "local_steps": Words(label: "Steps a round", help: "Optimizer steps a round on each machine, in place of epochs. Empty: epochs."),
        "lr_schedule": Words(label: "Learning rate over time", help: "How the learning rate changes over the epochs."),
        "activation": Words(help: "The function behind each hidden layer."),
        "dropout": Words(help: "Share of hidden neurons that are switched off in each step. Reduces overfitting."),
        "seed": Words(help: "The same seed holds out the same rows and begins with the same weights. Empty: one is drawn."),
        "class_weight": Words(
            label: "Class weights", help: "Whether rare classes count more.",
            choices: [("", "all rows count alike"), ("balanced", "rare classes count more")]),
        "validation": Words(label: "Share held out", help: "Rows that are not trained on, to measure with."),
        "momentum": Words(help: "For SGD: how much of the last step goes into the next."),
        "nesterov": Words(label: "Nesterov's momentum", help: "For SGD.", choices: [("false", "no"), ("true", "yes")]),
        "beta1": Words(label: "Beta 1", help: "For Adam: how slowly the mean of the gradients changes."),
        "beta2": Words(label: "Beta 2", help: "For Adam: how slowly the mean of their squares changes."),
        "gradient_clip": Words(help: "Scale a step's gradient down to this norm. Empty: never."),
        "optimizer_state": Words(
            label: "Optimizer's memory", help: "What becomes of Adam's moments when a round begins.",
            choices: [
                ("", "by the model's size"), ("average", "average, like the weights"), ("keep", "each machine keeps its own"),
                ("reset", "begin anew"),
            ]),
        "loss": Words(
            help: "What training minimizes. For quantities, l1 and huber are less sensitive to outliers."),
        "label_smoothing": Words(help: "For classes: share of each target that is spread over all classes. Empty: none."),
        "proximal_mu": Words(
            label: "Pull toward the shared model",
            help: "How strongly each step is pulled toward the round's weights (mu of FedProx). Empty: by the way they work together."),
        "weighting": Words(
            label: "Weight of a machine", help: "How much a machine's work counts in the average.",
            choices: [("", "by the rows it trained on"), ("uniform", "all alike"), ("steps", "by its optimizer steps")]),
        "update_compression": Words(
            label: "Compression", help: "How updates travel: less to send over a slow network.",
            choices: [
                ("", "none"), ("fp32", "the change, in 32 bits"), ("fp16", "the change, in 16 bits"),
                ("bf16", "the change, in 16 bits (bfloat16)"),
                ("int8", "the change, in 8 bits"),
            ]),
        "server_lr": Words(label: "Server's learning rate", help: "For averages with an optimizer on the server. Empty: chosen."),
        "server_momentum": Words(label: "Server's momentum", help: "For averages with an optimizer on the server. Empty: chosen."),
        "server_tau": Words(
            label: "Server's tau", help: "For the server with Adam, Yogi or Adagrad: added to the root that it divides by. Empty: chosen."),
        "buffer_size": Words(
            label: "Answers that close a round",
            help: "For work without waiting: late answers count in the next round. Empty: half of the machines."),
        "malicious_peers": Words(
            label: "Faulty machines to tolerate", help: "For ways that stand faulty machines. Empty: as many as possible."),
        "nearest_neighbor_mixing": Words(
            label: "Mix nearest updates", help: "For ways that stand faulty machines, when machines have different rows.",
            choices: [("", "no"), ("true", "yes")]),
        "pool": Words(
            label: "Whose machines", help: "Every machine that trains receives the data.",
            choices: [("mine", "mine"), ("everyone", "those lent to everyone too")]),
        "min_peers": Words(label: "Fewest machines", help: "The session ends when fewer machines than this remain."),
        "max_norm_ratio": Words(
            label: "Refuse long updates", help: "Refuse updates that are so many times longer than the usual ones. Empty: only warn."),
        "keep_updates": Words(
            label: "Keep all updates", help: "So that the model can be computed again later, to check it.",
            choices: [("", "no"), ("true", "yes")]),
    ]

    /// What the template names.
    var values: [String: Any] {
        let words = Self.words[setting.name]
        var shown: [String: Any] = [
            "name": setting.name, "label": words?.label ?? setting.label, "help": words?.help ?? setting.help,
            "standard": setting.standard ?? "", "input": "type=\"text\"",
        ]
        switch setting.kind {
        case .whole(let range):
            shown["input"] = "type=\"number\" min=\"\(range.lowerBound)\" max=\"\(range.upperBound)\""
        case .number: shown["input"] = "type=\"number\" min=\"0\" step=\"any\""
        case .flag: shown["choices"] = options(["false", "true"].map { ($0, $0 == "true" ? "yes" : "no") })
        case .choice(let values): shown["choices"] = options(values.map { ($0, $0.replacing("_", with: " ")) })
        case .text: break
        }
        if let choices = words?.choices { shown["choices"] = options(choices) }
        return shown
    }

    /// Without a default, an empty option comes first: a browser always sends the chosen one.
    private func options(_ choices: [(value: String, text: String)]) -> [String: Any] {
        let standard = setting.standard ?? ""
        let first: [(value: String, text: String)] = choices.contains { $0.value == standard } ? [] : [("", "chosen")]
        return [
            "options": (first + choices).map { ["value": $0.value, "text": $0.text, "chosen": $0.value == standard] as [String: Any] }
        ]
    }
}
