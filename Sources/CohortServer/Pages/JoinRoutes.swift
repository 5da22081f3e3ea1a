import CohortCore
import CohortSystem
import Crypto
import HTTPTypes
import Hummingbird
import NIOCore
import Synchronization
import _NIOFileSystem

/// Hands Cohort itself out to the machines that should join: `curl http://SERVER:8080/join | sh`.
struct JoinRoutes: Sendable {
    let offer: JoinOffer
    let isTLS: Bool
    private let archives = ArchiveDigest()

    private let basePath: String

    init(offer: JoinOffer, isTLS: Bool, basePath: String) {
        self.offer = offer
        self.basePath = basePath
        self.isTLS = isTLS
    }

    var routes: [Route] {
        [
            .open(.get, "/join", summary: "A shell script that installs Cohort for who runs it, and starts a peer of this server") {
                request, _ in
                let archives = try await offered()
                guard let host = request.browserHost else {
                    throw CohortError(.invalid, "the Host header is no host name with a port: the script would not find this server")
                }
                let script = JoinScript.text(
                    server: "\(isTLS || offer.isBehindProxy ? "https" : "http")://\(host)\(basePath)", archives: archives, offer: offer)
                return .text(script, type: "text/x-shellscript; charset=utf-8")
            },
            .open(.get, "/join/archive", summary: "The archive that the script installs; its ETag is the SHA-256") { request, _ in
                let archive = try await archive(for: request.query("machine"))
                let path = FilePath(archive.path)
                return try await .download(
                    request, ObjectReference(key: "join", sha256: archive.sha256, bytes: archive.bytes),
                    headers: [.contentDisposition: "attachment; filename=\"\(archive.name)\""]
                ) { offset in
                    FileReader.chunks(of: path, from: Int64(offset))
                }
            },
        ]
    }

    private func archive(for machine: String?) async throws -> Archive {
        let offered = try await offered()
        guard let machine else { return offered[0] }
        guard let archive = offered.first(where: { $0.machine == machine }) else {
            let names = offered.map(\.name).joined(separator: ", ")
            throw CohortError(.notFound, "this server has no archive for \(machine.prefix(40)), only \(names)")
        }
        return archive
    }

    /// The archive that the server was given, then those for other machines that lie beside it.
    private func offered() async throws -> [Archive] {
        guard let path = offer.archive else {
            throw CohortError(
                .notFound,
                "this server has no archive to hand out: start it from what `make dist` makes, or set COHORT_ARCHIVE; a machine that has `cohort` joins with `cohort peer`"
            )
        }
        let given = try await archives.archive(at: path)
        var offered = [given]
        for machine in Archive.machines where given.machine != nil && machine != given.machine {
            let name = given.name.replacing("linux-\(given.machine ?? "")", with: "linux-\(machine)")
            let other = path.dropLast(given.fileName.count) + name
            guard try await FileSystem.shared.info(forFileAt: FilePath(String(other)))?.type == .regular else { continue }
            offered.append(try await archives.archive(at: String(other)))
        }
        return offered
    }
}

/// The address and archive for machines that join by the server's script.
public struct JoinOffer: Sendable {
    /// Path of the `.tar.gz` that `make dist` makes; those of the same version for other machines are found beside it. nil: none is handed out.
    public var archive: String?
    /// Clients see `https` where the server itself speaks plain HTTP.
    public var isBehindProxy: Bool
    /// The pins of a self-signed certificate: SHA-256 of the certificate, 64 hexadecimal digits, and of its public key (SPKI) in base64.
    public var pins: (certificate: String, publicKey: String)?

    public init(archive: String? = nil, isBehindProxy: Bool = false, pins: (certificate: String, publicKey: String)? = nil) {
        self.archive = archive
        self.isBehindProxy = isBehindProxy
        self.pins = pins
    }
}

struct Archive: Sendable {
    let path: String
    let bytes: Int
    let sha256: String

    /// The machines that there may be an archive for, as `uname -m` names them.
    static let machines = ["x86_64", "aarch64"]

    var fileName: Substring { path.split(separator: "/").last ?? "" }

    /// The last part of the path; what cannot stand in a shell's word or a header is left out.
    var name: String { String(fileName.filter { $0.isASCII && ($0.isLetter || $0.isNumber || "._-".contains($0)) }) }

    /// The machine that the name ends with; nil: another name than `make dist` gives.
    var machine: String? { Self.machines.first { name.contains("linux-\($0)") } }
}

/// Reads each archive once, and again when it has changed.
private actor ArchiveDigest {
    private var known: [String: (archive: Archive, changed: FileInfo.Timespec)] = [:]

    func archive(at path: String) async throws -> Archive {
        do {
            guard let info = try await FileSystem.shared.info(forFileAt: FilePath(path)), info.type == .regular else {
                throw CohortError(.notFound, "the archive \(path) that this server should hand out is not there (COHORT_ARCHIVE)")
            }
            if let known = known[path], known.changed == info.lastDataModificationTime, known.archive.bytes == Int(info.size) {
                return known.archive
            }
            var digest = SHA256()
            for try await chunk in FileReader.chunks(of: FilePath(path), from: 0) { digest.update(data: chunk) }
            let archive = Archive(path: path, bytes: Int(info.size), sha256: digest.finalize().hexadecimal)
            known[path] = (archive, info.lastDataModificationTime)
            return archive
        } catch let error as FileSystemError {
            throw CohortError(.unavailable, "the archive \(path) cannot be read: \(error.message)")
        }
    }
}

enum FileReader {
    /// The file in chunks of at most 1 MiB.
    static func chunks(of path: FilePath, from offset: Int64) -> AsyncThrowingStream<[UInt8], any Error> {
        let position = Mutex(offset)
        return AsyncThrowingStream {
            // Opened for each chunk: a client that disconnects leaves no file open.
            let chunk = try await FileSystem.shared.withFileHandle(forReadingAt: path) { handle in
                try await handle.readChunk(fromAbsoluteOffset: position.withLock { $0 }, length: .mebibytes(1))
            }
            position.withLock { $0 += Int64(chunk.readableBytes) }
            return chunk.readableBytes == 0 ? nil : Array(buffer: chunk)
        }
    }
}
