import HTTPTypes
import Hummingbird
import NIOCore
import NIOHTTPTypes
import Synchronization

/// `Expect: 100-continue`: a client that waits before it sends a long body receives 100 when a route reads the body, and not when the
/// route refuses before.
struct ExpectMiddleware: RouterMiddleware {
    func handle(_ request: Request, context: Context, next: (Request, Context) async throws -> Response) async throws -> Response {
        guard request.headers[.expect]?.lowercased() == "100-continue" else { return try await next(request, context) }
        let invited = Invitation(channel: context.channel)
        var waiting = request
        waiting.body = RequestBody(asyncSequence: InvitedBody(base: request.body, invitation: invited))
        var response = try await next(waiting, context)
        if !invited.isSent {
            // Whether a body comes now is the client's choice: the connection is of no further use.
            response.headers[.connection] = "close"
            context.closeSoon()
        }
        return response
    }
}

private final class Invitation: Sendable {
    private let channel: any Channel
    private let sent = Atomic(false)

    init(channel: any Channel) { self.channel = channel }

    var isSent: Bool { sent.load(ordering: .relaxed) }

    func send() async throws {
        guard !sent.exchange(true, ordering: .relaxed) else { return }
        try await channel.writeAndFlush(HTTPResponsePart.head(HTTPResponse(status: .continue)))
    }
}

private struct InvitedBody: AsyncSequence, Sendable {
    typealias Element = ByteBuffer

    let base: RequestBody
    let invitation: Invitation

    func makeAsyncIterator() -> Iterator { Iterator(base: base.makeAsyncIterator(), invitation: invitation) }

    struct Iterator: AsyncIteratorProtocol {
        var base: RequestBody.AsyncIterator
        let invitation: Invitation

        mutating func next() async throws -> ByteBuffer? {
            try await invitation.send()
            return try await base.next()
        }
    }
}
