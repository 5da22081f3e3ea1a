import CohortCore
import CohortSession
import CohortWire
import FoundationEssentials
import TestSupport
import Testing

@Suite
struct SessionDocumentsTests {
    @Test(arguments: DocumentStore.all)
    func `A session comes back as it was stored`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            var session = Session.sample(id: "s")
            try await documents.insert(session)
            #expect(try await documents.session(id: "s") == session)
            #expect(try await documents.session(id: "t") == nil)

            let weights = ObjectReference(key: "checkpoints/s/r1.safetensors", sha256: String(repeating: "a", count: 64), bytes: 10)
            session.status = .running
            session.startedAt = moment(1)
            session.round = 1
            session.weights = weights
            session.checkpoints = [Checkpoint(round: 1, weights: weights)]
            session.ledger = RowLedger(rows: 100)
            session.ledger?.add(RowRange(start: 10, end: 20), epochs: 2)
            session.updateNorms = [0.1, 2.5e-7]
            session.lastRound = RoundSummary(
                round: 0, seconds: 1.5, training: nil, answered: ["a"], dropped: ["$slow.laptop %b": "too late"])
            let stored = try await documents.update(session)
            session.revision = 1
            #expect(stored == session)
            #expect(try await documents.session(id: "s") == session)
            await expectError(.conflict) { try await documents.insert(session) }
        }
    }

    @Test(arguments: DocumentStore.all)
    func `What is recorded with a document stands beside it, in order; a repeat replaces`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            func summary(_ round: Int, seconds: Double = 1) -> RoundSummary {
                RoundSummary(round: round, seconds: seconds, training: nil, answered: ["a"], dropped: [:])
            }
            func point(_ round: Int) -> MetricPoint {
                MetricPoint(
                    sessionId: "s", peerId: "a", peerName: "a", round: round, epoch: 1, loss: 0.5, accuracy: nil, r2: nil,
                    samplesPerSecond: nil, time: moment(Double(round)))
            }
            var session = Session.sample(id: "s")
            try await documents.insert(session)
            try await documents.insert(Session.sample(id: "t"))
            session = try await documents.update(session, recording: SessionRecord(points: [point(0)], rounds: [summary(1), summary(0)]))
            let older = session
            session = try await documents.update(
                session, recording: SessionRecord(points: [point(0), point(1)], rounds: [summary(1, seconds: 2), summary(10)]))
            #expect(try await documents.rounds(sessionId: "s") == [summary(0), summary(1, seconds: 2), summary(10)])
            #expect(try await documents.metrics(sessionId: "s") == [point(0), point(1)])
            #expect(try await documents.rounds(sessionId: "t") == [])

            // Who lost the race records nothing.
            await expectError(.conflict) {
                _ = try await documents.update(older, recording: SessionRecord(points: [point(7)], rounds: [summary(7)]))
            }
            #expect(try await documents.rounds(sessionId: "s").map(\.round) == [0, 1, 10])
            #expect(try await documents.metrics(sessionId: "s").map(\.round) == [0, 1])
        }
    }

    @Test(arguments: DocumentStore.all)
    func `Answers are kept until the session ends, the newest of a peer; not those of a coordinator that was fenced off`(
        _ store: DocumentStore
    ) async throws {
        try await store.withEmpty { documents in
            func answer(_ peer: String, round: Int) -> RecordedAnswer {
                RecordedAnswer(
                    peerId: peer, generation: 1,
                    answer: PeerAnswer(
                        round: round, results: DoneResults(loss: 0.5, accuracy: nil, samples: 3, epochs: 1, seconds: 0.25),
                        update: ObjectReference(key: "k", sha256: "00", bytes: 3), answeredAt: moment(1)),
                    updateData: round == 1 ? Data([1, 2, 255]) : nil)
            }
            try await documents.insert(Session.sample(id: "s"))
            var session = try #require(
                try await documents.takeLease(sessionId: "s", owner: "a", now: moment(0), expiresAt: moment(9)))
            try await documents.record(
                SessionRecord(answers: [answer("b", round: 0), answer("a", round: 0)]), sessionId: "s", generation: session.generation)
            try await documents.record(SessionRecord(answers: [answer("b", round: 1)]), sessionId: "s", generation: session.generation)
            #expect(try await documents.answers(sessionId: "s") == [answer("a", round: 0), answer("b", round: 1)])
            await expectError(.conflict) {
                try await documents.record(
                    SessionRecord(answers: [answer("a", round: 1)]), sessionId: "s", generation: session.generation - 1)
            }
            await expectError(.notFound) { try await documents.record(SessionRecord(), sessionId: "t", generation: 0) }
            #expect(try await documents.answers(sessionId: "s") == [answer("a", round: 0), answer("b", round: 1)])
            session.status = .completed
            _ = try await documents.update(session, recording: SessionRecord(answers: [answer("a", round: 1)]))
            #expect(try await documents.answers(sessionId: "s") == [])
        }
    }

    @Test(arguments: DocumentStore.all)
    func `Summaries say what the sessions themselves say`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            for (index, status) in SessionStatus.allCases.enumerated() {
                var session = Session.sample(id: "s\(index)", createdAt: moment(Double(index)))
                session.settings.name = index % 2 == 0 ? "the \"\(index)\"\nth, für alle" : nil
                session.settings.target = "wanted"
                session.settings.seed = 9_007_199_254_740_991
                session.startedAt = moment(10.125)
                try await documents.insert(session)
                session.status = status
                if status.isFinal { session.endedAt = moment(20.5) }
                if status == .failed { session.error = "it went wrong" }
                if status == .completed {
                    session.results = SessionResults(
                        metrics: Metrics(loss: 0.125, accuracy: 0.75, samples: 7), peers: [], rounds: 1, seconds: 1, rows: nil)
                }
                _ = try await documents.update(session)
            }
            let sessions = try await documents.sessions(ownerId: "ada", limit: 100)
            let summaries = try await documents.sessionSummaries(ownerId: "ada", limit: 100, before: nil)
            #expect(summaries == sessions.map { SessionSummary($0) })
            #expect(summaries.count == SessionStatus.allCases.count && summaries.contains { $0.metrics?.samples == 7 })
            #expect(try await documents.sessionSummaries(ownerId: "ada", limit: 2, before: "s3").map(\.id) == ["s2", "s1"])
            #expect(try await documents.sessionSummaries(ownerId: "bob", limit: 2, before: nil).isEmpty)
        }
    }

    @Test(arguments: DocumentStore.all)
    func `An owner's sessions are listed newest first, up to the limit`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            for (id, seconds) in [("b", 2.0), ("a", 1.0), ("d", 4.0), ("c", 3.0)] {
                try await documents.insert(Session.sample(id: id, createdAt: moment(seconds)))
            }
            try await documents.insert(Session.sample(id: "other", owner: "bob", createdAt: moment(9)))
            #expect(try await documents.sessions(ownerId: "ada", limit: 3).map(\.id) == ["d", "c", "b"])
            #expect(try await documents.sessions(ownerId: "ada", limit: 100).map(\.id) == ["d", "c", "b", "a"])
            #expect(try await documents.sessions(ownerId: "ada", limit: 0) == [])
            #expect(try await documents.sessions(ownerId: "unknown", limit: 3) == [])
            // Page by page; two of one time stand in the order of their insertion.
            try await documents.insert(Session.sample(id: "b2", createdAt: moment(2)))
            #expect(try await documents.sessions(ownerId: "ada", limit: 2, before: "d").map(\.id) == ["c", "b2"])
            #expect(try await documents.sessions(ownerId: "ada", limit: 5, before: "b2").map(\.id) == ["b", "a"])
            #expect(try await documents.sessions(ownerId: "ada", limit: 5, before: "a") == [])
            #expect(try await documents.sessions(ownerId: "ada", limit: 5, before: "unknown") == [])
        }
    }

    @Test(arguments: DocumentStore.all)
    func `Unfinished sessions are those not final, oldest first`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            for (index, status) in SessionStatus.allCases.enumerated() {
                var session = Session.sample(id: status.rawValue, createdAt: moment(Double(10 - index)))
                session.status = status
                try await documents.insert(session)
            }
            #expect(try await documents.unfinishedSessions() == ["RUNNING", "PENDING"])
            #expect(try await documents.sessionCounts() == Dictionary(uniqueKeysWithValues: SessionStatus.allCases.map { ($0, 1) }))
            var running = try #require(try await documents.session(id: "RUNNING"))
            running.status = .failed
            running.isEnding = true
            running = try await documents.update(running)
            #expect(try await documents.unfinishedSessions() == ["RUNNING", "PENDING"], "its peers are not freed yet")
            running.isEnding = nil
            _ = try await documents.update(running)
            #expect(try await documents.unfinishedSessions() == ["PENDING"])
            try await documents.deleteSession(id: "PENDING")
            try await documents.deleteSession(id: "PENDING")
            #expect(try await documents.unfinishedSessions() == [])
            #expect(try await documents.session(id: "PENDING") == nil)
        }
    }

    @Test(arguments: DocumentStore.all)
    func `An update of another revision is refused`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            let session = Session.sample(id: "s")
            try await documents.insert(session)
            var mine = session
            mine.waitingFor = "peers"
            let stored = try await documents.update(mine)
            var theirs = session
            theirs.round = 9
            await expectError(.conflict) { try await documents.update(theirs) }
            #expect(try await documents.session(id: "s") == stored)
            await expectError(.notFound) { try await documents.update(Session.sample(id: "unknown")) }
        }
    }

    @Test(arguments: DocumentStore.all)
    func `Of fifty who update the same revision at once, one wins`(_ store: DocumentStore) async throws {
        try await TemporaryFolder.with { place in
            let servers = [try await store.open(place), try await store.open(place)]
            let session = Session.sample(id: "s")
            try await servers[0].part.insert(session)
            let winners = try await withThrowingTaskGroup(of: Int?.self) { group in
                for index in 0..<50 {
                    var mine = session
                    mine.round = index
                    let change = mine
                    let documents = servers[index % 2].part
                    group.addTask {
                        do {
                            return try await documents.update(change).round
                        } catch let error as CohortError where error.code == .conflict {
                            return nil
                        }
                    }
                }
                return try await group.compactMap { $0 }.reduce(into: []) { $0.append($1) }
            }
            #expect(winners.count == 1)
            let stored = try #require(try await servers[0].part.session(id: "s"))
            #expect(stored.round == winners.first && stored.revision == 1)
            for server in servers { try await server.close() }
        }
    }

    @Test(arguments: DocumentStore.all)
    func `A lease is taken when free, expired or one's own; the generation rises with every taking`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            try await documents.insert(Session.sample(id: "s"))
            func takeLease(_ owner: String, now: Double) async throws -> Session? {
                try await documents.takeLease(sessionId: "s", owner: owner, now: moment(now), expiresAt: moment(now + 30))
            }
            let first = try #require(try await takeLease("a", now: 0))
            #expect(first.generation == 1 && first.lease == Lease(owner: "a", expiresAt: moment(30)) && first.revision == 0)
            #expect(try await documents.session(id: "s") == first)
            #expect(try await takeLease("b", now: 29) == nil)
            #expect(try await documents.session(id: "s") == first, "a refused lease changes nothing")
            #expect(try await takeLease("a", now: 10)?.generation == 2, "a restarted owner")
            #expect(try await takeLease("b", now: 39) == nil)
            let third = try #require(try await takeLease("b", now: 40))
            #expect(third.generation == 3 && third.lease?.owner == "b")

            await expectError(.notFound) {
                try await documents.takeLease(sessionId: "unknown", owner: "a", now: moment(), expiresAt: moment(30))
            }
        }
    }

    @Test(arguments: DocumentStore.all)
    func `Renewing keeps generation and revision, and fails once another has taken over`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            try await documents.insert(Session.sample(id: "s"))
            func takeLease(_ owner: String, now: Double) async throws -> Int? {
                try await documents.takeLease(sessionId: "s", owner: owner, now: moment(now), expiresAt: moment(now + 30))?.generation
            }
            func renew(_ owner: String, _ generation: Int, now: Double) async throws -> HeldLease? {
                try await documents.renewLease(sessionId: "s", owner: owner, generation: generation, expiresAt: moment(now + 30))
            }
            #expect(try await takeLease("a", now: 0) == 1)
            #expect(try await renew("a", 1, now: 20) == HeldLease(cancelRequested: false))
            let renewed = try #require(try await documents.session(id: "s"))
            #expect(renewed.generation == 1 && renewed.revision == 0 && renewed.lease?.expiresAt == moment(50))
            var changed = renewed
            changed.round = 3
            changed.lease = nil
            #expect(try await documents.update(changed).lease == renewed.lease, "the lease is not the document's")
            #expect(try await renew("a", 1, now: 60) != nil, "expired, but not taken")
            #expect(try await renew("b", 1, now: 100) == nil, "renewing is not taking")
            #expect(try await takeLease("b", now: 100) == 2)
            #expect(try await renew("a", 1, now: 101) == nil)
            #expect(try await renew("a", 1, now: 1000) == nil, "even when the other's has expired")
            #expect(try await takeLease("b", now: 110) == 3)
            #expect(try await renew("b", 2, now: 111) == nil, "its own former life is fenced off too")
            #expect(try await renew("b", 3, now: 111) != nil)
            #expect(try await documents.renewLease(sessionId: "unknown", owner: "b", generation: 3, expiresAt: moment()) == nil)
        }
    }

    @Test(arguments: DocumentStore.all)
    func `A request to cancel reaches the holder that renews the lease, and no update loses it`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            try await documents.insert(Session.sample(id: "s"))
            let held = try #require(
                try await documents.takeLease(sessionId: "s", owner: "a", now: moment(), expiresAt: moment(30)))
            #expect(try await documents.requestCancel(sessionId: "s")?.cancelRequested == true)
            #expect(try await documents.requestCancel(sessionId: "s")?.cancelRequested == true)
            #expect(
                try await documents.renewLease(sessionId: "s", owner: "a", generation: 1, expiresAt: moment(40))
                    == HeldLease(cancelRequested: true))
            var changed = held
            changed.round = 1
            changed = try await documents.update(changed)
            #expect(changed.cancelRequested && changed.round == 1)
            changed.status = .completed
            _ = try await documents.update(changed)
            try await documents.insert(Session.sample(id: "t"))
            var other = try #require(try await documents.session(id: "t"))
            other.status = .failed
            _ = try await documents.update(other)
            #expect(try await documents.requestCancel(sessionId: "t")?.cancelRequested == false, "it has ended already")
            #expect(try await documents.requestCancel(sessionId: "u") == nil)
        }
    }

    @Test(arguments: DocumentStore.all)
    func `Labels change beside the document, one change at a time, and no update loses them`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            try await documents.insert(Session.sample(id: "s"))
            let held = try #require(
                try await documents.takeLease(sessionId: "s", owner: "a", now: moment(), expiresAt: moment(30)))
            let link = SharedLink(
                id: "l", secretSha256: String(repeating: "a", count: 64), createdAt: moment(1), expiresAt: moment(2),
                allowsPredictions: true)
            let labels = SessionLabels(note: "läuft \"gut\"", tags: ["one", "two"], links: [link])
            let stored = try #require(try await documents.setLabels(labels, sessionId: "s"))
            #expect(stored.revision == 1 && stored.tags == labels.tags && stored.links == [link])
            // Two that changed the same: the second reads again.
            #expect(try await documents.setLabels(labels, sessionId: "s") == nil)
            #expect(try await documents.setLabels(labels, sessionId: "unknown") == nil)
            // The coordinator, which read the session before, stores its document under the same revision.
            var changed = held
            changed.status = .completed
            changed.round = 1
            changed = try await documents.update(changed)
            #expect(changed.labels == stored && changed.round == 1)
            let read = try #require(try await documents.session(id: "s"))
            #expect(read.labels == stored && read.revision == changed.revision)
            let summary = try #require(try await documents.sessionSummaries(ownerId: read.ownerId, limit: 1, before: nil).first)
            #expect(summary.tags == ["one", "two"] && summary.note == labels.note)
            #expect(try await documents.renewLease(sessionId: "s", owner: "a", generation: 1, expiresAt: moment(50)) != nil)
            #expect(try await documents.session(id: "s")?.labels == stored)
            var emptied = stored
            (emptied.note, emptied.tags, emptied.links) = ("", [], [])
            #expect(try await documents.setLabels(emptied, sessionId: "s")?.revision == 2)
            #expect(try await documents.session(id: "s")?.labels?.links == [])
        }
    }

    @Test(arguments: DocumentStore.all)
    func `Who was taken over cannot store any more`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            try await documents.insert(Session.sample(id: "s"))
            var held = try #require(
                try await documents.takeLease(sessionId: "s", owner: "a", now: moment(0), expiresAt: moment(30)))
            let taken = try #require(
                try await documents.takeLease(sessionId: "s", owner: "b", now: moment(31), expiresAt: moment(60)))
            held.round = 5
            await expectError(.conflict) { try await documents.update(held) }
            #expect(try await documents.session(id: "s") == taken)
        }
    }

    @Test(arguments: DocumentStore.all)
    func `Of fifty coordinators that want an expired lease, one gets it`(_ store: DocumentStore) async throws {
        try await TemporaryFolder.with { place in
            let servers = [try await store.open(place), try await store.open(place)]
            try await servers[0].part.insert(Session.sample(id: "s"))
            _ = try await servers[0].part.takeLease(sessionId: "s", owner: "dead", now: moment(0), expiresAt: moment(30))
            let winners = try await withThrowingTaskGroup(of: Session?.self) { group in
                for index in 0..<50 {
                    let documents = servers[index % 2].part
                    group.addTask {
                        try await documents.takeLease(sessionId: "s", owner: "c\(index)", now: moment(31), expiresAt: moment(60))
                    }
                }
                return try await group.compactMap { $0 }.reduce(into: []) { $0.append($1) }
            }
            #expect(winners.map(\.generation) == [2])
            #expect(try await servers[1].part.session(id: "s") == winners.first)
            for server in servers { try await server.close() }
        }
    }

    @Test(arguments: DocumentStore.all)
    func `An upload is one session's own, or shared by the sessions of its owner that are trained on it`(_ store: DocumentStore)
        async throws
    {
        try await store.withEmpty { documents in
            var first = Session.sample(id: "a")
            first.upload = ObjectReference(key: "k", sha256: "ab", bytes: 7)
            try await documents.insert(first)
            func another(_ id: String, owner: String = "ada") -> Session {
                var session = Session.sample(id: id, owner: owner)
                session.upload = first.upload
                return session
            }
            await expectError(.conflict) { try await documents.insert(another("b")) }
            // Nothing was made of it yet: it may be no CSV at all.
            await expectError(.notFound) { try await documents.insert(another("b"), sharesUpload: true) }
            var stored = try #require(try await documents.session(id: "a"))
            stored.dataset = .sample
            _ = try await documents.update(stored)
            await expectError(.notFound) { try await documents.insert(another("b", owner: "bob"), sharesUpload: true) }
            try await documents.insert(another("b"), sharesUpload: true)
            await expectError(.conflict) { try await documents.insert(another("c")) }
            #expect(try await documents.session(id: "c") == nil)
            #expect(try await documents.usedUploads(of: ["k", "l"], besides: nil) == ["k"])
            #expect(try await documents.usedUploads(of: ["k"], besides: "a") == ["k"])
            try await documents.deleteSession(id: "a")
            #expect(try await documents.usedUploads(of: ["k"], besides: nil) == ["k"])
            #expect(try await documents.usedUploads(of: ["k"], besides: "b") == [])
            await expectError(.notFound) { try await documents.insert(another("d"), sharesUpload: true) }
            #expect(try await documents.session(id: "d") == nil)
        }
    }

    @Test(arguments: DocumentStore.all)
    func `Of sessions of one title that end at once, each model gets a different version, and keeps it`(_ store: DocumentStore)
        async throws
    {
        try await store.withEmpty { documents in
            func session(_ id: String, owner: String = "ada", name: String? = "penguins") -> Session {
                var session = Session.sample(id: id, owner: owner)
                session.settings.name = name
                return session
            }
            // Of a version before, when documents alone said it.
            var old = session("old")
            old.modelVersion = 4
            try await documents.insert(old)
            for number in 0..<20 { try await documents.insert(session("s\(number)")) }
            let versions = try await withThrowingTaskGroup(of: Int.self) { group in
                for number in 0..<20 { group.addTask { try await documents.takeModelVersion(of: session("s\(number)")) } }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(versions.sorted() == Array(5...24))
            let again = try await documents.takeModelVersion(of: session("s3"))
            #expect(versions.contains(again))
            #expect(try await documents.takeModelVersion(of: session("s3")) == again)
            #expect(try await documents.takeModelVersion(of: session("t", name: "other")) == 1)
            #expect(try await documents.takeModelVersion(of: session("u", owner: "bob")) == 1)
            // Without a name it is called by its file.
            #expect(try await documents.takeModelVersion(of: session("v", name: nil)) == 1)
            #expect(try await documents.takeModelVersion(of: session("w", name: "penguins.csv")) == 2)
            try await documents.deleteSession(id: "t")
            #expect(try await documents.takeModelVersion(of: session("x", name: "other")) == 1, "a session that is deleted leaves nothing")
        }
    }
}
