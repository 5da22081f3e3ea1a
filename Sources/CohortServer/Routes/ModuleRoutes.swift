import CohortAPI
import CohortCore
import CohortSystem
import CohortTraining
import FoundationEssentials
import HTTPTypes
import Hummingbird
import Synchronization
import SystemPackage

/// Users' custom modules: each user sees their own. The server does not run them.
struct ModuleRoutes: Sendable {
    /// That a user may have here.
    private static let most = 100

    let shelf: ModuleStore
    /// Bytes of a file.
    let limit: Int
    /// The data folder.
    let folder: String

    var routes: [Route] {
        [
            .user(.post, "/modules", summary: "Upload a module of your own", add),
            .user(.get, "/modules", summary: "List one's modules") { _, _, caller in try .json(try await shelf.all(of: caller.userId)) },
            .user(.delete, "/modules/{sha256}", summary: "Delete a module; sessions that train it keep theirs") { _, context, caller in
                let hash = try context.parameters.require("sha256")
                try await shelf.delete(try await shelf.object(hash, of: caller.userId, field: "sha256"))
                return .noContent
            },
        ]
    }

    private func add(_ request: Request, _ context: Context, caller: Caller) async throws -> Response {
        var isAnswered = false
        // A body that was not read to its end would be taken for the next request.
        defer { if !isAnswered { context.closeSoon() } }
        let file = try await BodyFile(
            request, at: TemporaryFiles.path("module", in: folder), limit: min(limit, ModuleFile.maxBytes),
            tooLarge: CohortError(.tooLarge, "the module's file is larger than \(min(limit, ModuleFile.maxBytes)) bytes"),
            what: "a module's file, as `cohort train --model` and Python's cohort.save_module make it")
        isAnswered = true
        let known = try await shelf.hashes(of: caller.userId)
        guard known.count < Self.most || known.contains(file.sha256) else {
            throw CohortError(.conflict, "you have \(known.count) modules here, and may have \(Self.most): delete one that you do not need")
        }
        return try .json(try await shelf.add(file, of: caller.userId), status: .created)
    }
}

/// Modules in the object store: `modules/OWNER/SHA256.safetensors`.
final class ModuleStore: Sendable {
    let objects: any ObjectStore
    /// A header may have some megabytes of JSON, as its uploader chooses: one at a time is read, and a few may wait.
    private let lanes = BlockingLanes("modules", count: 1, limit: 8)
    /// Parsed headers by the SHA-256 of their file.
    private let known = Mutex<[String: ModuleFile.About]>([:])

    init(objects: any ObjectStore) { self.objects = objects }

    private func prefix(_ owner: String) -> String { "modules/\(owner)/" }
    private func key(_ hash: String, _ owner: String) -> String { "\(prefix(owner))\(hash).safetensors" }

    /// - Throws: ``CohortError`` `notFound`, naming the field.
    func object(_ hash: String, of owner: String, field: String) async throws -> ObjectReference {
        let key = key(hash, owner)
        guard ModuleSpec.isHash(hash), let bytes = try await objects.size(of: key) else {
            throw CohortError(
                .notFound,
                "\(field): you have no module \(hash.prefix(12).description.printable(max: 20)) here: upload its file first (POST /modules)"
            )
        }
        return ObjectReference(key: key, sha256: hash, bytes: bytes)
    }

    func delete(_ object: ObjectReference) async throws { try await objects.delete(object.key) }

    func hashes(of owner: String) async throws -> Set<String> {
        Set(
            try await objects.list(prefix: prefix(owner)).compactMap {
                $0.split(separator: "/").last?.split(separator: ".").first.map(String.init)
            })
    }

    /// - Throws: ``CohortError`` `invalid` for a file that is not a module.
    func add(_ file: BodyFile, of owner: String) async throws -> API.Module {
        let about = try await lanes.run { [path = file.path] in try ModuleFile.about(at: path) }
        let writer = try await objects.writer(key: key(file.sha256, owner))
        do {
            for try await chunk in FileReader.chunks(of: FilePath(file.path), from: 0) { try await writer.write(chunk) }
        } catch {
            await writer.abort()
            throw error
        }
        let stored = try await writer.finish()
        return API.Module(stored, about)
    }

    /// Returns a module's header, which is read once.
    private func about(_ object: ObjectReference) async throws -> ModuleFile.About {
        if let about = known.withLock({ $0[object.sha256] }) { return about }
        var start: [UInt8] = []
        for try await chunk in try await objects.read(object.key, from: 0) {
            start += chunk
            // The length of the header stands in front of it: it is decoded once it is whole.
            guard try ModuleFile.isHeaderWhole(start, fileBytes: object.bytes) else { continue }
            let about = try await lanes.run { [start] in try ModuleFile.about(start: start, fileBytes: object.bytes) }
            guard let about else { break }
            known.withLock { known in
                if known.count >= 1_000 { known.removeAll() }
                known[object.sha256] = about
            }
            return about
        }
        throw CohortError(.invalid, "the module's file ends within its header")
    }

    func all(of owner: String) async throws -> [API.Module] {
        var modules: [API.Module] = []
        for hash in try await hashes(of: owner).sorted() {
            do {
                let object = try await object(hash, of: owner, field: "module")
                modules.append(API.Module(object, try await about(object)))
            } catch let error as CohortError where error.code == .notFound {
                // It was deleted this moment.
            }
        }
        return modules
    }
}

extension API.Module {
    init(_ object: ObjectReference, _ about: ModuleFile.About) {
        self.init(
            sha256: object.sha256, bytes: object.bytes, format: about.module.format.rawValue, inputs: about.inputs,
            inputShape: about.module.inputShape, outputs: about.outputs, task: about.task,
            parameters: about.module.tensors.reduce(0) { $0 + $1.count })
    }
}
