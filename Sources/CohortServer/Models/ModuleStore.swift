import CohortAPI
import CohortCore
import CohortSystem
import CohortTraining
import FoundationEssentials
import HTTPTypes
import Hummingbird
import Synchronization
import SystemPackage

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
