import HTTPTypes
import Hummingbird
import NIOCore
import ServiceLifecycle

/// One server-sent event (WHATWG HTML, "Server-sent events").
struct StreamedEvent: Sendable {
    var id: Int?
    var name: String?
    /// One line: JSON.
    var data: [UInt8]

    var buffer: ByteBuffer {
        var buffer = ByteBuffer()
        if let id { buffer.writeString("id: \(id)\n") }
        if let name { buffer.writeString("event: \(name)\n") }
        buffer.writeString("data: ")
        buffer.writeBytes(data)
        buffer.writeString("\n\n")
        return buffer
    }
}

extension Response {
    /// A stream of server-sent events that ends when `produce` returns, when the client disconnects, or when the server stops. A comment line is
    /// sent in every interval, so that both ends detect a dead connection.
    /// - Parameters:
    ///   - buffering: of events while the client is slow to read.
    ///   - produce: yields one or more ``StreamedEvent/buffer`` s at a time; is cancelled when the stream ends.
    static func eventStream(
        _ request: Request, buffering: AsyncStream<ByteBuffer>.Continuation.BufferingPolicy, every interval: Duration = .seconds(15),
        produce: @escaping @Sendable (AsyncStream<ByteBuffer>.Continuation) async throws -> Void
    ) -> Response {
        var headers: HTTPFields = [.contentType: "text/event-stream", .cacheControl: "no-store"]
        // Proxies hold answers back otherwise.
        if let name = HTTPField.Name("X-Accel-Buffering") { headers[name] = "no" }
        return Response(
            status: .ok, headers: headers,
            body: ResponseBody { writer in
                let (items, sink) = AsyncStream<ByteBuffer>.makeStream(bufferingPolicy: buffering)
                try await withTaskCancellationOrGracefulShutdownHandler {
                    // Without a reader the stream must end, or events would be collected forever.
                    try await request.body.consumeWithInboundCloseHandler { _ in
                        try await writer.write(ByteBuffer(string: ": connected\n\n"))
                        try await withThrowingTaskGroup(of: Void.self) { group in
                            group.addTask {
                                // Also when the events end with an error: pings alone would keep a dead stream open.
                                defer { sink.finish() }
                                try await produce(sink)
                            }
                            group.addTask {
                                while true {
                                    try await Task.sleep(for: interval)
                                    sink.yield(ByteBuffer(string: ": ping\n\n"))
                                }
                            }
                            for await event in items { try await writer.write(event) }
                            // The events' own error, if they ended with one, ends the connection.
                            group.cancelAll()
                        }
                    } onInboundClosed: {
                        sink.finish()
                    }
                } onCancelOrGracefulShutdown: {
                    sink.finish()
                }
                try await writer.finish(nil)
            })
    }
}
