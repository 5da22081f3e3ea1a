import NIOCore
import NIOEmbedded
import NIOHTTP1
import Testing

@testable import CohortServer

/// What becomes of a connection whose request was answered before its body had come.
@Suite struct ConnectionGuardTests {
    private let channel: EmbeddedChannel

    init() throws {
        channel = EmbeddedChannel(handler: ConnectionGuard(ConnectionLimits(unwanted: .seconds(10))))
        try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
    }

    private func begin() throws {
        try channel.writeInbound(
            HTTPServerRequestPart.head(
                HTTPRequestHead(version: .http1_1, method: .PUT, uri: "/objects/k", headers: ["host": "h", "content-length": "9"])))
    }

    private func come(_ bytes: Int) throws {
        try channel.writeInbound(HTTPServerRequestPart.body(ByteBuffer(repeating: 1, count: bytes)))
    }

    private func end() throws { try channel.writeInbound(HTTPServerRequestPart.end(nil)) }

    /// As `Context.closeSoon` says it.
    private func reportUnwanted() { channel.triggerUserOutboundEvent(ConnectionGuard.BodyIsUnwanted(), promise: nil) }

    private func answer() throws {
        try channel.writeOutbound(HTTPServerResponsePart.head(HTTPResponseHead(version: .http1_1, status: .payloadTooLarge)))
        try channel.writeOutbound(HTTPServerResponsePart.end(nil))
    }

    @Test func `one that goes on sending is closed, once it had time to read the answer`() throws {
        try begin()
        try come(3)
        reportUnwanted()
        // The answer may take longer than that time.
        channel.embeddedEventLoop.advanceTime(by: .seconds(11))
        #expect(channel.isActive)
        try answer()
        for _ in 0..<9 {
            channel.embeddedEventLoop.advanceTime(by: .seconds(1))
            try come(1)
        }
        #expect(channel.isActive)
        channel.embeddedEventLoop.advanceTime(by: .seconds(1))
        #expect(!channel.isActive)
    }

    @Test func `one whose body came to its end stays, and so does the next request on it`() throws {
        try begin()
        reportUnwanted()
        try answer()
        try come(9)
        try end()
        // Another body is under way when that time is over.
        try begin()
        channel.embeddedEventLoop.advanceTime(by: .seconds(11))
        #expect(channel.isActive)
        try come(9)
        try end()
        #expect(channel.isActive)
        _ = try channel.finish(acceptAlreadyClosed: true)
    }
}
