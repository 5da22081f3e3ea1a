import CohortCore

/// Settings of each step.
extension SessionSetting {
    static let optimizer: [SessionSetting] = [
        choice(
            "optimizer", standard: OptimizerName.adam, help: "sgd, adam or adamw.", read: { $0.optimizer.name },
            // The optimizer's default weight decay, unless that is given as well.
            write: { $0.optimizer = OptimizerSpec(name: $1) }),
        number("momentum", \.optimizer.momentum, in: .share, help: "SGD: momentum."),
        SessionSetting(
            name: "nesterov", kind: .flag, help: "SGD: Nesterov's momentum.", standard: "false",
            read: { "\($0.optimizer.nesterov)" },
            write: { settings, text in settings.optimizer.nesterov = try flag("nesterov", text: text) },
            check: {
                if $0.optimizer.nesterov, $0.optimizer.momentum == 0 {
                    throw problem("nesterov", value: true, expected: "false without momentum")
                }
            }),
        number(
            "weight_decay", \.optimizer.weightDecay, in: Range(right: "0 or more") { $0 >= 0 }, depends: true,
            help: "Weight decay; the default of adamw is 0.01."),
        number("beta1", \.optimizer.beta1, in: .share, help: "Adam: how slowly the mean of gradients changes."),
        number("beta2", \.optimizer.beta2, in: .share, help: "Adam: how slowly the mean of their squares changes."),
        number("epsilon", \.optimizer.epsilon, in: .above(0, right: "above 0"), help: "Adam: added to the root of the mean of squares."),
        number(
            "gradient_clip", \.optimizer.gradientClip, in: .above(0, right: "above 0"),
            help: "Scale a step's gradient down to this norm (clip_grad_norm_); absent: never."),
        choice(
            "optimizer_state", standard: OptimizerMemory?.none,
            help:
                "The optimizer's moments when a round begins: average (like the weights; the default up to 2 million parameters), keep (each peer keeps its own; the first are averaged every third round, the second every sixth; the default above) or reset.",
            read: { $0.optimizerState }, write: { $0.optimizerState = $1 }),
        choice(
            "loss", standard: LossName?.none,
            help:
                "The loss to minimize: cross_entropy for classes; for numbers mse (the default), or l1 or huber, which outliers affect less. Reported metrics stay the same.",
            read: { $0.loss }, write: { $0.loss = $1 }),
        number(
            "label_smoothing", \.labelSmoothing, in: .share,
            help: "Classification: share of each target that is spread over all classes (CrossEntropyLoss); absent: none."),
    ]
}
