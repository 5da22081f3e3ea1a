/// Lets one after the other do what may not be done by two at once, in the order in which they ask.
actor Turns {
    private var last: Task<Void, Never>?

    func take<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) async throws -> Value {
        let before = last
        let turn = Task {
            await before?.value
            return try await body()
        }
        last = Task { _ = await turn.result }
        return try await turn.value
    }
}
