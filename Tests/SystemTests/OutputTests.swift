import CohortAPI
import CohortClient
import CohortCore
import CohortSession
import CohortWire
import FoundationEssentials
import Subprocess
import Testing

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

extension SystemSuite {
    /// What `-o` names is written to as what it is.
    @Suite struct OutputTests {
        private func predict(_ world: World, _ name: String, to output: String) async throws -> TestProcess {
            let process = world.start(name, ["predict", "\(world.folder)/model.safetensors", "\(world.folder)/data.csv", "-o", output])
            _ = try await process.end()
            return process
        }

        @Test func `a link, a device, a FIFO and standard output stay what they are`() async throws {
            try await withWorld { world in
                let data = try world.write("x,y\n" + (0..<40).map { "\($0),\($0 % 2 == 0 ? "even" : "odd")\n" }.joined(), to: "data.csv")
                let server = try await world.server()
                let person = try await world.person(server)
                _ = try await world.peers(1, of: server, for: person)
                let session = try await person.startSession(
                    SessionSettings(peers: 1, rounds: 1, epochs: 1, seed: 1), file: data
                ).sessionId
                #expect(try await person.final(session).status == .completed)
                try await person.downloadModel(id: session, to: "\(world.folder)/model.safetensors")

                let plain = try await predict(world, "plain", to: "\(world.folder)/plain.csv")
                #expect(plain.standardError.isEmpty)
                let expected = try String(contentsOfFile: "\(world.folder)/plain.csv", encoding: .utf8)
                #expect(expected.hasPrefix("y,p(even),p(odd)\n"))

                // A link leads to its file, which keeps its rights, and may not be there yet.
                for target in ["real.csv", "new.csv"] {
                    if target == "real.csv" {
                        try "old".write(toFile: "\(world.folder)/real.csv", atomically: true, encoding: .utf8)
                        chmod("\(world.folder)/real.csv", 0o640)
                    }
                    symlink(target, "\(world.folder)/link-\(target)")
                    _ = try await predict(world, "link-\(target)", to: "\(world.folder)/link-\(target)")
                    #expect(try FileManager.default.destinationOfSymbolicLink(atPath: "\(world.folder)/link-\(target)") == target)
                    #expect(try String(contentsOfFile: "\(world.folder)/\(target)", encoding: .utf8) == expected)
                }
                #expect(
                    try FileManager.default.attributesOfItem(atPath: "\(world.folder)/real.csv")[.posixPermissions] as? Int == 0o640)

                // Devices: what is written is gone, or an error; they are not replaced.
                let null = world.start("null", ["predict", "\(world.folder)/model.safetensors", data, "-o", "/dev/null"])
                #expect(try await null.end() == .exited(0))
                let full = world.start("full", ["predict", "\(world.folder)/model.safetensors", data, "-o", "/dev/full"])
                #expect(try await full.end() == .exited(1))
                #expect(full.standardError.contains("/dev/full cannot be written"), "\(full.standardError)")
                for device in ["/dev/null", "/dev/full"] {
                    var about = stat()
                    #expect(stat(device, &about) == 0 && about.st_mode & S_IFMT == S_IFCHR, "\(device)")
                }

                for name in ["-", "/dev/stdout"] {
                    let output = world.start("stdout\(name.count)", ["predict", "\(world.folder)/model.safetensors", data, "-o", name])
                    #expect(try await output.end() == .exited(0))
                    #expect(output.output == expected.split(separator: "\n").joined(separator: "\n"), "\(name)")
                }

                let fifo = "\(world.folder)/fifo"
                mkfifo(fifo, 0o600)
                let writer = world.start("fifo", ["predict", "\(world.folder)/model.safetensors", data, "-o", fifo])
                let reader = world.start("reader", executable: "/bin/cat", [fifo])
                #expect(try await writer.end() == .exited(0))
                #expect(try await reader.end() == .exited(0))
                #expect(reader.output == expected.split(separator: "\n").joined(separator: "\n"))
                var about = stat()
                #expect(stat(fifo, &about) == 0 && about.st_mode & S_IFMT == S_IFIFO)

                // The model goes the same ways.
                let login = world.start(
                    "login", ["login", "--server", server.url, "--email", "ada@example.org", "--password", World.password])
                #expect(try await login.end() == .exited(0))
                let model = world.start("model", ["model", session, "-o", "\(world.folder)/link-new.csv", "--format", "onnx"])
                #expect(try await model.end() == .exited(0), "\(model.standardError)")
                #expect(try FileManager.default.destinationOfSymbolicLink(atPath: "\(world.folder)/link-new.csv") == "new.csv")
                #expect(try Data(contentsOf: URL(filePath: "\(world.folder)/new.csv")).count > 100)
                let gone = world.start("gone", ["model", session, "-o", "/dev/null"])
                #expect(try await gone.end() == .exited(0), "\(gone.standardError)")
                let mixed = world.start("mixed", ["train", data, "--peers", "1", "-o", "-"])
                #expect(try await mixed.end() == .exited(2))
                #expect(mixed.standardError.contains("between the messages"), "\(mixed.standardError)")
                for (name, said) in [
                    ("\(world.folder)", "is a folder"), ("\(world.folder)/none/x.csv", "there is no folder"), ("", "-o is empty"),
                ] {
                    let refused = world.start("refused", ["predict", "\(world.folder)/model.safetensors", data, "-o", name])
                    #expect(try await refused.end() == .exited(2))
                    #expect(refused.standardError.contains(said), "\(name): \(refused.standardError)")
                }
                #expect(try FileManager.default.contentsOfDirectory(atPath: world.folder).allSatisfy { !$0.hasSuffix(".part") })
            }
        }
    }
}
