import CohortClient
import CohortCore
import FoundationEssentials
import Glibc
import Subprocess
import SystemPackage
import TestSupport
import Testing

extension SystemSuite {
    /// A server that speaks TLS, with a certificate of a private authority.
    @Suite(.serialized) struct TLS {
        /// Makes `NAME-ca.pem`, and `NAME.pem` with `NAME.key` for 127.0.0.1, in the world's folder.
        private func certificate(_ name: String, in world: World) async throws {
            func openssl(_ arguments: String) async throws {
                let result = try await Subprocess.run(
                    .name("openssl"), arguments: .init(arguments.split(separator: " ").map(String.init)),
                    workingDirectory: FilePath(world.folder), output: .discarded, error: .string(limit: 1 << 16))
                #expect(result.terminationStatus.isSuccess, "\(arguments): \(result.standardError)")
            }
            _ = try world.write("subjectAltName=IP:127.0.0.1\n", to: "\(name).ext")
            try await openssl(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout \(name)-ca.key -out \(name)-ca.pem -days 2 -subj /CN=\(name)-authority"
            )
            try await openssl(
                "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout \(name)-new.key -out \(name).csr -subj /CN=cohort")
            try await openssl(
                "x509 -req -in \(name).csr -CA \(name)-ca.pem -CAkey \(name)-ca.key -CAcreateserial -out \(name)-new.pem -days 2 -extfile \(name).ext"
            )
            for end in ["key", "pem"] {
                try FileManager.default.moveItem(atPath: "\(world.folder)/\(name)-new.\(end)", toPath: "\(world.folder)/\(name).\(end)")
            }
        }

        @Test func `a session over TLS, from sign-up to the model, with a certificate that is renewed meanwhile`() async throws {
            try await withWorld { world in
                try await certificate("first", in: world)
                let (pem, key) = ("\(world.folder)/first.pem", "\(world.folder)/first.key")
                let server = try await world.server(
                    environment: ["COHORT_TLS_CERTIFICATE": pem, "COHORT_TLS_KEY": key])
                #expect(server.url.hasPrefix("https://127.0.0.1:"))
                let trust = ["COHORT_CA_FILE": "\(world.folder)/first-ca.pem"]
                let account = ["--server", server.url, "--email", "ada@example.org", "--password", "correct horse"]

                let stranger = world.start("stranger", ["signup"] + account)
                #expect(try await stranger.end() == .exited(2))
                #expect(stranger.standardError.contains("is none that this machine trusts"), "\(stranger.standardError)")
                let plain = world.start(
                    "plain", ["signup", "--server", server.url.replacing("https", with: "http")] + account.dropFirst(2))
                #expect(try await plain.end() != .exited(0), "\(plain.standardError)")
                let signup = world.start("signup", ["signup"] + account, environment: trust)
                #expect(try await signup.end() == .exited(0), "\(signup.standardError)")
                let token = world.start("token", ["token"], environment: trust)
                #expect(try await token.end() == .exited(0), "\(token.standardError)")
                let peer = world.peer("peer", of: server, token: token.output, environment: trust)
                let train = world.start(
                    "train", ["train", try world.blobs(rows: 60), "--rounds", "2", "--wait", "-o", "\(world.folder)/m.safetensors"],
                    environment: trust)
                #expect(try await train.end(within: .seconds(120)) == .exited(0), "\(train.standardError) \(peer.standardError)")
                #expect(FileManager.default.fileExists(atPath: "\(world.folder)/m.safetensors"))

                // Renewed by another authority: who trusts that one alone gets in from then on.
                try await certificate("second", in: world)
                for end in ["key", "pem"] {
                    let path = "\(world.folder)/first.\(end)"
                    try FileManager.default.removeItem(atPath: path)
                    try FileManager.default.moveItem(atPath: "\(world.folder)/second.\(end)", toPath: path)
                }
                try await eventually("the new certificate is used") {
                    let login = world.start(
                        "login-\(newIdentifier())", ["login"] + account, environment: ["COHORT_CA_FILE": "\(world.folder)/second-ca.pem"])
                    return try await login.end() == .exited(0)
                }
            }
        }

        @Test func `a self-signed certificate is kept by clients, and another one later is an error`() async throws {
            try await withWorld { world in
                let server = try await world.server(environment: ["COHORT_TLS": "auto"])
                #expect(server.url.hasPrefix("https://127.0.0.1:"))
                let line = try await server.process.firstLine(startingWith: "certificate fingerprint ")
                let fingerprint = String(line.dropFirst("certificate fingerprint ".count))
                #expect(fingerprint.count == 64)
                let account = ["--server", server.url, "--email", "ada@example.org", "--password", "correct horse"]
                let colons = zip(fingerprint.uppercased(), 0...).map { $1 % 2 == 0 && $1 > 0 ? ":\($0)" : "\($0)" }.joined()

                let wrong = world.start("wrong", ["signup"] + account + ["--fingerprint", String(repeating: "ab", count: 32)])
                #expect(try await wrong.end() == .exited(2))
                #expect(
                    wrong.standardError.contains("shows a certificate of fingerprint \(fingerprint), not abab"), "\(wrong.standardError)")
                let none = world.start("none", ["signup"] + account + ["--fingerprint", "12"])
                #expect(try await none.end() == .exited(2) && none.standardError.contains("64 hexadecimal digits"), "\(none.standardError)")
                let known = "\(world.folder)/config/cohort/known-servers.json"
                #expect(!FileManager.default.fileExists(atPath: known), "nothing wrong is kept")

                let signup = world.start("signup", ["signup"] + account)
                #expect(try await signup.end() == .exited(0), "\(signup.standardError)")
                #expect(
                    signup.standardError.contains("is new to this machine") && signup.standardError.contains(fingerprint),
                    "\(signup.standardError)")
                let token = world.start("token", ["token"])
                #expect(try await token.end() == .exited(0) && token.standardError.isEmpty, "it is known by now: \(token.standardError)")
                let peer = world.peer(
                    "peer", of: server, token: token.output,
                    environment: ["XDG_CONFIG_HOME": "\(world.folder)/peer-config", "COHORT_FINGERPRINT": colons])
                let train = world.start(
                    "train", ["train", try world.blobs(rows: 60), "--rounds", "2", "--wait", "-o", "\(world.folder)/m.safetensors"])
                #expect(try await train.end(within: .seconds(120)) == .exited(0), "\(train.standardError) \(peer.standardError)")

                // The same certificate after a restart; a new one when it is removed.
                try await server.process.send(SIGTERM)
                _ = try await server.process.end(within: .seconds(20))
                let again = try await world.server("again", port: server.port, environment: ["COHORT_TLS": "auto"])
                #expect(try await again.process.firstLine(startingWith: "certificate fingerprint ") == line)
                let list = world.start("list", ["sessions"])
                #expect(try await list.end() == .exited(0), "\(list.standardError)")
                try await again.process.send(SIGTERM)
                _ = try await again.process.end(within: .seconds(20))
                try FileManager.default.removeItem(atPath: "\(world.folder)/server/tls")
                // A peer that is there before a server that it has never seen waits for it.
                let early = world.peer(
                    "early", of: server, token: token.output, environment: ["XDG_CONFIG_HOME": "\(world.folder)/early-config"])
                try await eventually("it says that it waits") { early.standardError.contains("waiting for the server") }
                let other = try await world.server("other", port: server.port, environment: ["COHORT_TLS": "auto"])
                try await eventually("it has joined") { early.standardError.contains("registered as early") }
                let changed = world.start("changed", ["sessions"])
                #expect(try await changed.end() == .exited(2))
                #expect(changed.standardError.contains("differs from the one that this machine first saw"), "\(changed.standardError)")
                let new = try await other.process.firstLine(startingWith: "certificate fingerprint ").split(separator: " ").last
                let login = world.start("login", ["login"] + account + ["--fingerprint", String(try #require(new))])
                #expect(try await login.end() == .exited(0), "\(login.standardError)")
            }
        }

        @Test func `invalid files are refused at the start, by their setting`() async throws {
            try await withWorld { world in
                try await certificate("one", in: world)
                try await certificate("two", in: world)
                let folder = world.folder
                let nothing = try world.write("no certificate", to: "nothing.pem")
                for (index, (arguments, said)) in [
                    (["--tls-certificate", "\(folder)/one.pem"], "go together: the second is missing"),
                    (["--tls-key", "\(folder)/one.key"], "go together: the first is missing"),
                    (["--tls", "on"], "COHORT_TLS is 'on'; it must be auto"),
                    (["--tls", "auto", "--tls-key", "\(folder)/one.key"], "does not go with"),
                    (["--tls-certificate", "\(folder)/none.pem", "--tls-key", "\(folder)/one.key"], "COHORT_TLS_CERTIFICATE is '"),
                    (["--tls-certificate", nothing, "--tls-key", "\(folder)/one.key"], "no PEM file of certificates"),
                    (["--tls-certificate", "\(folder)/one.pem", "--tls-key", nothing], "COHORT_TLS_KEY is '"),
                    (["--tls-certificate", "\(folder)/one.pem", "--tls-key", "\(folder)/two.key"], "do not belong together"),
                ].enumerated() {
                    let process = world.start("tls-\(index)", ["serve", "--port", "0", "--data-dir", "\(folder)/s\(index)"] + arguments)
                    #expect(try await process.end() == .exited(2), "\(arguments): \(process.standardError)")
                    #expect(process.standardError.contains(said), "\(arguments): \(process.standardError)")
                }
                let client = world.start(
                    "ca", ["login", "--server", "https://127.0.0.1:9", "--email", "a@example.org", "--password", "x"],
                    environment: ["COHORT_CA_FILE": nothing])
                #expect(try await client.end() == .exited(2))
                #expect(client.standardError.contains("COHORT_CA_FILE is '"), "\(client.standardError)")
            }
        }
    }
}
