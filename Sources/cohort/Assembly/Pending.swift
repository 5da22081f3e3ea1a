import ArgumentParser
import Logging
struct ServerAssembly { init(settings: Settings, host: String?, port: Int?, dataDirectory: String?, logger: Logger) throws {}
 func run(_ l: @escaping @Sendable (String, Int) -> Void) async throws {} }
struct PeerAssembly { init(settings: Settings, server: String?, token: String?, name: String?, dataDirectory: String?, threads: Int?, engine: String?, logger: Logger) throws {}
 func run() async throws {} }
enum Predictions { static func table(model: String, csv: String, limit: Int, spread: Bool) throws -> String { "" } }
struct Predict: AsyncParsableCommand {}
