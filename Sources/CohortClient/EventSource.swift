import AsyncHTTPClient
import CohortCore
import NIOCore

/// The events of one open stream, pulled one by one by one consumer. Letting go of it closes the connection.
actor EventSource {
    private let server: ServerURL
    private var iterator: HTTPClientResponse.Body.AsyncIterator
    private var parser = EventStreamParser()
    private var ready: ArraySlice<ServerSentEvent> = []

    init(body: HTTPClientResponse.Body, server: ServerURL) {
        self.server = server
        iterator = body.makeAsyncIterator()
    }

    /// nil at the stream's end, and when the task is cancelled.
    func next() async throws -> ServerSentEvent? {
        while ready.isEmpty {
            let chunk: ByteBuffer?
            do {
                // The iterator is a reference to the connection: a copy advances it as well.
                var iterator = self.iterator
                chunk = try await iterator.next(isolation: self)
            } catch {
                throw BrokenConnection(error, remote: .server(server)).error
            }
            guard let chunk else { return nil }
            ready = try parser.feed(chunk.readableBytesView)[...]
        }
        return ready.popFirst()
    }
}
