/// Tells a peer that works from one that only beats: by the signs that its work gives (TRAIN accepted, data loaded, epochs, answers).
/// The patience comes from the gaps between signs that were seen in this session, its own and the others', with a floor.
public struct WorkWatch: Sendable {
    /// Seconds; the shortest patience.
    public let floor: Double
    /// The longest gap that ended with a sign, times the speed of the peer that gave it.
    private var maxWork = 0.0
    private var lastSigns: [String: Double] = [:]

    public init(floor: Double) { self.floor = floor }

    /// The peer is given something to do.
    public mutating func begin(_ peerId: String, at seconds: Double) { lastSigns[peerId] = seconds }

    /// The peer has shown that it works.
    public mutating func sign(_ peerId: String, speed: Double, at seconds: Double) {
        if let last = lastSigns[peerId] { maxWork = max(maxWork, (seconds - last) * speed) }
        lastSigns[peerId] = seconds
    }

    public mutating func end(_ peerId: String) { lastSigns[peerId] = nil }

    /// Seconds since its last sign.
    public func silence(of peerId: String, at seconds: Double) -> Double { lastSigns[peerId].map { seconds - $0 } ?? 0 }

    /// Seconds without a sign after which a peer of this speed is left out: four times the longest gap seen, scaled to its speed.
    public func patience(speed: Double) -> Double { max(floor, 4 * maxWork / max(speed, .leastNormalMagnitude)) }
}
