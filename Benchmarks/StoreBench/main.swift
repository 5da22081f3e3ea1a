// Times an S3 store: StoreBench URL MEGABYTES REPEATS, credentials in the environment. Prints a line of JSON a repeat, then the peak memory.
import CohortCore
import FoundationEssentials
import Logging
import S3Objects

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

let arguments = CommandLine.arguments
guard arguments.count == 4, let megabytes = Int(arguments[2]), let repeats = Int(arguments[3]) else {
    print("usage: StoreBench URL MEGABYTES REPEATS")
    exit(2)
}
let store = try S3Objects(
    try S3Address(arguments[1], setting: "URL"), environment: ProcessInfo.processInfo.environment, logger: Logger(label: "bench"))
try await store.ready()
var generator = SystemRandomNumberGenerator()
let chunk = (0..<(1 << 20)).map { _ in UInt8.random(in: 0...255, using: &generator) }
func seconds(_ duration: Duration) -> Double { Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18 }
for number in 0..<repeats {
    let key = "bench/\(number).bin"
    let start = ContinuousClock.now
    // As an upload comes: in chunks, with a copy for each.
    let writer = try await store.writer(key: key)
    for _ in 0..<megabytes { try await writer.write(chunk) }
    _ = try await writer.finish()
    let middle = ContinuousClock.now
    var count = 0
    for try await bytes in try await store.read(key, from: 0) { count += bytes.count }
    let end = ContinuousClock.now
    // A number of a store that loses bytes is worth nothing.
    guard count == megabytes << 20 else { fatalError("\(count) bytes came back") }
    print("{\"put_s\": \(seconds(middle - start)), \"get_s\": \(seconds(end - middle))}")
    try await store.delete(key)
}
// Of this program alone: getrusage would count what the process was before it became this one.
let status = String(decoding: FileManager.default.contents(atPath: "/proc/self/status") ?? Data(), as: UTF8.self)
let peak = status.split(separator: "\n").first { $0.hasPrefix("VmHWM") }?.split(separator: " ").dropFirst().first.flatMap { Double($0) }
print("{\"peak_mb\": \((peak ?? .nan) / 1024)}")
try await store.close()
