import CohortPeer
import FoundationEssentials
import Glibc
import Synchronization
import TestSupport
import Testing

/// Holds peers of a test at named points of their work, so that a kill lands where the test says and not where it hopes.
///
/// A peer connects to this socket at every point and goes on when its connection is closed. Connections that no rule asks to hold are
/// closed at once.
final class CheckPoints: Sendable {
    /// Which point of which process.
    struct Rule: Hashable, Sendable {
        var process: pid_t
        var name: CheckPoint.Name
        /// nil: in any round.
        var round: Int?
    }

    /// A peer that stands still until it is released, or dies.
    struct Held: Sendable {
        fileprivate let descriptor: Int32
        let round: Int
        let epoch: Int
        func release() {
            // A process that the test has started meanwhile may have inherited the connection: closing it here alone would not end it.
            shutdown(descriptor, Int32(SHUT_RDWR))
            _ = Glibc.close(descriptor)
        }
    }

    private struct State {
        var rules: Set<Rule> = []
        var held: [Rule: Held] = [:]
        var waiters: [Rule: CheckedContinuation<Void, Never>] = [:]
        var isClosed = false
    }

    let path: String
    private let listener: Int32
    private let state = Mutex(State())

    init(path: String) throws {
        self.path = path
        listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = [UInt8](path.utf8) + [0]
        guard listener >= 0, bytes.count <= MemoryLayout.size(ofValue: address.sun_path) else {
            throw TestFailure("no socket \(path)")
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        let isBound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
            }
        }
        guard isBound, listen(listener, 128) == 0 else { throw TestFailure("no socket \(path): \(String(cString: strerror(errno)))") }
        Thread.start { [self] in accept() }
    }

    /// Asks for a process to be held when it next comes to the point; ``reached(_:)`` waits for that.
    func hold(_ name: CheckPoint.Name, of process: TestProcess, round: Int? = nil) async throws -> Rule {
        let rule = Rule(process: try await process.started(), name: name, round: round)
        state.withLock { _ = $0.rules.insert(rule) }
        return rule
    }

    /// The peer that stands at the rule's point.
    func reached(_ rule: Rule, within limit: Duration = .seconds(120)) async throws -> Held {
        try await withThrowingTaskGroup(of: Held?.self) { group in
            group.addTask {
                while !Task.isCancelled {
                    if let held = self.state.withLock({ $0.held.removeValue(forKey: rule) }) { return held }
                    await withCheckedContinuation { continuation in
                        let isHere = self.state.withLock { state in
                            if state.held[rule] != nil || state.isClosed { return true }
                            state.waiters[rule] = continuation
                            return false
                        }
                        if isHere { continuation.resume() }
                    }
                }
                return nil
            }
            group.addTask {
                try await Task.sleep(for: limit)
                throw TestFailure("\(rule) was not reached within \(limit)")
            }
            defer {
                group.cancelAll()
                self.state.withLock { $0.waiters.removeValue(forKey: rule) }?.resume()
            }
            guard let first = try await group.next(), let held = first else { throw CancellationError() }
            return held
        }
    }

    func close() {
        state.withLock { state in
            state.isClosed = true
            for held in state.held.values { held.release() }
            state.held = [:]
        }
        shutdown(listener, Int32(SHUT_RDWR))
        _ = Glibc.close(listener)
    }

    // MARK: -

    private func accept() {
        while true {
            let connection = Glibc.accept(listener, nil, nil)
            guard connection >= 0 else {
                if errno == EINTR { continue }
                return
            }
            // A peer may be stopped between connecting and saying where it is: that keeps no other waiting.
            Thread.start { [self] in answer(connection) }
        }
    }

    private func answer(_ connection: Int32) {
        guard let (rule, held) = read(connection) else {
            _ = Glibc.close(connection)
            return
        }
        let (isHeld, waiter) = state.withLock { state -> (Bool, CheckedContinuation<Void, Never>?) in
            let wanted = [rule, Rule(process: rule.process, name: rule.name, round: nil)].first { state.rules.contains($0) }
            guard let wanted, !state.isClosed else { return (false, nil) }
            state.rules.remove(wanted)
            state.held[wanted] = held
            return (true, state.waiters.removeValue(forKey: wanted))
        }
        if !isHeld { held.release() }
        waiter?.resume()
    }

    /// `PROCESS NAME ROUND EPOCH` and a line feed.
    private func read(_ connection: Int32) -> (Rule, Held)? {
        var line: [UInt8] = []
        var byte: UInt8 = 0
        while line.count < 200 {
            let count = Glibc.read(connection, &byte, 1)
            if count < 0, errno == EINTR { continue }
            guard count == 1 else { return nil }
            if byte == 0x0A { break }
            line.append(byte)
        }
        let words = String(decoding: line, as: UTF8.self).split(separator: " ")
        guard words.count == 4, let process = pid_t(words[0]), let name = CheckPoint.Name(rawValue: String(words[1])),
            let round = Int(words[2]), let epoch = Int(words[3])
        else { return nil }
        return (Rule(process: process, name: name, round: round), Held(descriptor: connection, round: round, epoch: epoch))
    }
}

/// A thread for what blocks.
enum Thread {
    static func start(_ body: @escaping @Sendable () -> Void) {
        final class Body {
            let run: @Sendable () -> Void
            init(_ run: @escaping @Sendable () -> Void) { self.run = run }
        }
        var thread = pthread_t()
        let context = Unmanaged.passRetained(Body(body))
        let result = pthread_create(
            &thread, nil,
            { context in
                guard let context else { return nil }
                Unmanaged<Body>.fromOpaque(context).takeRetainedValue().run()
                return nil
            }, context.toOpaque())
        if result == 0 { pthread_detach(thread) } else { context.release() }
    }
}
