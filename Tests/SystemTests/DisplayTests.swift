import ArgumentParser
import CohortAPI
import CohortCore
import CohortPeer
import CohortSession
import CohortWire
import FoundationEssentials
import Synchronization
import Testing

@testable import CohortCommands

/// What people see on a terminal.
@Suite struct DisplayTests {
    private final class Screen: Sendable {
        private let text = Mutex("")
        func write(_ more: String) { text.withLock { $0 += more } }
        var written: String { text.withLock { $0 } }
    }

    private func beat(_ epoch: Int) -> HeartbeatEvent {
        HeartbeatEvent(
            sessionId: "3f2a91c0-aaaa", peerId: "p", generation: 1, round: 4, epoch: epoch, loss: 0.12345, accuracy: 0.95,
            samplesPerSecond: 12_345, progress: nil)
    }

    @Test func `a peer says where it is, what it trains, and that it waits, on one line that fits`() {
        let screen = Screen()
        let display = PeerDisplay(server: "https://lab:8080", width: { 60 }, write: screen.write)
        display.show(.waitingForServer("no answer"))
        display.show(.joined(name: "lena-mbp"))
        display.show(.epoch(beat(1), of: 3))
        display.show(
            .round(
                DoneEvent(
                    sessionId: "3f2a91c0-aaaa", peerId: "p", generation: 1, round: 4,
                    results: DoneResults(loss: 0.1, accuracy: 0.9, samples: 100, epochs: 3, seconds: 1), update: nil)))
        display.show(.released(session: "3f2a91c0-aaaa"))
        display.show(.left)
        let clear = "\r\u{1B}[K"
        #expect(
            screen.written == """
                waiting for the server: no answer\(clear)lena-mbp has joined https://lab:8080
                waiting for work; Ctrl-C leaves\(clear)session 3f2a91c0: round 5, epoch 1/3, loss 0.1235, accuracy\(clear)session 3f2a91c0 is over for this machine, which trained in 1 round
                waiting for work; Ctrl-C leaves\(clear)left https://lab:8080

                """)
    }

    @Test(arguments: [120, 80, 50, 30]) func `the live view says as much as fits, and no number is cut`(width: Int) {
        let peer = API.SessionPeerView(
            SessionPeer(
                Peer(
                    id: "p", name: "lena-mbp", ownerId: "o", tokenId: "t",
                    capabilities: PeerCapabilities(
                        cores: 1, memoryBytes: 1, engine: "native", device: "cpu", samplesPerSecond: 1, platform: "", version: ""),
                    registeredAt: Date(), lastSeen: Date())))
        var display = TrainingDisplay(peers: [peer], rounds: 10, localEpochs: 3, interactive: true)
        var notice = SessionNotice(sessionId: "s", kind: .epoch, time: Date(), message: "")
        (notice.peerId, notice.peerName, notice.round, notice.epoch) = ("p", "lena-mbp", 4, 2)
        (notice.loss, notice.accuracy, notice.samplesPerSecond, notice.progress) = (0.12345, 0.95, 12_345, 0.5)
        let lines = display.show(notice, width: width).split(separator: "\n").map(String.init)
        #expect(lines.allSatisfy { $0.count < width }, "\(lines)")
        let expected = [
            120: "  lena-mbp  round 5/10 epoch 2/3, loss 0.1235, accuracy 95.0 %, 12,345 samples/s",
            80: "  lena-mbp  round 5/10 epoch 2/3, loss 0.1235, accuracy 95.0 %",
            50: "  lena-mbp  5/10 2/3 loss 0.1235 accuracy 95.0 %", 30: "  lena-mbp  5/10, loss 0.1235",
        ]
        #expect(lines[0] == expected[width] ?? "")
    }

    @Test func `a table drops the columns that say least until it fits`() {
        let table = TextTable(header: ["peer", "engine", "device", "loss"], rows: [["lena-mbp", "native", "cpu", "0.1235"]])
        #expect(table.text(width: nil, dropping: ["engine", "device"]) == table.text)
        #expect(!table.text(width: 24, dropping: ["engine", "device"]).contains("engine"))
        #expect(table.text(width: 24, dropping: ["engine", "device"]).contains("device"))
        #expect(table.text(width: 10, dropping: ["engine", "device"]) == "peer      loss\nlena-mbp  0.1235")
    }

    @Test func `help fits a screen`() {
        let help = Cohort.helpMessage(columns: 80).split(separator: "\n", omittingEmptySubsequences: false).dropLast()
        #expect(help.count <= 50, "\(help.count) lines")
        #expect(help.allSatisfy { $0.count <= 80 })
        #expect(help.contains { $0.contains("docs/settings.md") })
    }
}
