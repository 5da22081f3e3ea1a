public import CohortCore
import CohortSession
public import CohortWire
public import FoundationEssentials
import Synchronization

/// An object store whose calls may go wrong.
public struct FaultyObjects: ObjectStore {
    let base: any ObjectStore
    let plan: FaultPlan

    public init(_ base: any ObjectStore, _ plan: FaultPlan) {
        self.base = base
        self.plan = plan
    }

    public var bucket: String { base.bucket }
    public func ready() async throws { try await plan.call("ready") { try await base.ready() } }
    public func writer(key: String) async throws -> any ObjectWriter {
        try await plan.call("writer") { FaultyWriter(base: try await base.writer(key: key), plan: plan) }
    }
    public func put(_ bytes: [UInt8], key: String) async throws -> ObjectReference {
        try await plan.call("put \(key.prefix { $0 != "/" })") { try await base.put(bytes, key: key) }
    }
    public func putAhead(_ bytes: [UInt8], key: String) async throws -> AheadObject {
        let object = try await plan.call("put ahead") { try await base.putAhead(bytes, key: key) }
        return AheadObject(reference: object.reference) { [plan] in try await plan.call("durable") { try await object.durable() } }
    }
    public func read(_ key: String, from offset: Int) async throws -> AsyncThrowingStream<[UInt8], any Error> {
        try await plan.call("read") { try await base.read(key, from: offset) }
    }
    public func get(_ key: String) async throws -> [UInt8] { try await plan.call("get") { try await base.get(key) } }
    public func size(of key: String) async throws -> Int? { try await plan.call("size") { try await base.size(of: key) } }
    public func localFile(of key: String) async throws -> String? {
        try await plan.call("localFile") { try await base.localFile(of: key) }
    }
    public func list(prefix: String) async throws -> [String] { try await plan.call("list") { try await base.list(prefix: prefix) } }
    public func delete(_ keys: [String]) async throws { try await plan.call("delete objects") { try await base.delete(keys) } }
    public func presignedGet(_ key: String, scope: String?, expiry: Date) async throws -> String {
        try await plan.call("presignedGet") { try await base.presignedGet(key, scope: scope, expiry: expiry) }
    }
    public func presignedPut(_ key: String, maxBytes: Int, expiry: Date) async throws -> String {
        try await plan.call("presignedPut") { try await base.presignedPut(key, maxBytes: maxBytes, expiry: expiry) }
    }
    public func closeLinks(scope: String) async throws {
        try await plan.call("closeLinks scope") { try await base.closeLinks(scope: scope) }
    }
    public func closeLinks(prefix: String) async throws {
        try await plan.call("closeLinks") { try await base.closeLinks(prefix: prefix) }
    }
    public func removeUnfinished(before date: Date) async throws {
        try await plan.call("removeUnfinished") { try await base.removeUnfinished(before: date) }
    }
    public func close() async throws { try await base.close() }
}

private struct FaultyWriter: ObjectWriter {
    let base: any ObjectWriter
    let plan: FaultPlan

    func write(_ bytes: [UInt8]) async throws { try await plan.call("write") { try await base.write(bytes) } }
    func finish() async throws -> ObjectReference { try await plan.call("finish") { try await base.finish() } }
    func abort() async { await base.abort() }
}

/// A transport whose calls may go wrong.
public struct FaultyTransport: CoordinatorTransport {
    let base: any CoordinatorTransport
    let plan: FaultPlan

    public init(_ base: any CoordinatorTransport, _ plan: FaultPlan) {
        self.base = base
        self.plan = plan
    }

    public func open(_ queue: QueueName) async throws { try await plan.call("open queue") { try await base.open(queue) } }
    public func send(_ command: Command, to peerId: String) async throws {
        try await plan.call("send") { try await base.send(command, to: peerId) }
    }
    public func events(of queue: QueueName) async throws -> AsyncThrowingStream<ReceivedEvent, any Error> {
        let stream = try await plan.call("events") { try await base.events(of: queue) }
        let plan = plan
        // Pulled by its one consumer.
        let iterator = Iterator(stream)
        return AsyncThrowingStream {
            guard let event = try await iterator.next() else { return nil }
            return ReceivedEvent(body: event.body, sender: event.sender) { settlement in
                try await plan.call("settle") { try await event.settle(settlement) }
            }
        }
    }
    public func close(_ queue: QueueName) async throws { try await plan.call("close queue") { try await base.close(queue) } }
    public func forget(peer peerId: String) async throws { try await plan.call("forget") { try await base.forget(peer: peerId) } }

    private final class Iterator: @unchecked Sendable {
        // @unchecked: of the one task that pulls.
        private var iterator: AsyncThrowingStream<ReceivedEvent, any Error>.AsyncIterator
        init(_ stream: AsyncThrowingStream<ReceivedEvent, any Error>) { iterator = stream.makeAsyncIterator() }
        func next() async throws -> ReceivedEvent? { try await iterator.next() }
    }
}

/// Time that runs faster than the system's: waits of seconds take milliseconds.
public struct FastTime: TimeSource {
    private let base = SystemTime()
    private let begun = Date()
    private let factor: Double

    public init(factor: Double) { self.factor = factor }

    public var date: Date { begun.addingTimeInterval(monotonic) }
    public var monotonic: Double { base.monotonic * factor }
    public func sleep(seconds: Double) async throws { try await base.sleep(seconds: seconds / factor) }
}
