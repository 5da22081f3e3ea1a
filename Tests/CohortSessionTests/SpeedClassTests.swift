import CohortCore
import CohortSession
import CohortStrategies
import CohortWire
import FoundationEssentials
import Testing

/// Shares follow the measured speed.
@Suite struct SpeedClassTests {
    @Test func `a speed is kept to a few per cent, and one that is a class already stays`() {
        var rate = 1.0
        while rate < 0x1p30 {
            let rounded = SessionPeer.speedClass(of: rate)
            #expect(abs(rounded / rate - 1) < 0.0222, "\(rate) becomes \(rounded)")
            #expect(SessionPeer.speedClass(of: rounded) == rounded)
            rate *= 1.0137
        }
        #expect(SessionPeer.speedClass(of: 0) == 1 && SessionPeer.speedClass(of: -.infinity) == 1 && SessionPeer.speedClass(of: .nan) == 1)
        #expect(SessionPeer.speedClass(of: 1e300) == 0x1p30)
    }

    @Test func `a machine that is a little faster gets a little more`() {
        var least = 0
        for percent in 0...100 {
            let speeds = [1_000, 1_000 * (1 + Double(percent) / 100)]
            let peers = speeds.enumerated().map {
                SessionPeer(id: "\($0)", name: "\($0)", engine: "", device: "", registration: 1, speed: SessionPeer.speedClass(of: $1))
            }
            let rows = FedAvg().deal(trainingRows: 10_000, round: 0, peers: peers).map { $0.reduce(0) { $0 + $1.count } }
            let fair = 10_000 * speeds[1] / (speeds[0] + speeds[1])
            #expect(abs(Double(rows[1]) - fair) < 150, "\(percent) %: \(rows)")
            #expect(rows[1] >= least)
            least = rows[1]
        }
    }

    @Test func `machines alike get the same speed class`() {
        func speed(_ measured: Double) -> Double {
            SessionPeer(
                Peer(
                    id: "p", name: "p", ownerId: "o", tokenId: "t",
                    capabilities: PeerCapabilities(
                        cores: 1, memoryBytes: 1, engine: "native", device: "cpu", samplesPerSecond: measured, platform: "", version: ""),
                    registeredAt: Date(), lastSeen: Date())
            ).speed
        }
        #expect(speed(1_010) == speed(1_040) && speed(1_010) == 1_024)
        #expect(speed(1_450) == 1_024 * 2.0.squareRoot())
        #expect(speed(0) == 1 && speed(.nan) == 1)
    }
}
