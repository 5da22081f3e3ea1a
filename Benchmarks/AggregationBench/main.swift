import CohortCoordinator
// Times how updates become one: AggregationBench make|RULE FOLDER PEERS MEGABYTES. Prints a line of JSON: seconds, bytes read, peak memory.
import CohortCore
import CohortSession
import CohortStrategies
import CohortSystem
import CohortTraining
import CohortWire
import DirectoryObjects
import FoundationEssentials

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

let arguments = CommandLine.arguments
guard arguments.count == 5, let peers = Int(arguments[3]), let megabytes = Int(arguments[4]), peers > 0, megabytes > 0 else {
    print("usage: AggregationBench make|RULE FOLDER PEERS MEGABYTES")
    exit(2)
}
let folder = arguments[2]
// width² parameters and some: of 4 bytes each.
let width = Int((Double(megabytes) * 250_000).squareRoot())
let model = ModelSpec(inputs: width, hidden: [width], outputs: 10, task: .classification)
let objects = try DirectoryObjects(path: folder, secret: [UInt8](repeating: 7, count: 32))
let rules: [String: AggregationRule] = [
    "mean": .mean, "median": .median, "trimmed_mean": .trimmedMean(max(0, (peers - 3) / 2)),
    "krum": .krum(malicious: max(0, (peers - 3) / 2), keep: 1),
    "multi_krum": .krum(malicious: max(0, (peers - 3) / 2), keep: peers - max(0, (peers - 3) / 2)), "geometric_median": .geometricMedian,
    "centered_clipping": .centeredClipping,
]

/// Cheap to draw, and unlike in each.
func drawn(_ seed: Int) -> [Float] {
    [Float](unsafeUninitializedCapacity: model.parameterCount) { values, initialized in
        var state = UInt32(truncatingIfNeeded: seed &* 2_654_435_761 | 1)
        for index in 0..<model.parameterCount {
            state = state &* 1_664_525 &+ 1_013_904_223
            values[index] = Float(state >> 8) * 0x1p-24 - 0.5
        }
        initialized = model.parameterCount
    }
}

if arguments[1] == "make" {
    var lines = ""
    for peer in -1..<peers {
        let key = peer < 0 ? "checkpoints/start.safetensors" : "updates/s/\(peer).safetensors"
        let reference = try await objects.put(try Weights.encode(model, drawn(peer + 1)), key: key)
        lines += "\(key) \(reference.sha256) \(reference.bytes)\n"
    }
    try Data(lines.utf8).write(to: URL(filePath: "\(folder)/list"))
    exit(0)
}
guard let rule = rules[arguments[1]] else {
    print("there is no rule '\(arguments[1])'; they are \(rules.keys.sorted().joined(separator: ", "))")
    exit(2)
}
let list = try String(contentsOf: URL(filePath: "\(folder)/list"), encoding: .utf8).split(separator: "\n").map { line in
    let parts = line.split(separator: " ")
    return ObjectReference(key: String(parts[0]), sha256: String(parts[1]), bytes: Int(parts[2]) ?? 0)
}
var session = Session(
    id: "s", ownerId: "o", createdAt: Date(), settings: SessionSettings(peers: peers), peers: [], upload: nil, filename: "f.csv")
session.model = model
session.weights = list[0]
session.peers = list.dropFirst().enumerated().map { index, update in
    var peer = SessionPeer(id: "\(index)", name: "\(index)", engine: "native", device: "cpu", registration: 1, speed: 1)
    peer.answer = PeerAnswer(
        round: 0, results: DoneResults(loss: 1, accuracy: nil, samples: 1, epochs: 1, seconds: 1), update: update, answeredAt: Date())
    return peer
}
let executor = try ThreadExecutor()
let reader = Aggregator(objects, on: executor)
let began = ContinuousClock.now
let outcome = RoundOutcome(rule, session.peers.map { Share(peerId: $0.id, weight: 1 / Double(peers)) })
let aggregate = try await reader.aggregate(outcome, of: session)
let duration = (ContinuousClock.now - began).components
// Each update once, and once more by rules that go by whole updates, where it counts.
let again = rule.combines ? aggregate.contributions.count { $0.weight != 0 } : 0
let read = (peers + again) * (list.last?.bytes ?? 0)
let status = try String(contentsOf: URL(filePath: "/proc/self/status"), encoding: .utf8)
let peak = status.split(separator: "\n").first { $0.hasPrefix("VmHWM") }?.split(separator: " ").dropLast().last.flatMap { Int($0) } ?? 0
print(
    "{\"rule\": \"\(arguments[1])\", \"seconds\": \(Double(duration.seconds) + Double(duration.attoseconds) * 1e-18), \"bytes\": \(read), \"peak_kb\": \(peak)}"
)
