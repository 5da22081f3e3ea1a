import CohortCore
import CohortSystem
import Crypto
import FoundationEssentials
import NIOCore
import NIOPosix
public import NIOSSL
import NIOTLS
import Synchronization

extension TLSConfiguration {
    /// Trusts one certificate and no other.
    static func pinned(_ certificate: NIOSSLCertificate) -> TLSConfiguration {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.trustRoots = .certificates([certificate])
        configuration.certificateVerification = .noHostnameVerification
        return configuration
    }
}

extension NIOSSLCertificate {
    /// SHA-256 over the certificate, 64 lowercase hexadecimal digits.
    public var fingerprint: String {
        get throws { SHA256.hash(data: try toDERBytes()).hexadecimal }
    }
}

extension ServerURL {
    /// Checks that the server's certificate is ``certificate``, or one that an authority has signed.
    /// - Throws: ``CohortError`` when no connection is possible.
    public func isTrusted(authorities: [NIOSSLCertificate] = []) async throws -> Bool {
        var configuration = certificate.map(TLSConfiguration.pinned) ?? .makeClientConfiguration()
        if certificate == nil { configuration.additionalTrustRoots = [.certificates(authorities)] }
        do {
            try await handshake(configuration, look: nil)
            return true
        } catch let error as CohortError where error.message.hasPrefix("the certificate of ") {
            return false
        }
    }

    /// The certificate that the server shows, trusted or not.
    /// - Throws: ``CohortError`` `unavailable` when it cannot be reached, `invalid` when it does not speak TLS.
    public func shownCertificate() async throws -> NIOSSLCertificate {
        let shown = Shown()
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.certificateVerification = .noHostnameVerification
        try await handshake(configuration) { certificates in shown.first.withLock { $0 = certificates.first } }
        guard let certificate = shown.first.withLock({ $0 }) else { throw CohortError(.invalid, "\(self) shows no certificate") }
        return certificate
    }

    private final class Shown: Sendable {
        let first = Mutex<NIOSSLCertificate?>(nil)
    }

    /// - Parameter look: takes the place of the verification: every certificate will do.
    private func handshake(_ configuration: TLSConfiguration, look: (@Sendable ([NIOSSLCertificate]) -> Void)?) async throws {
        let context = try NIOSSLContext(configuration: configuration)
        let (host, port) = address
        // What is no IP address is a host's name; TLS takes a name alone.
        let name = (try? SocketAddress(ipAddress: host, port: 0)) == nil ? host : nil
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let done = loop.makePromise(of: Void.self)
        do {
            let channel: any Channel
            do {
                channel = try await ClientBootstrap(group: loop).connectTimeout(.seconds(10)).channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        let handler =
                            if let look {
                                try NIOSSLClientHandler(context: context, serverHostname: name) { certificates, promise in
                                    look(certificates)
                                    promise.succeed(.certificateVerified)
                                }
                            } else {
                                try NIOSSLClientHandler(context: context, serverHostname: name)
                            }
                        try channel.pipeline.syncOperations.addHandlers([handler, HandshakeWaiter(done)])
                    }
                }.connect(host: host, port: port).get()
            } catch {
                done.fail(error)
                throw error
            }
            let late = loop.scheduleTask(in: .seconds(10)) { done.fail(ChannelError.connectTimeout(.seconds(10))) }
            defer {
                late.cancel()
                channel.close(promise: nil)
            }
            try await done.futureResult.get()
        } catch {
            throw BrokenConnection(error, remote: .server(self)).error
        }
    }
}

private final class HandshakeWaiter: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let done: EventLoopPromise<Void>

    init(_ done: EventLoopPromise<Void>) { self.done = done }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .handshakeCompleted = event as? TLSUserEvent { done.succeed() }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        done.fail(error)
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        done.fail(ChannelError.eof)
        context.fireChannelInactive()
    }
}
