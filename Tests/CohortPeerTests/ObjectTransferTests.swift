import CohortClient
import CohortCore
import Crypto
import FoundationEssentials
import HTTPTypes
import Hummingbird
import PeerTestSupport
import Synchronization
import TestSupport
import Testing

func sha256(_ bytes: [UInt8]) -> String {
    SHA256.hash(data: bytes).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
}

@Suite
struct ObjectTransferTests {
    private let bytes = (0..<500_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }

    private func from(_ range: String?) -> Int { range.flatMap { Int($0.dropFirst("bytes=".count).dropLast()) } ?? 0 }

    private func part(_ offset: Int) -> HTTPFields { [.contentRange: "bytes \(offset)-\(bytes.count - 1)/\(bytes.count)"] }

    @Test
    func `goes on from where a download was cut, without a token`() async throws {
        let ranges = Mutex<[String?]>([])
        try await withFolder { folder in
            try await withHTTPServer { [self] request in
                #expect(request.headers[.authorization] == nil)
                let range = request.headers[.range]
                let attempt = ranges.withLock {
                    $0.append(range)
                    return $0.count
                }
                let offset = from(range)
                let status: HTTPResponse.Status = offset > 0 ? .partialContent : .ok
                if attempt < 3 {
                    return .cut(Array(bytes[offset...]), after: 100_000, status: status, headers: offset > 0 ? part(offset) : [:])
                }
                return .bytes(bytes[offset...], status: status, headers: part(offset))
            } _: { [self] server, http in
                let objects = CohortClient(server: server, token: "secret", http: http).objects
                try await objects.download("/objects/a.csv?signature=1", to: "\(folder)/a.csv", sha256: sha256(bytes), bytes: bytes.count)
                #expect(contents(of: "\(folder)/a.csv") == bytes)
                #expect(names(in: folder) == ["a.csv"])
                let offsets = ranges.withLock { $0 }.map { from($0) }
                #expect(offsets.count == 3)
                #expect(offsets[0] == 0 && offsets[1] > 0 && offsets[2] > offsets[1])
            }
        }
    }

    @Test
    func `goes on from what an earlier process left`() async throws {
        try await withFolder { folder in
            try Data(bytes.prefix(123_456)).write(to: URL(filePath: "\(folder)/a.csv.part"))
            try await withHTTPServer { [self] request in
                #expect(request.headers[.range] == "bytes=123456-")
                return .bytes(bytes[123_456...], status: .partialContent, headers: part(123_456))
            } _: { [self] server, http in
                try await ObjectTransfer(http: http, server: server, logger: silent).download(
                    "/objects/a.csv", to: "\(folder)/a.csv", sha256: sha256(bytes), bytes: bytes.count)
                #expect(contents(of: "\(folder)/a.csv") == bytes)
            }
        }
    }

    @Test
    func `begins again when the server knows no ranges, or when what is left is of another object`() async throws {
        try await withFolder { folder in
            try Data([UInt8](repeating: 1, count: 1_000)).write(to: URL(filePath: "\(folder)/a.csv.part"))
            let requests = Mutex(0)
            try await withHTTPServer { [self] request in
                let count = requests.withLock {
                    $0 += 1
                    return $0
                }
                // At first it answers the range; what comes then does not match and is fetched whole.
                let offset = from(request.headers[.range])
                return count == 1
                    ? .bytes(bytes[offset...], status: .partialContent, headers: part(offset)) : .bytes(bytes)
            } _: { [self] server, http in
                try await ObjectTransfer(http: http, server: server, logger: silent).download(
                    "/objects/a.csv", to: "\(folder)/a.csv", sha256: sha256(bytes), bytes: bytes.count)
                #expect(contents(of: "\(folder)/a.csv") == bytes)
            }
            #expect(requests.withLock { $0 } == 2)
        }
    }

    @Test
    func `refuses bytes of another hash and leaves no file`() async throws {
        try await withFolder { folder in
            try await withHTTPServer { [self] _ in
                .bytes(bytes)
            } _: { [self] server, http in
                let error = await #expect(throws: CohortError.self) {
                    try await ObjectTransfer(http: http, server: server, logger: silent).download(
                        "/objects/a.csv?signature=secret", to: "\(folder)/a.csv", sha256: sha256([1]), bytes: bytes.count)
                }
                #expect(error?.code == .invalid)
                #expect(error?.message.contains(sha256(bytes)) == true)
                #expect(error?.message.contains("secret") == false)
                #expect(names(in: folder) == [])
                await #expect(throws: CohortError.self) {
                    _ = try await ObjectTransfer(http: http, server: server, logger: silent).get("/objects/w", sha256: sha256([1]))
                }
            }
        }
    }

    @Test
    func `says that a link has expired, without trying again`() async throws {
        let requests = Mutex(0)
        try await withFolder { folder in
            try await withHTTPServer { _ in
                requests.withLock { $0 += 1 }
                return try .problem(.forbidden, code: "forbidden", detail: "the link has expired")
            } _: { server, http in
                await #expect(throws: CohortError(.forbidden, "the link has expired")) {
                    try await ObjectTransfer(http: http, server: server, logger: silent).download(
                        "/objects/a.csv", to: "\(folder)/a.csv", sha256: "", bytes: 10)
                }
            }
        }
        #expect(requests.withLock { $0 } == 1)
    }

    @Test
    func `puts bytes again while the server is away`() async throws {
        let requests = Mutex<[[UInt8]]>([])
        try await withHTTPServer { request in
            #expect(request.method == .put)
            let bytes = try await request.bytes()
            let count = requests.withLock {
                $0.append(bytes)
                return $0.count
            }
            return count < 3 ? try .problem(.serviceUnavailable, code: "unavailable", detail: "starting") : .bytes([], status: .created)
        } _: { server, http in
            try await ObjectTransfer(http: http, server: server, logger: silent).upload([1, 2, 3], to: "/objects/u")
        }
        #expect(requests.withLock { $0 } == [[1, 2, 3], [1, 2, 3], [1, 2, 3]])
    }

    /// Each pause between attempts counts as a minute; attempts take no time.
    private final class MinutePauses: TimeSource {
        private let seconds = Mutex(0.0)
        var date: Date { Date(timeIntervalSince1970: monotonic) }
        var monotonic: Double { seconds.withLock { $0 } }
        func sleep(seconds: Double) async throws { self.seconds.withLock { $0 += 60 } }
    }

    @Test
    func `waits out a full disk of the server, however short its patience with an absent one`() async throws {
        let tries = Mutex(0)
        let signs = Mutex(0)
        let time = MinutePauses()
        let patience = Duration.seconds(90)
        try await withHTTPServer { request in
            _ = try await request.bytes()
            let count = tries.withLock { tries in
                tries += 1
                return tries
            }
            return count < 5
                ? try .problem(HTTPResponse.Status(code: 507), code: "storage_full", detail: "the disk is full")
                : .bytes([], status: .created)
        } _: { server, http in
            try await ObjectTransfer(http: http, server: server, logger: silent, patience: patience, time: time)
                .upload([1, 2, 3], to: "/objects/u") { _ in signs.withLock { $0 += 1 } }
        }
        #expect(time.monotonic == 240)
        #expect(tries.withLock { $0 } == 5 && signs.withLock { $0 } >= 5, "each try is a sign of work")
    }

    @Test
    func `fails when the server is away for longer than its patience`() async throws {
        let time = MinutePauses()
        try await withHTTPServer { request in
            _ = try await request.bytes()
            return try .problem(.serviceUnavailable, code: "unavailable", detail: "starting")
        } _: { server, http in
            let error = await #expect(throws: CohortError.self) {
                try await ObjectTransfer(http: http, server: server, logger: silent, patience: .seconds(90), time: time)
                    .upload([1, 2, 3], to: "/objects/u")
            }
            #expect(error?.code == .unavailable)
        }
        #expect(time.monotonic == 120)
    }
}
