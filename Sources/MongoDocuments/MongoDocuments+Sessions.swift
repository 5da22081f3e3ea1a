import CohortCore
public import CohortSession
public import CohortWire
public import FoundationEssentials

extension MongoDocuments {
    /// The fields of a session's document beside the session.
    private struct Store: Codable {
        /// Not final, or still ending.
        var unfinished: Bool
        /// The number of its insertion.
        var number: Int
        /// Rises with every change that is not the document's own: of the lease, of the wish to cancel, of the labels.
        var touched: Int
    }

    /// The fields that an update compares and keeps.
    private struct Kept: Decodable {
        struct Stored: Decodable {
            var number: Int
            var touched: Int
        }

        var revision: Int
        var generation: Int
        var lease: Lease?
        var cancelRequested: Bool
        var labels: SessionLabels?
        var store: Stored

        enum CodingKeys: String, CodingKey {
            case revision, generation, lease, cancelRequested, labels
            case store = "_store"
        }
    }

    private func document(_ session: Session, number: Int, touched: Int) throws -> MongoJSON {
        let store = Store(unfinished: !session.status.isFinal || session.isEnding == true, number: number, touched: touched)
        do {
            return try .document(session.id, session, fields: "\"_store\":\(try MongoJSON(store))")
        } catch let error as EncodingError {
            throw CohortError(.internal, "session \(session.id) could not be stored as JSON: \(error)")
        }
    }

    public func insert(_ session: Session, sharesUpload: Bool) async throws {
        if !sharesUpload, let key = session.upload?.key, try await !usedUploads(of: [key], besides: nil).isEmpty {
            throw CohortError(.conflict, "there is a session with the data set key \(key) already")
        }
        do {
            try await insert(try document(session, number: nextNumber(), touched: 0), into: "sessions")
        } catch let fault as MongoFault where fault.code == MongoFault.duplicate {
            throw CohortError(.conflict, "there is a session \(session.id) already")
        }
        guard sharesUpload, let key = session.upload?.key else { return }
        // Checked once this session is stored: a deletion of the other one then finds it, and keeps the file.
        let other: MongoJSON =
            "{\"upload.key\":\(key),\"owner_id\":\(session.ownerId),\"dataset\":{\"$exists\":true},\"_id\":{\"$ne\":\(session.id)}}"
        struct Named: Decodable { var id: String }
        guard try await one(Named.self, in: "sessions", where: other, fields: "{\"id\":1}") == nil else { return }
        try await deleteSession(id: session.id)
        throw CohortError(.notFound, "no session has the upload \(key) any more")
    }

    public func session(id: String) async throws -> Session? { try await one(Session.self, in: "sessions", where: "{\"_id\":\(id)}") }

    public func sessions(ownerId: String, limit: Int, before id: String?) async throws -> [Session] {
        struct Place: Decodable {
            struct Stored: Decodable { var number: Int }
            var createdAt: Date
            var store: Stored

            enum CodingKeys: String, CodingKey {
                case createdAt
                case store = "_store"
            }
        }
        // To MongoDB, no limit is a limit of 0.
        guard limit > 0 else { return [] }
        var older: MongoJSON = "\"owner_id\":\(ownerId)"
        if let id {
            guard let place = try await one(Place.self, in: "sessions", where: "{\"_id\":\(id)}") else { return [] }
            let date = try MongoJSON(place.createdAt)
            older = """
                \(older),"$or":[{"created_at":{"$lt":\(date)}},{"created_at":\(date),"_store.number":{"$lt":\(place.store.number)}}]
                """
        }
        return try await connection.find(
            in: "sessions", where: "{\(older)}", options: "{\"sort\":{\"created_at\":-1,\"_store.number\":-1},\"limit\":\(limit)}"
        ).compactMap { try? decode(Session.self, $0) }  // One that cannot be read hides no other.
    }

    public func unfinishedSessions() async throws -> [String] {
        struct Named: Decodable { var id: String }
        return try await connection.find(
            in: "sessions", where: "{\"_store.unfinished\":true}",
            options: "{\"sort\":{\"created_at\":1,\"_store.number\":1},\"projection\":{\"id\":1}}"
        ).map { try decode(Named.self, $0).id }
    }

    public func sessionCounts() async throws -> [SessionStatus: Int] {
        struct Count: Decodable {
            var status: String
            var number: Int

            enum CodingKeys: String, CodingKey {
                case status = "_id"
                case number
            }
        }
        var counts: [SessionStatus: Int] = [:]
        for json in try await connection.aggregate("sessions", "[{\"$group\":{\"_id\":\"$status\",\"number\":{\"$sum\":1}}}]") {
            let count = try decode(Count.self, json)
            if let status = SessionStatus(rawValue: count.status) { counts[status] = count.number }
        }
        return counts
    }

    public func usedUploads(of keys: [String], besides sessionId: String?) async throws -> Set<String> {
        struct Used: Decodable {
            struct Upload: Decodable { var key: String }
            var upload: Upload
        }
        guard !keys.isEmpty else { return [] }
        return Set(
            try await connection.find(
                in: "sessions", where: "{\"upload.key\":{\"$in\":\(keys)},\"_id\":{\"$ne\":\(sessionId ?? "")}}",
                options: "{\"projection\":{\"upload\":1}}"
            )
            .map { try decode(Used.self, $0).upload.key })
    }

    private struct ModelVersion: Codable {
        var ownerId: String
        var title: String
        var version: Int
    }

    public func takeModelVersion(of session: Session) async throws -> Int {
        let named = try await highestModelVersion(besides: session)
        // Each turn is lost to a session that has taken the version meanwhile.
        for _ in 0..<1_000 {
            if let taken = try await one(ModelVersion.self, in: "model_versions", where: "{\"_id\":\(session.id)}") { return taken.version }
            let title: MongoJSON = "{\"owner_id\":\(session.ownerId),\"title\":\(session.title)}"
            let highest = try await connection.find(in: "model_versions", where: title, options: "{\"sort\":{\"version\":-1},\"limit\":1}")
                .first
                .map { try decode(ModelVersion.self, $0).version }
            let next = ModelVersion(ownerId: session.ownerId, title: session.title, version: max(highest ?? 0, named) + 1)
            do {
                try await insert(try .document(session.id, next), into: "model_versions")
                return next.version
            } catch let fault as MongoFault where fault.code == MongoFault.duplicate {
                continue
            }
        }
        throw CohortError(
            .unavailable, "versions of the model '\(session.title.printable(max: 60))' are being taken all the time: try again")
    }

    public func deleteSession(id: String) async throws {
        try await delete("model_versions", "{\"_id\":\(id)}")
        for collection in ["metrics", "rounds", "answers"] { try await delete(collection, "{\"session_id\":\(id)}") }
        try await delete("sessions", "{\"_id\":\(id)}")
    }

    private func kept(_ id: String) async throws -> Kept {
        guard let kept = try await keptIfThere(id) else { throw CohortError(.notFound, "there is no session \(id)") }
        return kept
    }

    private func keptIfThere(_ id: String) async throws -> Kept? {
        let fields: MongoJSON = "{\"revision\":1,\"generation\":1,\"lease\":1,\"cancel_requested\":1,\"labels\":1,\"_store\":1}"
        return try await one(Kept.self, in: "sessions", where: "{\"_id\":\(id)}", fields: fields)
    }

    /// Stores the records before the document: after a crash in between, the document's next try makes the same records again.
    public func update(_ session: Session, recording record: SessionRecord) async throws -> Session {
        var hasRecorded = record.isEmpty
        /// An answer was lost: what it was about may have been stored.
        var isUncertain = false
        for _ in 0..<100 {
            let kept = try await kept(session.id)
            var next = session
            next.revision += 1
            next.lease = kept.lease
            next.cancelRequested = kept.cancelRequested
            next.labels = kept.labels
            guard kept.revision == session.revision, kept.generation == session.generation else {
                if isUncertain, kept.revision == next.revision, try await self.session(id: session.id) == next { return next }
                throw CohortError(
                    .conflict,
                    "session \(session.id) has changed: its revision is \(kept.revision) of generation \(kept.generation), not \(session.revision) of \(session.generation); read it again"
                )
            }
            if !hasRecorded {
                try await store(record, sessionId: session.id, generation: session.generation)
                hasRecorded = true
            }
            do {
                guard try await replace(next, kept) else { continue }
            } catch let error as CohortError where error.code == .unavailable && !isUncertain {
                isUncertain = true
                continue
            }
            if session.status.isFinal { try await delete("answers", "{\"session_id\":\(session.id)}") }
            return next
        }
        throw CohortError(.unavailable, "session \(session.id) is being changed by others all the time: try again")
    }

    public func record(_ record: SessionRecord, sessionId: String, generation: Int) async throws {
        let kept = try await kept(sessionId)
        guard kept.generation == generation else {
            throw CohortError(.conflict, "session \(sessionId) is of generation \(kept.generation) by now, not \(generation)")
        }
        try await store(record, sessionId: sessionId, generation: generation)
    }

    /// A coordinator that was fenced off between its look and its write replaces nothing that its successor has written.
    func store(_ record: SessionRecord, sessionId: String, generation: Int) async throws {
        try await append(record.points)
        let mine: MongoJSON = "\"session_id\":\(sessionId),\"_store\":{\"generation\":\(generation)}"
        try await put(
            into: "rounds",
            try record.rounds.map { ("\(sessionId)/\($0.round)", try .document("\(sessionId)/\($0.round)", $0, fields: mine)) },
            generation: generation)
        try await put(
            into: "answers",
            try record.answers.map { ("\(sessionId)/\($0.peerId)", try .document("\(sessionId)/\($0.peerId)", $0, fields: mine)) },
            generation: generation)
    }

    private func put(into collection: String, _ documents: [(id: String, document: MongoJSON)], generation: Int) async throws {
        guard !documents.isEmpty else { return }
        let updates = documents.map { id, document -> MongoJSON in
            "{\"q\":{\"_id\":\(id),\"_store.generation\":{\"$lte\":\(generation)}},\"u\":\(document),\"upsert\":true}"
        }
        let written = try await write("{\"update\":\(collection),\"updates\":\(updates),\"ordered\":false}")
        // A duplicate: a later generation's is there.
        if let failure = written.writeErrors?.first(where: { $0.code != MongoFault.duplicate }) {
            throw CohortError(.unavailable, "\(connection.place) failed: \((failure.errmsg ?? "").printable(max: 300)) (\(failure.code))")
        }
    }

    public func answers(sessionId: String) async throws -> [RecordedAnswer] {
        // Answers that a crash left after a session's end are ignored.
        guard try await session(id: sessionId)?.status.isFinal == false else { return [] }
        return try await connection.find(in: "answers", where: "{\"session_id\":\(sessionId)}", options: "{\"sort\":{\"peer_id\":1}}")
            .map { try decode(RecordedAnswer.self, $0) }
    }

    public func rounds(sessionId: String) async throws -> [RoundSummary] {
        try await connection.find(in: "rounds", where: "{\"session_id\":\(sessionId)}", options: "{\"sort\":{\"round\":1}}")
            .map { try decode(RoundSummary.self, $0) }
    }

    public func takeLease(sessionId: String, owner: String, now: Date, expiresAt: Date) async throws -> Session? {
        let lease = try MongoJSON(Lease(owner: owner, expiresAt: expiresAt))
        let taken = try await findAndModify(
            Session.self, in: "sessions",
            where: """
                {"_id":\(sessionId),"$or":[{"lease":null},{"lease.owner":\(owner)},{"lease.expires_at":{"$lte":\(try MongoJSON(now))}}]}
                """, change: "{\"$set\":{\"lease\":\(lease)},\"$inc\":{\"generation\":1,\"_store.touched\":1}}")
        if taken == nil, try await session(id: sessionId) == nil { throw CohortError(.notFound, "there is no session \(sessionId)") }
        return taken
    }

    /// An expired lease that no other coordinator has taken may still be renewed by its holder.
    public func renewLease(sessionId: String, owner: String, generation: Int, expiresAt: Date) async throws -> HeldLease? {
        struct Wish: Decodable { var cancelRequested: Bool }
        return try await findAndModify(
            Wish.self, in: "sessions", where: "{\"_id\":\(sessionId),\"lease.owner\":\(owner),\"generation\":\(generation)}",
            change: "{\"$set\":{\"lease.expires_at\":\(try MongoJSON(expiresAt))},\"$inc\":{\"_store.touched\":1}}"
        ).map { HeldLease(cancelRequested: $0.cancelRequested) }
    }

    public func requestCancel(sessionId: String) async throws -> Session? {
        for _ in 0..<100 {
            // In this order: what has changed since the look is compared.
            guard let kept = try await keptIfThere(sessionId), var session = try await session(id: sessionId) else { return nil }
            guard !session.status.isFinal, !session.cancelRequested else { return session }
            session.cancelRequested = true
            if try await replace(session, kept, touched: 1) { return session }
        }
        throw CohortError(.unavailable, "session \(sessionId) is being changed by others all the time: try again")
    }

    public func setLabels(_ labels: SessionLabels, sessionId: String) async throws -> SessionLabels? {
        var next = labels
        next.revision += 1
        for _ in 0..<100 {
            guard let kept = try await keptIfThere(sessionId), var session = try await session(id: sessionId),
                kept.labels?.revision ?? 0 == labels.revision
            else { return nil }
            session.labels = next
            if try await replace(session, kept, touched: 1) { return next }
        }
        throw CohortError(.unavailable, "session \(sessionId) is being changed by others all the time: try again")
    }

    /// Compare-and-set: nothing of the document, its lease or the wish to cancel has changed since `kept`.
    private func replace(_ session: Session, _ kept: Kept, touched: Int = 0) async throws -> Bool {
        let filter: MongoJSON = """
            {"_id":\(session.id),"revision":\(kept.revision),"generation":\(kept.generation),"_store.touched":\(kept.store.touched)}
            """
        let document = try document(session, number: kept.store.number, touched: kept.store.touched + touched)
        return try await update(in: "sessions", where: filter, change: document) == 1
    }
}
