// Times a real RabbitMQ: BrokerBench URL MESSAGES AT_ONCE. Events go from a peer to a session's queue, each published with a confirm, signed, consumed, checked and
// acknowledged, as in a session. Prints a line of JSON.
import CohortCore
import CohortWire
import FoundationEssentials
import Logging
import RabbitMQTransport

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

let arguments = CommandLine.arguments
guard arguments.count == 4, let messages = Int(arguments[2]), let atOnce = Int(arguments[3]) else {
    print("usage: BrokerBench URL MESSAGES AT_ONCE")
    exit(2)
}
let broker = try RabbitMQTransport(
    .init(address: RabbitMQAddress(arguments[1], setting: "URL")),
    signatures: MessageSignatures(secret: (0..<32).map { _ in UInt8.random(in: 0...255) }), logger: Logger(label: "bench"))
let queue = QueueName.events(sessionId: newIdentifier())
let event = PeerEvent.heartbeat(
    HeartbeatEvent(
        sessionId: newIdentifier(), peerId: newIdentifier(), generation: 1, round: 1, epoch: 1, loss: 0.5, accuracy: 0.75,
        samplesPerSecond: 123_456, progress: 0.5))
let body = try CohortJSON.encode(event)
func seconds(_ duration: Duration) -> Double { Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18 }

try await withThrowingTaskGroup(of: Void.self) { group in
    group.addTask { try await broker.run() }
    // Connecting is not what is timed, and has no event.
    while (try? await broker.ready()) == nil { try await Task.sleep(for: .milliseconds(5)) }
    try await broker.open(queue)
    let stream = try await broker.events(of: queue)
    let start = ContinuousClock.now
    for lane in 0..<atOnce {
        group.addTask {
            for _ in 0..<(messages / atOnce + (lane < messages % atOnce ? 1 : 0)) {
                try await broker.publish([body], from: "bench", to: queue)
            }
        }
    }
    var count = 0
    for try await received in stream {
        try await received.settle(.accepted)
        count += 1
        if count == messages { break }
    }
    print("{\"messages\": \(count), \"seconds\": \(seconds(ContinuousClock.now - start)), \"bytes\": \(body.count)}")
    try await broker.close(queue)
    group.cancelAll()
}
