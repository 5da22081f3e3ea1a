import CohortWire

/// Corrects the speeds by which peers receive shares of the rows, from what their answers show.
enum SpeedModel {
    /// The bounds of a speed, as factors of the median speed in the session.
    private static let (minFactor, maxFactor) = (1.0 / 64, 64.0)
    /// The shortest training, in seconds, that measures a speed. Shorter rounds change nothing, so that a small session can be repeated bit by bit.
    private static let minSeconds = 0.25
    /// The smoothed error, in octaves, from which a speed is changed: a third more or less. A smaller one may be a busy moment.
    private static let maxDrift = 0.4

    /// Limits a speed to the range around the median of the peers that take part.
    static func bounded(_ speed: Double, among peers: [SessionPeer]) -> Double {
        let speeds = peers.filter(\.isAlive).map(\.speed).sorted()
        guard !speeds.isEmpty else { return speed }
        let median = speeds[speeds.count / 2]
        return min(max(speed, median * minFactor), median * maxFactor)
    }

    /// Compares the rates of a round's answers with the speeds, relative to their median, and changes the speeds that are off.
    /// - Parameter answered: the indices of the peers that answered.
    static func correct(_ peers: inout [SessionPeer], answered: [Int]) {
        for index in answered { restore(&peers, index) }
        let measured = answered.compactMap { index -> (index: Int, ratio: Double)? in
            guard let results = peers[index].answer?.results, results.seconds >= minSeconds, let rate = results.rate, peers[index].speed > 0
            else { return nil }
            return (index, rate / peers[index].speed)
        }
        guard measured.count >= 2 else { return }
        let ratios = measured.map(\.ratio).sorted()
        let middle = ratios[ratios.count / 2]
        guard middle > 0 else { return }
        for (index, ratio) in measured {
            let octaves = octaves(ratio / middle)
            let drift = peers[index].drift.map { 0.6 * $0 + 0.4 * octaves } ?? octaves
            peers[index].drift = drift
            guard abs(drift) >= maxDrift else { continue }
            let speed = SessionPeer.speedClass(of: peers[index].speed * SessionPeer.power(drift))
            peers[index].speed = bounded(speed, among: peers)
            peers[index].drift = nil
        }
    }

    /// Gives a peer that was late and answers in time again its speed back, in steps of four: its small shares cannot measure it.
    private static func restore(_ peers: inout [SessionPeer], _ index: Int) {
        guard let before = peers[index].speedBeforeLate else { return }
        if peers[index].speed < before {
            let speed = SessionPeer.speedClass(of: min(before, 4 * peers[index].speed))
            peers[index].speed = bounded(speed, among: peers)
            peers[index].drift = nil
            peers[index].isRegaining = true
        }
        guard peers[index].speed >= before else { return }
        peers[index].speedBeforeLate = nil
        peers[index].isRegaining = nil
    }

    /// log2, within ±10.
    static func octaves(_ ratio: Double) -> Double {
        guard ratio > 0x1p-10 else { return -10 }
        guard ratio < 0x1p10 else { return 10 }
        // log2(m · 2^e): the bits of log2(m) by repeated squaring, without a math library.
        var fraction = 0.0
        var mantissa = ratio.significand
        var bit = 0.5
        for _ in 0..<20 {
            mantissa *= mantissa
            if mantissa >= 2 {
                mantissa /= 2
                fraction += bit
            }
            bit /= 2
        }
        return Double(ratio.exponent) + fraction
    }
}
