import CohortCore

/// Training rows in the order in which a session of this seed deals them.
package func dealt(_ rows: [UInt32], seed: UInt64) -> [UInt32] {
    var order = rows
    var generator = SeededGenerator(seed: seed, purpose: "rows")
    generator.shuffle(&order)
    return order
}
