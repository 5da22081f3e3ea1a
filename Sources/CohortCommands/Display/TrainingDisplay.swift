import CohortAPI
import CohortCore
import CohortWire

/// The display of `cohort train` while a session runs: on a terminal one line per peer and a total bar, redrawn in place; elsewhere a plain line
/// for each event.
struct TrainingDisplay {
    private struct Line {
        var name: String
        var round = 0
        var epoch = 0
        /// The epochs of a round, where each peer has a different number; nil: the session's.
        var epochs: Int?
        var loss: Double?
        var accuracy: Double?
        var samplesPerSecond: Double?
        var note: String?
    }

    private let interactive: Bool
    private var rounds: Int
    private var localEpochs: Int
    private var peers: [String: Line] = [:]
    private var order: [String] = []
    private var progress = 0.0
    private var headline = "Waiting for the first round"
    private var subject: String?
    private var drawnLines = 0

    init(peers shown: [API.SessionPeerView], rounds: Int, localEpochs: Int, interactive: Bool) {
        self.interactive = interactive
        self.rounds = rounds
        self.localEpochs = localEpochs
        for peer in shown {
            order.append(peer.id)
            peers[peer.id] = Line(name: peer.name)
        }
    }

    /// Takes a notice in.
    /// - Returns: what to write to the terminal now.
    mutating func show(_ notice: SessionNotice, width: Int) -> String {
        progress = max(progress, notice.progress ?? 0)
        if let id = notice.peerId {
            if peers[id] == nil {
                order.append(id)
                peers[id] = Line(name: notice.peerName ?? id)
            }
            if notice.kind == .epoch {
                peers[id]?.round = notice.round ?? 0
                peers[id]?.epoch = notice.epoch ?? 0
                peers[id]?.epochs = notice.epochs
                peers[id]?.loss = notice.loss
                peers[id]?.accuracy = notice.accuracy
                peers[id]?.samplesPerSecond = notice.samplesPerSecond
                peers[id]?.note = nil
            } else {
                peers[id]?.note = notice.message
            }
        }
        // They may be chosen when training starts.
        rounds = notice.rounds ?? rounds
        localEpochs = notice.epochs ?? localEpochs
        if notice.kind == .round || notice.kind == .status { headline = words(notice) }
        // What is predicted stays in sight.
        if notice.kind == .status, let task = notice.message.firstRange(of: "target '") {
            subject = "predicting " + notice.message[notice.message.index(task.lowerBound, offsetBy: 7)...]
        }
        guard interactive else { return plain(notice) }
        var text = erase
        if notice.kind == .peer || notice.kind == .note { text += "\(notice.message)\n" }
        let lines = drawing(width: width)
        drawnLines = lines.count
        return text + lines.joined(separator: "\n") + "\n"
    }

    /// Removes the drawing, so that other text can follow.
    mutating func clear() -> String {
        defer { drawnLines = 0 }
        return interactive ? erase : ""
    }

    private var erase: String { drawnLines > 0 ? "\u{1B}[\(drawnLines)F\u{1B}[J" : "" }

    private func plain(_ notice: SessionNotice) -> String {
        guard notice.kind == .epoch, let name = notice.peerName else { return "\(words(notice))\n" }
        return
            "\(name): round \((notice.round ?? 0) + 1)/\(rounds), epoch \(notice.epoch ?? 0)/\(localEpochs)\(figures(loss: notice.loss, notice.accuracy, notice.samplesPerSecond))\n"
    }

    /// Returns the notice with the metrics on the held-out rows.
    private func words(_ notice: SessionNotice) -> String {
        guard notice.kind == .round, let loss = notice.validationLoss else { return notice.message }
        let score =
            notice.validationAccuracy.map { ", accuracy \(Figure.percent($0))" } ?? notice.validationR2.map { ", R² \(Figure.decimal($0))" }
            ?? ""
        let error = notice.validationRmse.map { ", RMSE \(Figure.significant($0))" } ?? ""
        return
            "\(notice.message): training loss \(Figure.decimal(notice.loss)); held-out rows: loss \(Figure.decimal(loss))\(score)\(error)"
    }

    /// Returns as much of the line as fits: speed is dropped first, then the accuracy.
    private func work(_ line: Line, room: Int) -> String {
        guard line.epoch > 0 else { return "waiting" }
        let long = "round \(line.round + 1)/\(rounds) epoch \(line.epoch)/\(line.epochs ?? localEpochs)"
        return [
            long + figures(loss: line.loss, line.accuracy, line.samplesPerSecond), long + figures(loss: line.loss, line.accuracy, nil),
            "\(line.round + 1)/\(rounds) \(line.epoch)/\(line.epochs ?? localEpochs)\(figures(loss: line.loss, line.accuracy, nil).replacing(",", with: ""))",
            "\(line.round + 1)/\(rounds)" + figures(loss: line.loss, nil, nil),
        ].first { $0.count <= room } ?? "\(line.round + 1)/\(rounds)"
    }

    private func figures(loss: Double?, _ accuracy: Double?, _ speed: Double?) -> String {
        (loss.map { ", loss \(Figure.decimal($0))" } ?? "") + (accuracy.map { ", accuracy \(Figure.percent($0))" } ?? "")
            + (speed.map { ", \(Figure.whole(Int(min($0, 1e15)))) samples/s" } ?? "")
    }

    private func drawing(width: Int) -> [String] {
        // More peers than fit a screen are summed up.
        let shown = order.prefix(20)
        let longest = shown.compactMap { peers[$0]?.name.count }.max() ?? 0
        var lines = shown.compactMap { id in
            peers[id].map { line in
                let name = line.name + String(repeating: " ", count: longest - line.name.count)
                return "  \(name)  \(line.note ?? work(line, room: width - 1 - longest - 4))"
            }
        }
        if order.count > shown.count { lines.append("  … and \(order.count - shown.count) more peers") }
        let percent = Figure.decimal(progress * 100, digits: 0) + " %"
        let room = max(10, min(40, width - percent.count - 6))
        let filled = Int((progress * Double(room)).rounded(.down))
        lines.append("  [" + String(repeating: "#", count: filled) + String(repeating: ".", count: room - filled) + "] " + percent)
        lines.append("  " + headline)
        if let subject { lines.append("  " + subject) }
        // A line that wraps would break the redrawing.
        return lines.map { String($0.prefix(max(20, width - 1))) }
    }
}
