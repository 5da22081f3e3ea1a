import CohortCore
import HTTPTypes
import Hummingbird
import NIOCore
import NIOHTTP1

/// Holds a connection to HTTP/1.1's rules and to its limits. What is wrong is answered with a problem document, and the connection closed.
final class ConnectionGuard: ChannelDuplexHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    /// The request that is being received is answered before its body was read.
    struct BodyIsUnwanted: Sendable {}

    private let limits: ConnectionLimits
    /// Requests that have begun.
    private var begun = 0
    private var timer: RepeatedTask?
    /// Requests whose answers have not ended.
    private var open = 0
    private var isInBody = false
    /// The answer to the oldest of them has begun.
    private var hasBegun = false
    private var isRefused = false
    /// The rest of the request's body is not read.
    private var isUnwanted = false
    private var isUsed = false
    /// Since when there is no request.
    private var idleSince = NIODeadline.now()
    /// The first byte of a request whose head is not whole yet.
    private var headSince: NIODeadline?
    /// Bytes of a body, and since when.
    private var window: (since: NIODeadline, bytes: Int) = (.now(), 0)
    /// The server waits for data from the client.
    private var isWaiting = false
    private var stalledSince: NIODeadline?

    init(_ limits: ConnectionLimits) { self.limits = limits }

    // MARK: Time

    func handlerAdded(context: ChannelHandlerContext) {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        timer = context.eventLoop.scheduleRepeatedTask(initialDelay: limits.tick, delay: limits.tick) { _ in
            let (guardian, context) = bound.value
            guardian.check(context)
        }
    }

    func handlerRemoved(context: ChannelHandlerContext) { timer?.cancel() }

    func channelInactive(context: ChannelHandlerContext) {
        timer?.cancel()
        context.fireChannelInactive()
    }

    private func check(_ context: ChannelHandlerContext) {
        let now = NIODeadline.now()
        if let stalledSince, now - stalledSince >= limits.stalled { return context.close(promise: nil) }
        guard !isRefused else { return }
        if isInBody {
            // A body that the server does not ask for may wait.
            guard isWaiting else { return window = (now, 0) }
            guard now - window.since >= limits.body else { return }
            guard window.bytes < limits.bodyBytes else { return window = (now, 0) }
            return refuse(
                .requestTimeout, code: .invalid, detail: "the request's body does not come: send it again, over a better connection",
                in: context)
        }
        guard open == 0 else { return }
        if let headSince {
            guard now - headSince >= limits.head else { return }
            return refuse(.requestTimeout, code: .invalid, detail: "the request's headers took too long: send it again", in: context)
        }
        if now - idleSince >= (isUsed ? limits.idle : limits.silence) { context.close(promise: nil) }
    }

    // MARK: What comes

    /// Any bytes, whether they make anything whole or not.
    func bytesCame() {
        if open == 0, !isInBody, headSince == nil { headSince = .now() }
    }

    func read(context: ChannelHandlerContext) {
        isWaiting = true
        context.read()
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        isWaiting = false
        context.fireChannelReadComplete()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isRefused else { return }
        switch unwrapInboundIn(data) {
        case .head(var head):
            headSince = nil
            isUsed = true
            let hosts = head.headers["host"]
            guard head.version == .http1_0 || hosts.count == 1 else {
                return refuse(
                    .badRequest, code: .invalid, detail: "the request has \(hosts.count) Host headers; HTTP/1.1 wants one (RFC 9112, 3.2)",
                    in: context)
            }
            guard head.uri.utf8.count <= limits.target else {
                return refuse(
                    .uriTooLong, code: .invalid,
                    detail: "the request's path and query have \(head.uri.utf8.count) bytes; at most \(limits.target) are taken",
                    in: context)
            }
            // As RFC 9112, 9.3, has it for clients of before.
            if !head.isKeepAlive { head.headers.replaceOrAdd(name: "connection", value: "close") }
            open += 1
            begun += 1
            isInBody = true
            window = (.now(), 0)
            context.fireChannelRead(wrapInboundOut(.head(head)))
        case .body(let bytes):
            window.bytes += bytes.readableBytes
            context.fireChannelRead(data)
        case .end:
            isInBody = false
            context.fireChannelRead(data)
        }
    }

    func triggerUserOutboundEvent(context: ChannelHandlerContext, event: Any, promise: EventLoopPromise<Void>?) {
        guard event is BodyIsUnwanted else { return context.triggerUserOutboundEvent(event, promise: promise) }
        promise?.succeed()
        isUnwanted = true
    }

    /// The time to read the answer begins when it is on its way, however long the route took.
    private func closeSoon(_ context: ChannelHandlerContext) {
        let (request, bound) = (begun, NIOLoopBound((self, context), eventLoop: context.eventLoop))
        _ = context.eventLoop.scheduleTask(in: limits.unwanted) {
            let (guardian, context) = bound.value
            if guardian.isInBody, guardian.begun == request { context.close(promise: nil) }
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard !isRefused, open == 0, let error = error as? HTTPParserError else { return context.fireErrorCaught(error) }
        switch error {
        case .headerOverflow:
            refuse(
                .requestHeaderFieldsTooLarge, code: .invalid, detail: "the request's path and headers are larger than 80 KiB", in: context)
        case .closedConnection, .invalidEOFState: context.fireErrorCaught(error)
        default: refuse(.badRequest, code: .invalid, detail: "this is not HTTP/1.1: \(error)", in: context)
        }
    }

    // MARK: What goes

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        switch unwrapOutboundIn(data) {
        case .head(let head) where !(100..<200).contains(head.status.code): hasBegun = true
        case .head, .body: break
        case .end:
            hasBegun = false
            open = max(0, open - 1)
            if open == 0 { idleSince = .now() }
            if isUnwanted { closeSoon(context) }
            isUnwanted = false
        }
        context.write(data, promise: promise)
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        stalledSince = context.channel.isWritable ? nil : .now()
        context.fireChannelWritabilityChanged()
    }

    /// An answer in place of the route's, where none has begun; nothing more is read.
    private func refuse(_ status: HTTPResponse.Status, code: CohortError.Code, detail: String, in context: ChannelHandlerContext) {
        isRefused = true
        // The answer to an earlier request is on its way, or one to this: what would come now would be taken for a part of it.
        guard open == 0 || (isInBody && open == 1 && !hasBegun) else { return context.close(promise: nil) }
        let body = HTTPProblem(status: status, code: code, detail).document
        let headers: HTTPHeaders = [
            "content-type": "application/problem+json", "content-length": "\(body.count)", "connection": "close",
        ]
        let head = HTTPResponseHead(
            version: .http1_1, status: .init(statusCode: status.code, reasonPhrase: status.reasonPhrase), headers: headers)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: body)))), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        // Time to read the answer: what the other end still sends would reset the connection at once.
        context.eventLoop.scheduleTask(in: .seconds(1)) { bound.value.close(promise: nil) }
    }
}

/// Tells the guard of bytes that are no whole part of a request yet.
final class FirstBytes: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let guardian: ConnectionGuard

    init(_ guardian: ConnectionGuard) { self.guardian = guardian }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guardian.bytesCame()
        context.fireChannelRead(data)
    }
}

/// Puts the guard where HTTP's own parts pass, before they are made Hummingbird's.
final class ConnectionSetup: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = NIOAny

    private let limits: ConnectionLimits

    init(_ limits: ConnectionLimits) { self.limits = limits }

    func handlerAdded(context: ChannelHandlerContext) {
        do {
            let pipeline = context.pipeline.syncOperations
            let guardian = ConnectionGuard(limits)
            try pipeline.addHandler(
                guardian, position: .after(try pipeline.handler(type: ByteToMessageHandler<HTTPRequestDecoder>.self)))
            try pipeline.addHandler(FirstBytes(guardian), position: .first)
            // Updates come in fewer pieces; each passes from thread to thread. A quiet connection's are small.
            try context.channel.syncOptions?.setOption(
                .recvAllocator, value: AdaptiveRecvByteBufferAllocator(minimum: 64, initial: 2_048, maximum: 256 << 10))
        } catch {
            // A connection without its limits is none.
            context.fireErrorCaught(error)
            context.close(promise: nil)
        }
    }
}
