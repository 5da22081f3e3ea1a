import CohortCore
import CohortWire
import DequeModule

/// One queue of the embedded broker: what waits, and who takes it. A value; the broker's lock guards it.
struct MessageQueue {
    struct Message {
        let id: Int
        let body: [UInt8]
        /// nil for an event.
        let command: CommandKind?
        /// The peer that an event is from; nil for a command.
        let sender: String?
        /// Tells its publisher what became of it; nil for a command.
        let receipt: Receipt?
        /// Taken by the consumer.
        var isTaken = false
    }

    struct Consumer {
        let token: String
        let deliver: @Sendable (Message) -> Void
        let end: @Sendable () -> Void
    }

    /// Oldest first; ids rise.
    var messages: Deque<Message> = []
    private(set) var consumer: Consumer?

    mutating func append(_ body: [UInt8], id: Int, command: CommandKind?, sender: String?, receipt: Receipt?) {
        var message = Message(id: id, body: body, command: command, sender: sender, receipt: receipt)
        message.isTaken = consumer != nil
        messages.append(message)
        consumer?.deliver(message)
    }

    /// Removes the commands that this one makes needless: those of its kind and session; with STOP, all of its session.
    mutating func replace(with command: Command) {
        let kind = command.kind
        messages.removeAll { message in
            guard let other = message.command, other.sessionId == kind.sessionId else { return false }
            return other.name == kind.name || kind.name == .stop
        }
    }

    /// Returns whether a message waits for a consumer.
    func isUntaken(_ id: Int) -> Bool { messages.contains { $0.id == id && !$0.isTaken } }

    mutating func remove(_ id: Int) -> Message? {
        // Mostly the oldest.
        if messages.first?.id == id { return messages.removeFirst() }
        return messages.firstIndex { $0.id == id }.map { messages.remove(at: $0) }
    }

    /// Its consumer has given it back.
    func deliverAgain(_ id: Int) {
        guard let message = messages.first(where: { $0.id == id }) else { return }
        consumer?.deliver(message)
    }

    /// Delivers all that waits, in order, to the new consumer.
    /// - Returns: the consumer there was, to be ended.
    mutating func attach(_ consumer: Consumer) -> Consumer? {
        let older = self.consumer
        release()
        self.consumer = consumer
        for index in messages.indices {
            messages[index].isTaken = true
            consumer.deliver(messages[index])
        }
        return older
    }

    /// Its messages wait for the next consumer.
    mutating func detach(_ token: String) {
        guard consumer?.token == token else { return }
        consumer = nil
        release()
    }

    private mutating func release() {
        for index in messages.indices where messages[index].isTaken {
            messages[index].isTaken = false
        }
    }
}

/// Identifies commands that replace each other.
struct CommandKind: Hashable {
    enum Name { case enable, train, refused, stop }
    let name: Name
    let sessionId: String
}

extension Command {
    var kind: CommandKind {
        let name: CommandKind.Name =
            switch self {
            case .enable: .enable
            case .train: .train
            case .refused: .refused
            case .stop: .stop
            }
        return CommandKind(name: name, sessionId: sessionId)
    }
}
