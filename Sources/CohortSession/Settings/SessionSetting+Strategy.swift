import CohortCore

/// Settings of the strategy.
extension SessionSetting {
    static let strategy: [SessionSetting] = [
        number(
            "proximal_mu", \.proximalMu, in: Range(right: "0 or more") { $0 >= 0 },
            help: "How strongly each step is pulled toward the round's weights (FedProx); absent: 0.01 with fedprox, else not."),
        choice(
            "weighting", standard: Weighting?.none,
            help:
                "The weight of a peer's answer in the mean: samples (rows trained on; the default), uniform (all equal) or steps (of the optimizer).",
            read: { $0.weighting }, write: { $0.weighting = $1 }),
        choice(
            "update_compression", standard: UpdateCompression?.none,
            help:
                "The format of updates: none (the default), fp32 (as a change), fp16, bf16 (half the bytes) or int8 (a quarter); rounding errors are added to the next round.",
            read: { $0.updateCompression }, write: { $0.updateCompression = $1 }),
        number(
            "server_lr", \.serverLr, in: .above(0, atMost: 100, right: "above 0, at most 100"),
            help:
                "The server's learning rate; default: fedavgm 1 - server_momentum, diloco 0.7, fedadam, fedyogi and fedadagrad by the first round's change."
        ),
        number(
            "server_momentum", \.serverMomentum, in: .share,
            help: "The server's momentum; default: fedavgm, diloco, fedadam and fedyogi 0.9, fedadagrad 0."),
        number(
            "server_tau", \.serverTau, in: .above(0, right: "above 0"),
            help:
                "The number that fedadam, fedyogi and fedadagrad add to the root they divide by; default: a tenth of the first round's change."
        ),
        whole(
            "buffer_size", \.bufferSize, from: 1,
            help:
                "Answers that close a round with fedbuff: the others count in the round in which they arrive; default: half of the peers."
        ),
        whole(
            "malicious_peers", \.maliciousPeers, from: 0,
            help: "The number of malicious peers that a robust strategy tolerates; default: the maximum, (peers - 3) / 2."),
        flag(
            "nearest_neighbor_mixing", \.nearestNeighborMixing,
            help: "Robust strategies: replace each update by the mean of its nearest ones first, for peers whose rows differ."),
    ]
}
