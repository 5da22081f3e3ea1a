/// One queue of the embedded broker: what waits, and who takes it. A value; the broker's lock guards it.
struct MessageQueue {
    struct Message {
        let id: Int
        let body: [UInt8]
        /// Who is told what became of it; nil for a command.
        let waiter: CheckedContinuation<Void, any Error>?
        /// In the hands of the consumer that there is.
        var isTaken = false
        /// Was in the hands of one before.
        var redelivered = false
    }

    struct Consumer {
        let token: String
        let deliver: @Sendable (Message) -> Void
        let end: @Sendable () -> Void
    }

    /// Oldest first; ids rise.
    var messages: [Message] = []
    private(set) var consumer: Consumer?

    mutating func append(_ body: [UInt8], id: Int, waiter: CheckedContinuation<Void, any Error>?) {
        var message = Message(id: id, body: body, waiter: waiter)
        message.isTaken = consumer != nil
        messages.append(message)
        consumer?.deliver(message)
    }

    func isTaken(_ id: Int) -> Bool { messages.contains { $0.id == id && $0.isTaken } }

    mutating func remove(_ id: Int) -> Message? {
        messages.firstIndex { $0.id == id }.map { messages.remove(at: $0) }
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
            messages[index].redelivered = true
        }
    }
}
