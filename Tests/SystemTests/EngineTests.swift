import CohortAPI
import CohortClient
import CohortCore
import CohortSession
import CohortTraining
import CohortWire
import FoundationEssentials
import Glibc
import Subprocess
import Testing

extension SystemSuite {
    @Suite(.serialized) struct WithEngines {
        /// What `make torch` built, as the binary under test finds it.
        private static let hasPlugin: Bool = {
            let here = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
            return FileManager.default.fileExists(atPath: "/\(here)/.build/torch/libcohort-torch.so")
        }()

        @Test(.enabled(if: hasPlugin, "the plugin is not built: `make torch`"), arguments: ["fedavg", "independent"])
        func `one session mixes engines, and its results say which machine used which`(strategy: String) async throws {
            try await withWorld { world in
                let server = try await world.server()
                let person = try await world.person(server)
                _ = try await world.peers(2, of: server, for: person, prefix: "native", environment: ["COHORT_ENGINE": "native"])
                let torch = try await world.peers(1, of: server, for: person, prefix: "torch", environment: ["COHORT_ENGINE": "torch"])
                var settings = SessionSettings(
                    peers: 3, strategy: strategy, rounds: 4, epochs: 3, batchSize: 16, lr: 0.01, hidden: [16], seed: 3)
                settings.labelSmoothing = 0.05
                settings.optimizer.gradientClip = 5
                let started = try await person.startSession(settings, file: try world.blobs(rows: 300))
                let status = try await person.final(started.sessionId)
                #expect(status.status == .completed, "\(status.error ?? "")")
                let results = try await person.results(id: started.sessionId)
                #expect(
                    Set(results.peers.map { "\($0.name) \($0.engine) \($0.device)" }) == [
                        "native-1 native cpu", "native-2 native cpu", "torch-1 torch cpu",
                    ])
                // The server measures the torch peer's updates by its own engine, and would say that they contradict.
                for peer in results.peers { #expect(peer.trainedSamples > 0 && peer.message == nil, "\(peer.name): \(peer.message ?? "")") }
                #expect(try #require(results.metrics.accuracy) > 0.95)
                try await torch[0].send(SIGTERM)
                #expect(try await torch[0].end() == .exited(0), "\(torch[0].standardError)")
                #expect(torch[0].standardError.contains("PyTorch "), "it says what it trained with: \(torch[0].standardError)")
            }
        }

        @Test func `a peer whose engine or device is not here says so and ends`() async throws {
            try await withWorld { world in
                func complaint(_ environment: [String: String]) async throws -> String {
                    let peer = world.start(
                        "peer-\(newIdentifier())", ["peer", "--server", "http://127.0.0.1:1", "--token", "t"], environment: environment)
                    #expect(try await peer.end() != .exited(0))
                    return peer.standardError
                }
                let missing = try await complaint(["COHORT_ENGINE": "torch", "COHORT_TORCH_PLUGIN": "/nowhere/plugin.so"])
                #expect(missing.contains("the torch engine cannot be loaded: /nowhere/plugin.so"), "\(missing)")
                let unknown = try await complaint(["COHORT_ENGINE": "tensorflow"])
                #expect(unknown.contains("it must be one of auto, native, torch"), "\(unknown)")
                let device = try await complaint(["COHORT_ENGINE": "native", "COHORT_DEVICE": "cuda:0"])
                #expect(device.contains("the native engine trains on the CPU"), "\(device)")
                let none = try await complaint(["COHORT_DEVICE": "gpu"])
                #expect(none.contains("it must be auto, cpu, or a GPU such as cuda:0"), "\(none)")
            }
        }
    }
}
