import CohortCore
import CohortStrategies
import CohortTraining

/// Writes the state of the outer optimizer, a slice of each slot at a time. The file has the slots one after the other: the first is written as it comes,
/// the others are kept until the first is complete.
struct SlotWriter {
    private let header: [UInt8]
    private let key: String
    private let objects: any ObjectStore
    /// nil: all are kept, and written at once.
    private let writer: (any ObjectWriter)?
    private var kept: [[Float]]

    init(_ names: [String], _ model: ModelSpec, key: String, in objects: any ObjectStore, isSmall: Bool) async throws {
        header = try SlotsFile.header(model, names)
        self.key = key
        self.objects = objects
        writer = isSmall ? nil : try await objects.writer(key: key)
        kept = names.map { _ in [] }
        for index in kept.indices where index > 0 || isSmall { kept[index].reserveCapacity(model.parameterCount) }
        do { try await writer?.write(header) } catch {
            await writer?.abort()
            throw error
        }
    }

    /// - Parameter rows: the slots' next numbers, `count` of each, one behind the other.
    mutating func write(_ rows: [Float], each count: Int) async throws {
        if let writer { try await writer.write(rows[..<count].withUnsafeBytes { Array($0) }) } else { kept[0] += rows[..<count] }
        for index in kept.indices.dropFirst() { kept[index] += rows[(index * count)..<((index + 1) * count)] }
    }

    /// - Returns: the slots where they are few numbers.
    func finish() async throws -> (reference: ObjectReference, slots: [[Float]]?) {
        guard let writer else {
            var bytes = header
            for slot in kept { slot.withUnsafeBytes { bytes += $0 } }
            return (try await objects.put(bytes, key: key), kept)
        }
        for slot in kept.dropFirst() { try await writer.write(pieces: slot) }
        return (try await writer.finish(), nil)
    }

    func abort() async { await writer?.abort() }
}

extension ObjectWriter {
    /// Numbers of 4 bytes each, 1 MB at a time.
    func write(pieces values: [Float]) async throws {
        for first in stride(from: 0, to: values.count, by: 256 << 10) {
            try await write(values[first..<min(values.count, first + 256 << 10)].withUnsafeBytes { Array($0) })
        }
    }
}
