import CohortCore
import CohortSystem
import Crypto
import FoundationEssentials
import Testing

@testable import CohortServer

/// What the server hands out to machines that want to join.
@Suite struct JoinTests {
    private func archive(_ text: String) throws -> String {
        let path = "\(FileManager.default.temporaryDirectory.path)/cohort-0.1.0-linux-x86_64-\(newIdentifier()).tar.gz"
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        return path
    }

    @Test
    func
        `the script names this server, the archive's SHA-256 and the certificate's pins; the archive comes whole, in part, and as it is now`()
        async throws
    {
        let path = try archive("one archive")
        try await withServer {
            $0.join = JoinOffer(archive: path, pins: (String(repeating: "ab", count: 32), "c3Bp"))
        } _: { world in
            func digest(_ text: String) -> String { SHA256.hash(data: [UInt8](text.utf8)).hexadecimal }
            let script = try await world.call("GET", "/join")
            #expect(script.status == 200)
            for part in [
                "#!/bin/sh\n", "server='\(world.url)'", "sha256='\(digest("one archive"))'",
                "--fingerprint \(String(repeating: "ab", count: 32))",
                "--pinnedpubkey 'sha256//c3Bp'", "main \"$@\"\n",
            ] {
                #expect(script.body.contains(part), "\(part) is not in \(script.body)")
            }
            let whole = try await world.call("GET", "/join/archive")
            #expect(whole.body == "one archive")
            #expect(whole.headers["etag"] == "\"\(digest("one archive"))\"")
            let part = try await world.call("GET", "/join/archive", headers: [("Range", "bytes=4-")])
            #expect(part.status == 206 && part.body == "archive")
            // Replaced while the server runs.
            try "another".write(toFile: path, atomically: true, encoding: .utf8)
            #expect(try await world.call("GET", "/join").body.contains(digest("another")))
            // What could end a word of the script does not get into it.
            let wrong = try await world.call("GET", "/join", headers: [("Host", "x';rm -rf ~;'")])
            #expect(wrong.status == 400, "\(wrong.body)")
            try FileManager.default.removeItem(atPath: path)
            #expect(try await world.call("GET", "/join").status == 404)
        }
    }

    @Test func `machines of another kind get the archive that lies beside`() async throws {
        let path = try archive("for x86_64")
        let other = path.replacing("linux-x86_64", with: "linux-aarch64")
        defer { for path in [path, other] { try? FileManager.default.removeItem(atPath: path) } }
        try await withServer {
            $0.join = JoinOffer(archive: path)
        } _: { world in
            #expect(try await world.call("GET", "/join/archive?machine=x86_64").body == "for x86_64")
            let missing = try await world.call("GET", "/join/archive?machine=aarch64")
            #expect(missing.status == 404 && missing.detail.contains("no archive for aarch64, only cohort-0.1.0-linux-x86_64"))
            #expect(try await !world.call("GET", "/join").body.contains("'Linux aarch64')"))
            // Copied there while the server runs.
            try "for aarch64".write(toFile: other, atomically: true, encoding: .utf8)
            #expect(try await world.call("GET", "/join/archive?machine=aarch64").body == "for aarch64")
            #expect(try await world.call("GET", "/join/archive").body == "for x86_64")
            let script = try await world.call("GET", "/join").body
            for (machine, text) in [("x86_64", "for x86_64"), ("aarch64", "for aarch64")] {
                let digest = SHA256.hash(data: [UInt8](text.utf8)).hexadecimal
                let line = try #require(script.split(separator: "\n").first { $0.contains("'Linux \(machine)')") })
                #expect(line.contains("sha256='\(digest)'") && line.contains("linux-\(machine)"))
            }
        }
    }

    @Test func `a server without an archive says how it gets one`() async throws {
        try await withServer { world in
            for path in ["/join", "/join/archive"] {
                let answer = try await world.call("GET", path)
                #expect(answer.status == 404)
                #expect(answer.detail.contains("make dist"))
            }
        }
    }
}
