import CohortCore
import CohortTraining
import FoundationEssentials
import TorchEngine

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Which engines this machine has, and the one that settings ask for.
struct Engines {
    enum Choice: String, CaseIterable {
        /// PyTorch where it finds a GPU, else the native engine.
        case auto
        case native
        case torch
    }

    let choice: Choice
    /// `auto`, `cpu`, `cuda:N`.
    let device: String
    let precision: TorchEngine.Precision
    /// The plugin's path, when a setting names it.
    let plugin: String?
    /// The users whose modules this machine runs.
    let allowsModules: Pool

    /// - Throws: ``CohortError`` `invalid` for names that are none, and a GPU for the native engine.
    init(settings: Settings, engine: String? = nil, device: String? = nil, allowModels: String? = nil) throws {
        allowsModules = try settings.choice("allow_models", flag: allowModels, standard: .mine)
        choice = try settings.choice("engine", flag: engine, standard: .auto)
        self.device = settings.text("device", flag: device, default: "auto")
        precision = try settings.choice("torch_precision", standard: .float32)
        plugin = settings.text("torch_plugin")
        guard ["auto", "cpu"].contains(self.device) || self.device.wholeMatch(of: /cuda:[0-9]{1,3}/) != nil else {
            throw CohortError(
                .invalid, "COHORT_DEVICE is '\(self.device.printable(max: 40))'; it must be auto, cpu, or a GPU such as cuda:0")
        }
        guard choice != .native || !self.device.hasPrefix("cuda") else {
            throw CohortError(.invalid, "the native engine trains on the CPU: --device \(self.device) goes with --engine torch")
        }
    }

    /// - Returns: the engine, and what should be known of it: an engine that `auto` could not use.
    /// - Throws: ``CohortError`` `unavailable` for an engine that is not here, `invalid` for a device that is not.
    func make(threads: Int) throws -> (engine: any TrainingEngine, notes: [String]) {
        switch choice {
        case .native: return (NativeEngine(threads: threads), [])
        case .torch: return (try torch(threads: threads, device: device), [])
        case .auto:
            if device.hasPrefix("cuda") { return (try torch(threads: threads, device: device), []) }
            // Loading libtorch takes a second and some hundred megabytes: only where there may be a GPU.
            guard device == "auto", Self.hasDriver else { return (NativeEngine(threads: threads), []) }
            guard path != nil else {
                return (
                    NativeEngine(threads: threads),
                    ["there is an NVIDIA driver, but its GPU is not used: the torch engine is not here: \(Self.missing)"]
                )
            }
            do {
                let plugin = try openPlugin()
                guard plugin.gpus.first != nil else { return (NativeEngine(threads: threads), ["no GPU is used: \(plugin.gpuNote)"]) }
                return (
                    try TorchEngine(
                        plugin: plugin, device: "cuda:0", threads: threads, precision: precision, modules: try moduleHost),
                    []
                )
            } catch let error as CohortError {
                return (NativeEngine(threads: threads), ["no GPU is used: \(error.message)"])
            }
        }
    }

    private func torch(threads: Int, device: String) throws -> TorchEngine {
        let plugin = try openPlugin()
        let best = plugin.gpus.isEmpty ? "cpu" : "cuda:0"
        return try TorchEngine(
            plugin: plugin, device: device == "auto" ? best : device, threads: threads, precision: precision, modules: try moduleHost)
    }

    /// Runs modules in separate processes; those of other users only in a sandbox.
    var moduleHost: ModuleHost {
        get throws { ModuleHost(executable: try executablePath(), requiresWalls: allowsModules == .everyone) }
    }

    /// - Throws: ``CohortError`` `unavailable`, with how to get the plugin.
    func openPlugin() throws -> TorchPlugin {
        guard let path else { throw CohortError(.unavailable, "the torch engine is not here: \(Self.missing)") }
        return try TorchPlugin(path: path)
    }

    /// NVIDIA's driver is installed.
    private static var hasDriver: Bool {
        guard let driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL) else { return false }
        dlclose(driver)
        return true
    }

    // MARK: The plugin

    private static let file = "libcohort-torch.so"
    static let missing =
        "build its plugin with `make torch` in Cohort's source folder, and copy .build/torch/\(file) into \(StandardFolder.data()) where Cohort was installed from a package (COHORT_TORCH_PLUGIN names another place)"

    /// The plugin's path; nil when it is not installed.
    var path: String? {
        if let plugin { return plugin }
        return Self.places.first { FileManager.default.fileExists(atPath: $0) }
    }

    /// Beside what was installed, in a build's own folder, and where a person puts it.
    private static var places: [String] {
        var places = ["\(StandardFolder.data())/\(file)"]
        guard let executable = try? executablePath() else { return places }  // Without it there is one place less to look at.
        let parts = executable.split(separator: "/", omittingEmptySubsequences: false)
        places.append("\(parts.dropLast(2).joined(separator: "/"))/lib/cohort/\(file)")
        if let build = parts.lastIndex(of: ".build") { places.append("\(parts[...build].joined(separator: "/"))/torch/\(file)") }
        return places
    }
}
