import CohortCore
import CohortWire

/// The sentences that a session reports to people. Programs depend on none of them.
enum Notices {
    /// A ratio as text.
    static func times(_ ratio: Double) -> String {
        ratio >= 10 ? "\(Int(min(ratio, 1e9)))" : "\((ratio * 10).rounded() / 10)"
    }

    private static func count(_ number: Int, _ noun: String) -> String { "\(number) \(noun)\(number == 1 ? "" : "s")" }

    private static func seconds(_ seconds: Double) -> String { "\(Int(min(seconds, 1e9))) s" }

    // MARK: The session

    static func starts(_ dataset: DatasetInfo, isTargetGiven: Bool) -> String {
        "Training starts: \(dataset.words(isTargetGiven: isTargetGiven))"
    }

    static func chosen(_ choices: [String], rows: Int, peers: Int) -> String {
        "Chosen for \(rows) rows on \(count(peers, "machine")): \(choices.joined(separator: ", "))"
    }

    static func takenOver(round: Int) -> String { "A coordinator has taken over; round \(round) continues" }

    static func ended(_ status: SessionStatus, reason: String?) -> String {
        switch status {
        case .completed: "Training completed"
        case .cancelled: "Training cancelled"
        default: "Training failed: \(reason ?? "")"
        }
    }

    static func runLimit(_ seconds: Double) -> String {
        "the session has trained for \(Int(seconds)) s, the most that this server allows (COHORT_LONGEST_RUN)"
    }

    static func runLimitFailure(_ seconds: Double, round: Int) -> String {
        "\(runLimit(seconds)), and its round \(round + 1) did not end"
    }

    static func runLimitEnds(_ seconds: Double, afterRound round: Int, of rounds: Int) -> String {
        "\(runLimit(seconds)): it ends after round \(round + 1) of \(rounds)"
    }

    static func serverSteps(_ outer: OuterState, rate: Double) -> String {
        "The server's steps follow the first round's change: server_lr is \(Float(rate)), server_tau \(Float(outer.tau ?? 0))"
    }

    // MARK: Waiting

    static func enableAwaited(_ names: [String]) -> String { "\(names.bounded()) to answer ENABLE" }

    static func readyAwaited(_ missing: Int, notReady: [SessionPeer]) -> String {
        let states = notReady.map { "\($0.name) \($0.state == .loading ? "loads the data set" : "has not answered ENABLE")" }
        return "\(count(missing, "more peer")) to be ready\(states.isEmpty ? "" : ": \(states.bounded())")"
    }

    static func peersAwaited(_ missing: Int, available: Int, minPeers: Int) -> String {
        "\(count(missing, "more peer")): \(available) of at least \(minPeers) are there"
    }

    static func tooFewPeers(_ available: Int, minPeers: Int, after wait: Double, reasons: [String]) -> String {
        "only \(available) of at least \(minPeers) peers are left, and no other came within \(Int(wait)) s: \(reasons.bounded(separator: "; "))"
    }

    static func isLost(_ peer: SessionPeer) -> String { "\(peer.name) is lost\(peer.message.map { " (\($0))" } ?? "")" }

    static func answersAwaited(_ names: [String], round: Int?, patience: Double) -> String {
        let what = round.map { "the answer to round \($0 + 1)" } ?? "the measurement"
        return "\(what) of \(names.bounded()): skipped after \(seconds(patience)) without progress"
    }

    // MARK: Peers

    static func joins(_ peer: SessionPeer) -> String { "\(peer.name) joins at the next round" }

    static func hasData(_ peer: SessionPeer) -> String { "\(peer.name) has the data set and takes part from the next round on" }

    static func restarted(_ peer: SessionPeer) -> String { "\(peer.name) restarted; its work is assigned again" }

    static func notNeeded(_ name: String, peers: Int) -> String {
        "\(name) is available but not needed: the session has the \(peers == 1 ? "one peer" : "\(peers) peers") that it asked for"
    }

    static func gone(_ peer: SessionPeer, phrase: String, rowsMove: Bool) -> String {
        "\(peer.name) \(phrase)\(rowsMove ? "; its \(peer.rowCount) rows go to the others" : "")"
    }

    static func unanswered(_ peer: SessionPeer) -> String { "\(peer.name) did not answer in time" }

    static func excluded(_ peer: SessionPeer, reason: String) -> String { "\(peer.name) is excluded: \(reason)" }

    static func skipped(_ peer: SessionPeer, round: Int, reason: String) -> String {
        "\(peer.name) is skipped in round \(round + 1): \(reason)"
    }

    static func quarantined(_ peer: SessionPeer, strikes: Int, reason: String) -> String {
        "\(peer.name) is quarantined after \(strikes) such rounds: \(reason)"
    }

    static func tooLittleMemory(needed: Int, available: Int) -> String {
        func mebibytes(_ bytes: Int) -> String { "\(max(1, bytes >> 20)) MiB" }
        return
            "training this model needs \(mebibytes(needed)) of memory, the machine has \(mebibytes(available)): choose smaller hidden layers"
    }

    static func crashing(_ restarts: Int) -> String { "its process ended \(restarts) times while it worked on this session" }

    static func stalled(_ silence: Double) -> String { "no progress for \(seconds(silence))" }

    static func loadingStalled(_ silence: Double) -> String { "no progress in loading the data set for \(seconds(silence))" }

    static func lateWhileLoading(_ peer: SessionPeer, round: Int) -> String {
        "\(peer.name) was too late for round \(round + 1): it receives rows once it has loaded the data set"
    }

    static func late(_ peer: SessionPeer, round: Int) -> String {
        "\(peer.name) was too late for round \(round + 1): its update is discarded, and its share is smaller until it is faster"
    }

    // MARK: Rounds

    static func reopened(round: Int) -> String { "Round \(round) starts again" }

    static func noRows(_ names: [String]) -> String {
        "\(names.bounded()) \(names.count == 1 ? "gets" : "get") no rows: the data set has fewer rows than peers"
    }

    static func smallShare(_ peer: SessionPeer, batch: Int) -> String {
        "batch_size \(batch) is larger than \(peer.name)'s share of \(count(peer.rowCount, "row")): it trains them as one smaller batch"
    }

    static func smallShares(_ peers: [SessionPeer], batch: Int) -> String {
        let (min, max) = (peers.map(\.rowCount).min() ?? 0, peers.map(\.rowCount).max() ?? 0)
        let rows = min == max ? "\(max)" : "\(min) to \(max)"
        return
            "batch_size \(batch) is larger than the shares of \(peers.map(\.name).bounded()) (\(rows) rows each): each trains its rows as one smaller batch"
    }

    static func measuring(rows: Int) -> String { "Measuring the model on \(rows) held-out rows" }

    static func epoch(_ epoch: Int, of peer: SessionPeer, round: Int) -> String {
        "\(peer.name) finished epoch \(epoch) of round \(round + 1)"
    }

    static func roundDone(_ round: Int, of rounds: Int) -> String { "Round \(round + 1) of \(rounds) is done" }

    static func stopsEarly(after patience: Int, best round: Int) -> String {
        "No better validation loss for \(patience) rounds: stopping with the weights of round \(round + 1)"
    }

    static func tooFewAnswers(_ answers: Int, strategy: String, needed: Int) -> String {
        "\(answers) answers are too few for \(strategy), which needs \(needed)"
    }

    static func partlyMeasured(_ samples: Int, of rows: Int) -> String {
        "the peers measured \(samples) of \(rows) held-out rows: the metrics are of those"
    }

    static func unmeasured(hasMetrics: Bool) -> String {
        "no peer is left to measure the model on all held-out rows: the metrics are \(hasMetrics ? "of the last round" : "missing")"
    }

    // MARK: Updates

    private static func length(of peer: SessionPeer, ratio: Double) -> String {
        "\(peer.name)'s update is \(times(ratio)) times as long as the median"
    }

    static func longUpdate(of peer: SessionPeer, ratio: Double) -> String { length(of: peer, ratio: ratio) }

    static func clippedUpdate(of peer: SessionPeer, ratio: Double) -> String {
        "\(length(of: peer, ratio: ratio)): it is clipped to \(Int(NormRule.clipRatio)) times"
    }

    static func refusedUpdate(of peer: SessionPeer, ratio: Double, limit: Double) -> String {
        "\(length(of: peer, ratio: ratio)); max_norm_ratio is \(limit)"
    }

    static func longStream(_ stream: String, of peer: SessionPeer, ratio: Double) -> String {
        let change =
            NormRule.streamScale(ratio: ratio) == 0 ? "it is discarded" : "it is clipped to \(Int(NormRule.maxStreamRatio)) times"
        return "\(peer.name)'s \(stream) is \(times(ratio)) times as long as the median: \(change)"
    }

    static func refused(_ peer: SessionPeer, reason: String) -> String { "\(peer.name)'s update is refused: \(reason)" }

    static func refusedMessage(round: Int, reason: String) -> String { "update of round \(round + 1) refused: \(reason)" }

    static func contradiction(_ peer: SessionPeer, reported: Counts, measured: Counts, task: LearningTask) -> String {
        func text(_ counts: Counts) -> String {
            func rounded(_ value: Double?) -> Double { ((value ?? 0) * 1_000).rounded() / 1_000 }
            return "loss \(rounded(counts.loss))" + (task == .classification ? ", accuracy \(rounded(counts.accuracy))" : "")
        }
        return
            "\(peer.name) reported \(text(reported)) on the held-out rows, but the server measured \(text(measured)), which counts"
    }
}
