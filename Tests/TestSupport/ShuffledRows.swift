import CohortCore

/// The order of an epoch of a small table, as docs/protocol.md defines it: `rows` shuffled by the stream `epoch/ROUND/EPOCH` of `seed`.
public func shuffledRows(_ rows: [UInt32], seed: UInt64, round: Int, epoch: Int) -> [UInt32] {
    var generator = SeededGenerator(seed: seed, purpose: "epoch/\(round)/\(epoch)")
    var rows = rows
    generator.shuffle(&rows)
    return rows
}
