import Glibc
import Synchronization
import TestSupport

/// Passes bytes between a client and a server, and holds once the clients have sent a given number: what comes after waits, as in a network
/// that has stopped. So a test can end one of them in the middle of a transfer, however fast the machine is. With a
/// latency it is a slow network.
final class HoldingRelay: Sendable {
    private struct State {
        var left: Int
        var descriptors: Set<Int32> = []
        var isClosed = false
    }

    let port: Int
    private let listener: Int32
    private let server: Int
    /// Seconds before each piece of at most 64 KiB goes on, in either direction.
    private let latency: Double
    private let state: Mutex<State>

    init(to server: Int, holdingAfter bytes: Int = .max, latency: Double = 0) throws {
        self.server = server
        self.latency = latency
        state = Mutex(State(left: bytes))
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        self.listener = listener
        var address = Self.loopback(port: 0)
        let isBound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(listener, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0 }
        }
        guard isBound, listen(listener, 16) == 0 else { throw TestFailure("no relay: \(String(cString: strerror(errno)))") }
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        _ = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(listener, $0, &length) }
        }
        port = Int(UInt16(bigEndian: address.sin_port))
        Thread.start { [self] in accept() }
    }

    var isHeld: Bool { state.withLock { $0.left <= 0 } }

    /// Ends all connections, as a host that is gone. Only the first call counts: a descriptor that is closed is another's soon.
    func close() {
        let descriptors = state.withLock { state -> Set<Int32>? in
            guard !state.isClosed else { return nil }
            state.isClosed = true
            state.left = 0
            return state.descriptors
        }
        guard let descriptors else { return }
        for descriptor in descriptors { shutdown(descriptor, Int32(SHUT_RDWR)) }
        shutdown(listener, Int32(SHUT_RDWR))
        _ = Glibc.close(listener)
    }

    private static func loopback(port: Int) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(UInt16(port)).bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        return address
    }

    private func accept() {
        while true {
            let client = Glibc.accept(listener, nil, nil)
            guard client >= 0 else {
                if errno == EINTR { continue }
                return
            }
            let upstream = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
            var address = Self.loopback(port: server)
            let isConnected = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    connect(upstream, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
                }
            }
            guard isConnected else { return }
            state.withLock { $0.descriptors.formUnion([client, upstream]) }
            Thread.start { [self] in copy(from: client, to: upstream, isCounted: true) }
            Thread.start { [self] in copy(from: upstream, to: client, isCounted: false) }
        }
    }

    /// Until one of them ends; held, it reads no more, and the sender waits.
    private func copy(from source: Int32, to target: Int32, isCounted: Bool) {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = read(source, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            if latency > 0 { usleep(useconds_t(latency * 1e6)) }
            var sent = 0
            while sent < count {
                let written = buffer.withUnsafeBytes { send(target, $0.baseAddress! + sent, count - sent, Int32(MSG_NOSIGNAL)) }
                guard written > 0 else { return }
                sent += written
            }
            guard isCounted else { continue }
            let isHeld = state.withLock { state in
                state.left -= count
                return state.left <= 0
            }
            if isHeld { return }
        }
        shutdown(target, Int32(SHUT_WR))
    }
}
