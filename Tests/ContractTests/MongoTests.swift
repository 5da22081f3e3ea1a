import CohortCore
import CohortSession
import CohortWire
import Foundation
import TestSupport
import Testing

@testable import MongoDocuments

@Suite struct BSONSafeTests {
    private func roundTrip(_ text: String) -> (stored: String, read: String) {
        let stored = BSONSafe.stored([UInt8](text.utf8))
        return (String(decoding: stored, as: UTF8.self), String(decoding: BSONSafe.read(stored), as: UTF8.self))
    }

    @Test(arguments: [
        (#"{"a":1,"b":[true,null,"x.y$%"]}"#, #"{"a":1,"b":[true,null,"x.y$%"]}"#),
        (#"{"lab.pc 1":{"$set":{"50%":1}}}"#, #"{"lab%2Epc 1":{"%24set":{"50%25":1}}}"#),
        (#"{"%24":1,"%2E%25":2,"a$b":3,"$":4}"#, #"{"%2524":1,"%252E%2525":2,"a$b":3,"%24":4}"#),
        (#"{"a\"b.c":"d\\","e" : 1.5e-300}"#, #"{"a\"b%2Ec":"d\\","e" : 1.5e-300}"#),
        ("", ""), ("{", "{"), (#"{"a"#, #"{"a"#), (#"{"a\"#, #"{"a\"#),
    ])
    func `keys come back as they were`(_ text: String, _ stored: String) {
        let result = roundTrip(text)
        #expect(result.stored == stored)
        if text.hasSuffix("}") { #expect(result.read == text) }
    }

    @Test func `what is interpolated is a value, never syntax`() {
        let evil = #"x", "$where": "1"#
        let json: MongoJSON = "{\"_id\":\(evil),\"b\":\(true),\"n\":\(3),\"l\":\(["a\"", "\u{1}"]),\"o\":\(nil as String?)}"
        #expect(json.text == #"{"_id":"x\", \"$where\": \"1","b":true,"n":3,"l":["a\"","\u0001"],"o":null}"#)
    }
}

@Suite struct MongoErrorTests {
    @Test(arguments: [
        ("mongodb://", "COHORT_DATABASE_URL"), ("mongodb://user:p@ss/word@host", "COHORT_DATABASE_URL"),
        ("mongodb://user:topsecret@host:port/db", "COHORT_DATABASE_URL"), ("mongodb://host/db?authMechanism=none", "COHORT_DATABASE_URL"),
    ])
    func `an invalid URI is refused, without its password`(_ uri: String, _ part: String) async {
        let sentence = await expectError(.invalid) { try await MongoDocuments(uri: uri, setting: "COHORT_DATABASE_URL") }
        #expect(
            sentence.contains(part) && !sentence.contains("p@ss") && !sentence.contains("word@") && !sentence.contains("topsecret"),
            "\(sentence)")
    }

    @Test func `an absent server is reported soon, with the host and without the password`() async {
        let sentence = await expectError(.unavailable) {
            try await MongoDocuments(uri: "mongodb://ada:topsecret@127.0.0.1:1/db?serverSelectionTimeoutMS=200", setting: "X")
        }
        #expect(
            sentence.contains("MongoDB at 127.0.0.1:1, database 'db' cannot be reached") && !sentence.contains("topsecret"), "\(sentence)")
    }

    @Test(
        .enabled(if: ProcessInfo.processInfo.environment["COHORT_TEST_MONGOECO_URL"] != nil, "no mongoeco: `make integration` starts one"))
    func `a wrong password is reported`() async throws {
        let url = ProcessInfo.processInfo.environment["COHORT_TEST_MONGOECO_URL"] ?? ""
        let sentence = await expectError(.unavailable) {
            try await MongoDocuments(uri: url.replacing("test-secret", with: "wrong-secret"), setting: "X")
        }
        #expect(sentence.contains("refuses the user or the password") && !sentence.contains("secret"), "\(sentence)")
    }
}

@Suite struct MongoFencingTests {
    @Test(arguments: DocumentStore.all)
    func `what was written under an older generation, after its look, replaces nothing`(_ store: DocumentStore) async throws {
        try await store.withEmpty { documents in
            guard let documents = documents as? MongoDocuments else { return }
            func record(_ generation: Int) -> SessionRecord {
                SessionRecord(
                    rounds: [RoundSummary(round: 0, seconds: Double(generation), training: nil, answered: ["a"], dropped: [:])],
                    answers: [
                        RecordedAnswer(
                            peerId: "a", generation: generation,
                            answer: PeerAnswer(
                                round: 0, results: DoneResults(loss: nil, accuracy: nil, samples: 0, epochs: 0, seconds: 0), update: nil,
                                answeredAt: moment()),
                            updateData: nil)
                    ])
            }
            try await documents.insert(Session.sample(id: "s"))
            // As two coordinators' writes arrive, each after its own look at the generation.
            try await documents.store(record(2), sessionId: "s", generation: 2)
            try await documents.store(record(1), sessionId: "s", generation: 1)
            #expect(try await documents.rounds(sessionId: "s").map(\.seconds) == [2])
            #expect(try await documents.answers(sessionId: "s").map(\.generation) == [2])
            try await documents.store(record(3), sessionId: "s", generation: 3)
            #expect(try await documents.rounds(sessionId: "s").map(\.seconds) == [3])
            #expect(try await documents.answers(sessionId: "s").map(\.generation) == [3])
        }
    }
}
