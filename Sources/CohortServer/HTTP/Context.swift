import Hummingbird
import NIOCore

/// A request's context: Hummingbird's, and the connection it came by.
struct Context: RequestContext {
    var coreContext: CoreRequestContextStorage
    let channel: any Channel

    init(source: ApplicationRequestContextSource) {
        coreContext = CoreRequestContextStorage(source: source)
        channel = source.channel
    }

    /// The client's address, without the port.
    var address: String { channel.remoteAddress?.ipAddress ?? "unknown" }

    /// Ends the connection a while from now, for a request that was answered before its body was read: the other end has time to read
    /// the answer, and cannot go on sending for ever. A connection whose body has come to its end by then is left alone: another request may
    /// be on it.
    func closeSoon() { channel.triggerUserOutboundEvent(ConnectionGuard.BodyIsUnwanted(), promise: nil) }
}
