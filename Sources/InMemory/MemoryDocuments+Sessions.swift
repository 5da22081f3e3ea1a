import CohortCore
public import CohortSession
public import CohortWire
public import FoundationEssentials
import Synchronization

extension MemoryDocuments {
    public func insert(_ session: Session, sharesUpload: Bool) async throws {
        try check(session)
        try state.withLock { state in
            guard state.index(session.id) == nil else { throw CohortError(.conflict, "there is a session \(session.id) already") }
            if let key = session.upload?.key {
                let others = state.sessions.filter {
                    $0.upload?.key == key && (!sharesUpload || $0.ownerId == session.ownerId && $0.dataset != nil)
                }
                guard others.isEmpty != sharesUpload else {
                    throw sharesUpload
                        ? CohortError(.notFound, "no session has the upload \(key) any more")
                        : CohortError(.conflict, "there is a session with the data set key \(key) already")
                }
            }
            state.sessions.append(session)
        }
    }

    public func session(id: String) async throws -> Session? {
        state.withLock { state in state.index(id).map { state.sessions[$0] } }
    }

    public func sessions(ownerId: String, limit: Int, before id: String?) async throws -> [Session] {
        state.withLock { state in
            var sessions = state.sessions.enumerated().filter { $0.element.ownerId == ownerId }
                .sorted { ($0.element.createdAt, $0.offset) > ($1.element.createdAt, $1.offset) }[...]
            if let id { sessions = sessions.drop { $0.element.id != id }.dropFirst() }
            return sessions.prefix(max(0, limit)).map(\.element)
        }
    }

    public func unfinishedSessions() async throws -> [String] {
        state.withLock { state in
            state.sessions.enumerated().filter { !$0.element.status.isFinal || $0.element.isEnding == true }
                .sorted { ($0.element.createdAt, $0.offset) < ($1.element.createdAt, $1.offset) }.map(\.element.id)
        }
    }

    public func sessionCounts() async throws -> [SessionStatus: Int] {
        state.withLock { $0.sessions.reduce(into: [:]) { $0[$1.status, default: 0] += 1 } }
    }

    public func usedUploads(of keys: [String], besides sessionId: String?) async throws -> Set<String> {
        let used = state.withLock { Set($0.sessions.filter { $0.id != sessionId }.compactMap { $0.upload?.key }) }
        return used.intersection(keys)
    }

    public func takeModelVersion(of session: Session) async throws -> Int {
        state.withLock { state in
            if let taken = state.versions[session.id] { return taken.version }
            let taken = state.versions.values.filter { $0.ownerId == session.ownerId && $0.title == session.title }.map(\.version)
            let named = state.sessions.filter { $0.ownerId == session.ownerId && $0.title == session.title && $0.id != session.id }
                .compactMap(\.modelVersion)
            let version = ((taken + named).max() ?? 0) + 1
            state.versions[session.id] = (session.ownerId, session.title, version)
            return version
        }
    }

    public func deleteSession(id: String) async throws {
        state.withLock { state in
            state.versions[id] = nil
            state.sessions.removeAll { $0.id == id }
            state.points.removeAll { $0.sessionId == id }
            state.rounds[id] = nil
            state.answers[id] = nil
        }
    }

    public func update(_ session: Session, recording record: SessionRecord) async throws -> Session {
        var stored = session
        stored.revision += 1
        try check(stored)
        let changed = stored
        return try state.withLock { state in
            var stored = changed
            guard let index = state.index(session.id) else { throw CohortError(.notFound, "there is no session \(session.id)") }
            let current = state.sessions[index]
            guard current.revision == session.revision, current.generation == session.generation else {
                throw CohortError(.conflict, "session \(session.id) has changed; read it again")
            }
            stored.lease = current.lease
            stored.cancelRequested = current.cancelRequested
            stored.labels = current.labels
            state.sessions[index] = stored
            state.add(record, session.id)
            if session.status.isFinal { state.answers[session.id] = nil }
            return stored
        }
    }

    public func record(_ record: SessionRecord, sessionId: String, generation: Int) async throws {
        try state.withLock { state in
            guard let index = state.index(sessionId) else { throw CohortError(.notFound, "there is no session \(sessionId)") }
            guard state.sessions[index].generation == generation else {
                throw CohortError(.conflict, "session \(sessionId) is of another generation by now")
            }
            state.add(record, sessionId)
        }
    }

    public func answers(sessionId: String) async throws -> [RecordedAnswer] {
        state.withLock { ($0.answers[sessionId] ?? [:]).values.sorted { $0.peerId < $1.peerId } }
    }

    public func rounds(sessionId: String) async throws -> [RoundSummary] {
        state.withLock { ($0.rounds[sessionId] ?? [:]).values.sorted { $0.round < $1.round } }
    }

    public func takeLease(sessionId: String, owner: String, now: Date, expiresAt: Date) async throws -> Session? {
        try state.withLock { state in
            guard let index = state.index(sessionId) else { throw CohortError(.notFound, "there is no session \(sessionId)") }
            let lease = state.sessions[index].lease
            guard lease.map({ $0.owner == owner || $0.expiresAt <= now }) ?? true else { return nil }
            state.sessions[index].generation += 1
            state.sessions[index].lease = Lease(owner: owner, expiresAt: expiresAt)
            return state.sessions[index]
        }
    }

    public func renewLease(sessionId: String, owner: String, generation: Int, expiresAt: Date) async throws -> HeldLease? {
        state.withLock { state in
            guard let index = state.index(sessionId), state.sessions[index].lease?.owner == owner,
                state.sessions[index].generation == generation
            else { return nil }
            state.sessions[index].lease?.expiresAt = expiresAt
            return HeldLease(cancelRequested: state.sessions[index].cancelRequested)
        }
    }

    public func setLabels(_ labels: SessionLabels, sessionId: String) async throws -> SessionLabels? {
        state.withLock { state in
            guard let index = state.index(sessionId), state.sessions[index].labels?.revision ?? 0 == labels.revision else { return nil }
            var labels = labels
            labels.revision += 1
            state.sessions[index].labels = labels
            return labels
        }
    }

    public func requestCancel(sessionId: String) async throws -> Session? {
        state.withLock { state in
            guard let index = state.index(sessionId) else { return nil }
            if !state.sessions[index].status.isFinal { state.sessions[index].cancelRequested = true }
            return state.sessions[index]
        }
    }

    public func metrics(sessionId: String) async throws -> [MetricPoint] {
        state.withLock { state in
            state.points.enumerated().filter { $0.element.sessionId == sessionId }
                .sorted { ($0.element.time, $0.offset) < ($1.element.time, $1.offset) }.map(\.element)
        }
    }

    /// Checks that a document is valid JSON, as a document store requires.
    func check(_ session: Session) throws {
        do {
            _ = try CohortJSON.encode(session)
        } catch {
            throw CohortError(.internal, "session \(session.id) could not be stored as JSON: \(error)")
        }
    }
}
