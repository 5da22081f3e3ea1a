public import CohortCore
import CohortSystem
import Crypto
import SystemPackage

/// A custom module before it is trained, as one `.safetensors` file: its weights as tensors, the module's file as bytes (U8)
/// named `__module__`, and in `__metadata__` as JSON texts what it `takes` and `gives`: docs/model-file.md has it all. The model file that comes
/// out of a session has the same tensors.
public struct ModuleFile: Hashable, Sendable {
    public static let format = "cohort-module/1"
    /// The name of the module's bytes, also in a model file.
    public static let bytesName = "__module__"
    /// The maximum size of a file for a session.
    public static let maxBytes = 1 << 30
    /// Names and shapes stand in it twice: as tensors, and in `module`.
    static let maxHeader = 2 * Safetensors.maxHeaderBytes(tensors: Safetensors.maxTensors)

    /// The description of a module in its file's metadata `module`.
    public struct About: Codable, Hashable, Sendable {
        public var inputs: Int
        public var outputs: Int
        public var task: LearningTask
        public var module: ModuleSpec

        public init(inputs: Int, outputs: Int, task: LearningTask, module: ModuleSpec) {
            self.inputs = inputs
            self.outputs = outputs
            self.task = task
            self.module = module
        }

        /// - Throws: ``CohortError`` `invalid`, with the reason.
        public func spec() throws -> ModelSpec {
            let spec = ModelSpec(inputs: inputs, hidden: [], outputs: outputs, task: task, module: module)
            try spec.check()
            return spec
        }

        /// - Throws: ``CohortError`` `invalid` when the module is for other data.
        public func check(for schema: TableSchema) throws {
            guard task == schema.task else {
                throw CohortError(
                    .invalid, "the module is for \(task), and '\(schema.target)' is a \(schema.task): task says which it shall be")
            }
            guard inputs == schema.featureCount else {
                let shape = module.inputShape.isEmpty ? "" : " (of shape \(module.inputShape))"
                throw CohortError(
                    .invalid,
                    "the module takes \(inputs) numbers a row\(shape); the columns make \(schema.featureCount) features: `cohort inspect` lists them, --ignore leaves one out"
                )
            }
            guard outputs == schema.outputCount else {
                throw CohortError(
                    .invalid,
                    "the module gives \(outputs) outputs; '\(schema.target)' \(task == .classification ? "has \(schema.outputCount) classes" : "is one number"): its last layer must give as many"
                )
            }
        }
    }

    public var about: About
    /// The saved parameters: flat, in the order of its tensors.
    public var parameters: [Float]
    /// The bytes written by `torch.jit.save`.
    public var module: [UInt8]

    public init(about: About, parameters: [Float], module: [UInt8]) {
        self.about = about
        self.parameters = parameters
        self.module = module
    }

    public func encode() throws -> [UInt8] {
        try Safetensors.encode(
            about.module.tensors, parameters,
            metadata: ["format": Self.format, "module": String(decoding: try CohortJSON.encode(about), as: UTF8.self)],
            bytes: (Self.bytesName, module))
    }

    /// Reads the description of the module from a file's header.
    /// - Parameters:
    ///   - start: the file's first bytes.
    ///   - fileBytes: of the whole file.
    /// - Returns: nil when more of the file is needed.
    /// - Throws: ``CohortError`` `invalid` for a file that is no such file, or not whole.
    public static func about(start: [UInt8], fileBytes: Int) throws -> About? {
        guard start.count >= min(8, fileBytes) else { return nil }
        let needed = try Safetensors.headerBytes(start, limit: maxHeader)
        guard start.count >= needed else {
            guard fileBytes >= needed else { throw CohortError(.invalid, "the .safetensors file ends within its header") }
            return nil
        }
        return try about(try Safetensors(header: start[..<needed], allowsBytes: true), fileBytes: fileBytes)
    }

    /// Returns whether these first bytes of a file contain its whole header.
    /// - Throws: ``CohortError`` `invalid` for a file that is no such file.
    public static func isHeaderWhole(_ start: [UInt8], fileBytes: Int) throws -> Bool {
        guard start.count >= min(8, fileBytes) else { return false }
        return try start.count >= min(fileBytes, Safetensors.headerBytes(start, limit: maxHeader))
    }

    /// - Throws: ``CohortError`` `invalid` for a file that is no such file, or not whole.
    public static func about(at path: String) throws -> About {
        do {
            let file = try FileDescriptor.open(path, .readOnly)
            return try file.closeAfter {
                let size = try Int(file.seek(offset: 0, from: .end))
                let needed = try Safetensors.headerBytes(try file.bytes(8), limit: maxHeader)
                guard let about = try about(start: try file.bytes(min(size, needed)), fileBytes: size) else {
                    throw CohortError(.invalid, "the .safetensors file ends within its header")
                }
                return about
            }
        } catch let error as Errno {
            throw CohortError(.invalid, "\(path) cannot be read: \(error)")
        }
    }

    private static func about(_ header: Safetensors, fileBytes: Int) throws -> About {
        guard header.metadata["format"] == format, let text = header.metadata["module"] else {
            throw CohortError(
                .invalid,
                "this is no module's file: `cohort train --model net.pt` makes one of what torch.jit.save wrote, and so does Python's cohort.save_module"
            )
        }
        guard header.fileBytes == fileBytes else {
            throw CohortError(.invalid, "the file has \(fileBytes) bytes where its header says \(header.fileBytes): it is not whole")
        }
        guard header.bytes[bytesName] != nil else {
            throw CohortError(.invalid, "the file has no bytes named '\(bytesName)': the module itself is missing")
        }
        let about: About
        do { about = try CohortJSON.decode(About.self, from: text.utf8) } catch let error as CohortError {
            throw CohortError(.invalid, "the file's metadata 'module' cannot be read: \(error.message)")
        }
        _ = try about.spec()
        return about
    }

    /// - Throws: ``CohortError`` `invalid` for a file that is no such file, not whole, or not what it says.
    public static func decode(_ bytes: [UInt8]) throws -> ModuleFile {
        let needed = try Safetensors.headerBytes(bytes, limit: maxHeader)
        guard bytes.count >= needed else { throw CohortError(.invalid, "the .safetensors file ends within its header") }
        let header = try Safetensors(header: bytes[..<needed], allowsBytes: true)
        let about = try about(header, fileBytes: bytes.count)
        let spec = try about.spec()
        let parameters = try header.floats(spec.tensors, in: bytes)
        guard parameters.allSatisfy(\.isFinite) else { throw CohortError(.invalid, "the module's weights are not all finite numbers") }
        return ModuleFile(about: about, parameters: parameters, module: try Self.bytes(of: about.module, header, in: bytes))
    }

    /// - Throws: ``CohortError`` `invalid` when they are not there, or not those of the spec.
    static func bytes(of spec: ModuleSpec, _ header: Safetensors, in file: [UInt8]) throws -> [UInt8] {
        guard let range = header.bytes[bytesName], range.upperBound <= file.count else {
            throw CohortError(.invalid, "the file has no bytes named '\(bytesName)': the module itself is missing")
        }
        let bytes = Array(file[range])
        guard SHA256.hash(data: bytes).hexadecimal == spec.sha256 else {
            throw CohortError(.invalid, "the module in the file is not the one that its sha256 says: the file was damaged")
        }
        return bytes
    }
}
