import CohortCore
import Foundation
import TestSupport
import Testing

@Suite
struct ServedObjectStoreTests {
    /// The parts of `/objects/KEY?expires=…&signature=…`.
    struct Link {
        var key: String
        var expires: Int
        var maxBytes: Int?
        var signature: String

        init(_ text: String) throws {
            let parts = try #require(
                text.wholeMatch(of: /\/objects\/([^?]+)\?expires=([0-9]+)(?:&max=([0-9]+))?(?:&for=[^&]+)?&signature=([0-9a-f]{64})/))
            key = try #require(String(parts.1).removingPercentEncoding)
            expires = try #require(Int(parts.2))
            maxBytes = parts.3.flatMap { Int($0) }
            signature = String(parts.4)
        }
    }

    @Test(arguments: ServedStoreKind.all)
    func `A link opens what it was made for, until it expires`(_ kind: ServedStoreKind) async throws {
        try await kind.withEmpty { store, _ in
            let key = "a+b/c=d@e_f-g.csv"
            let text = try await store.presignedGet(key, expiry: moment(60))
            #expect(text.hasPrefix("/objects/a%2Bb/c%3Dd%40e_f-g.csv?expires="))
            let link = try Link(text)
            #expect(link.key == key && link.expires == Int(moment(60).timeIntervalSince1970))
            try store.verify(method: "GET", key: key, expires: link.expires, maxBytes: nil, signature: link.signature, now: moment(59.9))
            let said = await expectError(.forbidden) {
                try store.verify(method: "GET", key: key, expires: link.expires, maxBytes: nil, signature: link.signature, now: moment(60))
            }
            #expect(said.contains("expired") && said.contains("2026-01-31T12:01:00Z"))
        }
    }

    @Test(arguments: ServedStoreKind.all)
    func `An object is opened with what it is, small, large and empty`(_ kind: ServedStoreKind) async throws {
        try await kind.withEmpty { store, _ in
            for size in [0, 1, 1 << 20, (1 << 20) + 1, 3_000_000] {
                let stored = try await store.put((0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) }, key: "object")
                let (reference, stream) = try await store.open("object")
                #expect(reference == stored)
                var bytes: [UInt8] = []
                for try await chunk in stream {
                    #expect(chunk.count <= 1 << 20)
                    bytes += chunk
                }
                #expect(bytes == (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) })
            }
            await expectError(.notFound) { _ = try await store.open("another") }
        }
    }

    @Test(arguments: ServedStoreKind.all)
    func `A link that is made for something ends with it, and no other link to the same object`(_ kind: ServedStoreKind) async throws {
        try await kind.withEmpty { store, _ in
            func get(_ scope: String?) async throws -> Link {
                try Link(try await store.presignedGet("data.csv", scope: scope, expiry: moment(60)))
            }
            func verify(_ link: Link, _ scope: String?) throws {
                try store.verify(
                    method: "GET", key: link.key, expires: link.expires, maxBytes: nil, scope: scope, signature: link.signature,
                    now: moment())
            }
            let (one, other, free) = (try await get("s1"), try await get("s2"), try await get(nil))
            for (link, scope) in [(one, "s1"), (other, "s2"), (free, nil)] as [(Link, String?)] { try verify(link, scope) }
            for (link, scope) in [(one, "s2"), (one, nil), (free, "s1"), (other, "s1"), (one, "")] as [(Link, String?)] {
                let said = await expectError(.forbidden) { try verify(link, scope) }
                #expect(said.contains("signature is wrong"))
            }
            try await store.closeLinks(scope: "s1")
            #expect(await expectError(.forbidden) { try verify(one, "s1") }.contains("closed"))
            for (link, scope) in [(other, "s2"), (free, nil)] as [(Link, String?)] { try verify(link, scope) }
            let later = try await get("s3")
            try verify(later, "s3")
        }
    }

    @Test(arguments: ServedStoreKind.all)
    func `A forged link is refused, and told apart from an expired one`(_ kind: ServedStoreKind) async throws {
        try await kind.withEmpty { store, _ in
            let link = try Link(try await store.presignedGet("a", expiry: moment(60)))
            let put = try Link(try await store.presignedPut("a", maxBytes: 10, expiry: moment(60)))
            try store.verify(method: "PUT", key: "a", expires: put.expires, maxBytes: 10, signature: put.signature, now: moment())
            var flipped = Array(link.signature)
            flipped[63] = flipped[63] == "0" ? "1" : "0"
            let forgeries: [(String, String, Int, String)] = [
                ("PUT", "a", link.expires, link.signature), ("GET", "a", put.expires, put.signature),
                ("DELETE", "a", link.expires, link.signature), ("GET", "b", link.expires, link.signature),
                ("GET", "a", link.expires + 1, link.signature), ("GET", "a", link.expires, String(flipped)),
                ("GET", "a", link.expires, ""), ("GET", "a", link.expires, String(link.signature.dropLast())),
                ("GET", "a", link.expires, String(repeating: "x", count: 64)),
                ("GET", "a", link.expires, String(repeating: "0", count: 64)),
            ]
            for (method, key, expires, signature) in forgeries {
                for now in [moment(), moment(1000)] {
                    let said = await expectError(.forbidden) {
                        try store.verify(method: method, key: key, expires: expires, maxBytes: nil, signature: signature, now: now)
                    }
                    #expect(said.contains("signature is wrong"), "\(method) \(key) \(expires) \(signature)")
                }
            }
        }
    }

    @Test(arguments: ServedStoreKind.all)
    func `A link to PUT is good for its size and for one object, and dies when it is closed`(_ kind: ServedStoreKind) async throws {
        try await kind.withEmpty { store, _ in
            let text = try await store.presignedPut("updates/s/g1-r0-a", maxBytes: 100, expiry: moment(60))
            let link = try Link(text)
            #expect(link.maxBytes == 100)
            func verify(_ maxBytes: Int?) throws {
                try store.verify(
                    method: "PUT", key: link.key, expires: link.expires, maxBytes: maxBytes, signature: link.signature, now: moment())
            }
            try verify(100)
            for other in [nil, 99, 101, 1 << 40] { await expectError(.forbidden) { try verify(other) } }

            #expect(try store.beginLinkedPut(link.key) == nil)
            await expectError(.unavailable) { _ = try store.beginLinkedPut(link.key) }
            store.endLinkedPut(link.key, sha256: nil)
            #expect(try store.beginLinkedPut(link.key) == nil, "what came to nothing may be tried again")
            store.endLinkedPut(link.key, sha256: "ab")
            #expect(try store.beginLinkedPut(link.key) == "ab")
            #expect(try store.beginLinkedPut("updates/s/g1-r1-a") == nil, "another link")

            try await store.closeLinks(prefix: "updates/s/g1-r0-")
            let said = await expectError(.forbidden) { try verify(100) }
            #expect(said.contains("closed"))
            let next = try Link(try await store.presignedPut("updates/s/g1-r1-a", maxBytes: 5, expiry: moment(60)))
            try store.verify(
                method: "PUT", key: next.key, expires: next.expires, maxBytes: 5, signature: next.signature, now: moment())
        }
    }
}
