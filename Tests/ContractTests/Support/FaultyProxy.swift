import NIOCore
import NIOPosix
import Synchronization

/// A TCP proxy on loopback whose connections go wrong as a test says, in their order; all that come after are passed on.
final class FaultyProxy: Sendable {
    enum Fault: Sendable {
        /// The first that is sent is answered with this instead, and the connection closed.
        case answer(String)
        /// Closed after so many bytes of the answer.
        case cut(after: Int)
    }

    private let faults: Mutex<[Fault]>
    private let asked = Mutex<[String]>([])
    let target: Int

    private init(_ faults: [Fault], target: Int) {
        self.faults = Mutex(faults)
        self.target = target
    }

    /// Faults that have not happened yet.
    var left: Int { faults.withLock { $0.count } }

    /// What was answered in the server's stead, as it was asked.
    var requests: [String] { asked.withLock { $0 } }

    /// Runs `body` with the proxy and its port.
    static func with(_ faults: [Fault], target: Int, _ body: @escaping @Sendable (FaultyProxy, Int) async throws -> Void) async throws {
        let proxy = FaultyProxy(faults, target: target)
        let server = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .bind(host: "127.0.0.1", port: 0) { channel in
                channel.eventLoop.makeCompletedFuture { try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel) }
            }
        let port = server.channel.localAddress?.port ?? 0
        try await server.executeThenClose { connections in
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    try await withThrowingDiscardingTaskGroup { group in
                        for try await connection in connections { group.addTask { try? await proxy.serve(connection) } }
                    }
                }
                group.addTask { try await body(proxy, port) }
                try await group.next()
                group.cancelAll()
            }
        }
    }

    private func serve(_ client: NIOAsyncChannel<ByteBuffer, ByteBuffer>) async throws {
        let fault = faults.withLock { $0.isEmpty ? nil : $0.removeFirst() }
        try await client.executeThenClose { fromClient, toClient in
            if case .answer(let text) = fault {
                for try await bytes in fromClient {
                    asked.withLock { $0.append(String(buffer: bytes)) }
                    try await toClient.write(ByteBuffer(string: text))
                    return
                }
                return
            }
            let server = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
                .connect(host: "127.0.0.1", port: target) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
                    }
                }
            try await server.executeThenClose { fromServer, toServer in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { for try await bytes in fromClient { try await toServer.write(bytes) } }
                    group.addTask {
                        var left = Int.max
                        if case .cut(let bytes) = fault { left = bytes }
                        for try await var bytes in fromServer {
                            guard let some = bytes.readSlice(length: min(left, bytes.readableBytes)) else { return }
                            try await toClient.write(some)
                            left -= some.readableBytes
                            if left == 0 { return }
                        }
                    }
                    try await group.next()
                    group.cancelAll()
                }
            }
        }
    }
}
