import CRabbitMQ
import CohortCore

/// A fault on the wire.
struct WireFault: Error, CustomStringConvertible {
    enum Kind: Sendable { case away, refused, tls, channel, missing }
    let kind: Kind
    /// AMQP's reply code; 0: none.
    let code: Int
    let text: String

    var description: String { text }

    init(_ error: cohort_amqp_error) {
        var error = error
        kind =
            switch error.fault {
            case COHORT_AMQP_REFUSED: .refused
            case COHORT_AMQP_TLS: .tls
            case COHORT_AMQP_CHANNEL: .channel
            case COHORT_AMQP_MISSING: .missing
            default: .away
            }
        code = Int(error.code)
        text = withUnsafeBytes(of: &error.text) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }.printable(max: 400)
    }

    init(kind: Kind, code: Int = 0, text: String) {
        self.kind = kind
        self.code = code
        self.text = text
    }

    /// Trying again is of no use: what is set is wrong.
    var isForGood: Bool { [.refused, .tls, .missing].contains(kind) }
}

/// The properties of a queue.
struct QueueKind: Hashable, Sendable {
    var isExclusive = false
    var isQuorum = false
    /// Seconds without a consumer; 0: for ever.
    var expires = 0
    var maxLength = 0
    var deadLetters: String?
}

/// A message from the server.
enum WireEvent {
    case delivered(WireDelivery)
    case confirmed(tag: UInt64, multiple: Bool, isTaken: Bool)
    case returned(number: UInt64)
    case cancelled(consumer: String)
    case closed(code: Int, String)
    /// The server takes nothing from this connection: it is low on something.
    case blocked(String)
    case unblocked
}

struct WireDelivery: Sendable {
    var channel: Int
    var tag: UInt64
    var consumer: String
    var body: [UInt8]
    /// Bytes of a body that was too large to be taken.
    var tooLarge: Int?
    var sender: String
    var registration: String
    var signature: String
    /// The account that sent it, as the server has checked; empty: the sender did not say.
    var userId: String
}

struct WireMessage: Sendable {
    /// Empty: straight to the queue that the key names.
    var exchange = ""
    var key: String
    var body: [UInt8]
    var isPersistent = true
    var isMandatory = true
    var sender: String?
    var registration: String?
    var signature: String?
    var userId: String?
}

/// One AMQP connection. Blocks; of one thread.
final class Wire {
    private let connection: OpaquePointer

    init(_ address: RabbitMQAddress, name: String) throws(WireFault) {
        var error = cohort_amqp_error()
        var opened: OpaquePointer?
        address.host.withCString { host in
            address.vhost.withCString { vhost in
                address.user.withCString { user in
                    address.password.withCString { password in
                        name.withCString { name in
                            withOptional(address.caFile) { ca in
                                withOptional(address.certificateFile) { certificate in
                                    withOptional(address.keyFile) { key in
                                        var options = cohort_amqp_options(
                                            host: host, port: Int32(address.port), vhost: vhost, user: user, password: password,
                                            name: name, tls: address.isTLS ? 1 : 0, ca_file: ca, certificate_file: certificate,
                                            key_file: key, verifies_peer: address.verifiesPeer ? 1 : 0,
                                            verifies_host: address.verifiesPeer ? 1 : 0, heartbeat: Int32(address.heartbeat),
                                            timeout: address.timeout)
                                        opened = cohort_amqp_open(&options, &error)
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        guard let opened else { throw WireFault(error) }
        connection = opened
    }

    /// Nothing may be called after it.
    func close(politely: Bool) { cohort_amqp_close(connection, politely ? 1 : 0) }

    var descriptor: Int32 { cohort_amqp_descriptor(connection) }

    private func call(_ body: (inout cohort_amqp_error) -> Int32) throws(WireFault) {
        var error = cohort_amqp_error()
        guard body(&error) == 0 else { throw WireFault(error) }
    }

    /// - Parameter largest: bytes of a message that are taken at most; of a larger one its size alone is.
    func open(channel: Int, confirms: Bool = false, prefetch: Int = 0, largest: Int = 0) throws(WireFault) {
        try call { cohort_amqp_channel(connection, Int32(channel), confirms ? 1 : 0, Int32(prefetch), largest, &$0) }
    }

    func declare(_ queue: String, _ kind: QueueKind, channel: Int) throws(WireFault) {
        try call { error in
            withOptional(kind.deadLetters) { deadLetters in
                var how = cohort_amqp_queue(
                    durable: kind.isExclusive ? 0 : 1, exclusive: kind.isExclusive ? 1 : 0, quorum: kind.isQuorum ? 1 : 0,
                    expires: Int64(kind.expires) * 1000, max_length: Int64(kind.maxLength), dead_letters: deadLetters)
                return cohort_amqp_declare(connection, Int32(channel), queue, &how, &error)
            }
        }
    }

    enum ExchangeType: String {
        /// Every queue bound to it gets what is published to it.
        case fanout
        /// Those that are bound by the message's key.
        case topic
    }

    /// A durable one.
    func declare(exchange: String, _ type: ExchangeType, channel: Int) throws(WireFault) {
        try call { cohort_amqp_exchange(connection, Int32(channel), exchange, type.rawValue, &$0) }
    }

    func bind(_ queue: String, to exchange: String, key: String = "", channel: Int) throws(WireFault) {
        try call { cohort_amqp_bind(connection, Int32(channel), queue, exchange, key, &$0) }
    }

    func delete(_ queue: String, channel: Int) throws(WireFault) {
        try call { cohort_amqp_delete(connection, Int32(channel), queue, &$0) }
    }

    /// - Parameter isSettled: what is delivered counts as acknowledged.
    func consume(_ queue: String, as consumer: String, priority: Int32, isSettled: Bool, channel: Int) throws(WireFault) {
        try call { cohort_amqp_consume(connection, Int32(channel), queue, consumer, priority, isSettled ? 1 : 0, &$0) }
    }

    func cancel(_ consumer: String, channel: Int) throws(WireFault) {
        try call { cohort_amqp_cancel(connection, Int32(channel), consumer, &$0) }
    }

    /// - Parameter number: names the message when it comes back.
    func publish(_ message: WireMessage, number: UInt64, channel: Int) throws(WireFault) {
        try call { error in
            withOptional(message.sender) { sender in
                withOptional(message.registration) { registration in
                    withOptional(message.signature) { signature in
                        withOptional(message.userId) { userId in
                            var how = cohort_amqp_properties(
                                sender: sender, registration: registration, signature: signature, user_id: userId, number: number)
                            return message.body.withUnsafeBufferPointer { body in
                                cohort_amqp_publish(
                                    connection, Int32(channel), message.exchange, message.key, body.baseAddress, body.count,
                                    message.isMandatory ? 1 : 0, message.isPersistent ? 1 : 0, &how, &error)
                            }
                        }
                    }
                }
            }
        }
    }

    /// - Parameter isMultiple: with all that were delivered before it over the channel and are not settled.
    func acknowledge(_ tag: UInt64, isMultiple: Bool, channel: Int) throws(WireFault) {
        try call { cohort_amqp_ack(connection, Int32(channel), tag, isMultiple ? 1 : 0, &$0) }
    }

    func reject(_ tag: UInt64, requeue: Bool, channel: Int) throws(WireFault) {
        try call { cohort_amqp_reject(connection, Int32(channel), tag, requeue ? 1 : 0, &$0) }
    }

    /// nil: nothing just now.
    func next() throws(WireFault) -> WireEvent? {
        var event = cohort_amqp_event()
        var error = cohort_amqp_error()
        let got = cohort_amqp_next(connection, &event, &error)
        guard got >= 0 else { throw WireFault(error) }
        guard got > 0 else { return nil }
        defer { cohort_amqp_event_free(&event) }
        switch event.kind {
        case COHORT_AMQP_DELIVERED:
            return .delivered(
                WireDelivery(
                    channel: Int(event.channel), tag: event.tag, consumer: text(&event.consumer),
                    body: event.is_too_large != 0 ? [] : [UInt8](UnsafeBufferPointer(start: event.body, count: event.count)),
                    tooLarge: event.is_too_large != 0 ? event.count : nil, sender: text(&event.sender),
                    registration: text(&event.registration), signature: text(&event.signature), userId: text(&event.user_id)))
        case COHORT_AMQP_CONFIRMED: return .confirmed(tag: event.tag, multiple: event.multiple != 0, isTaken: true)
        case COHORT_AMQP_DENIED: return .confirmed(tag: event.tag, multiple: event.multiple != 0, isTaken: false)
        case COHORT_AMQP_RETURNED: return .returned(number: event.number)
        case COHORT_AMQP_CANCELLED: return .cancelled(consumer: text(&event.consumer))
        case COHORT_AMQP_BLOCKED: return .blocked(text(&event.text).printable(max: 200))
        case COHORT_AMQP_UNBLOCKED: return .unblocked
        default: return .closed(code: Int(event.tag), text(&event.text).printable(max: 200))
        }
    }
}

private func text<Characters>(_ characters: inout Characters) -> String {
    withUnsafeBytes(of: &characters) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
}

private func withOptional<Value>(_ text: String?, _ body: (UnsafePointer<CChar>?) -> Value) -> Value {
    guard let text else { return body(nil) }
    return text.withCString(body)
}
