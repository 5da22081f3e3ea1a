import CohortAPI
import CohortCore
import CohortSession
import CohortSystem
import DirectoryObjects
import FoundationEssentials
import SQLiteDocuments
import Subprocess
import Testing

@testable import CohortServer

/// Files that are packed: made by Python, whose gzip and zipfile are others' work.
@Suite struct UnpackerTests {
    /// Runs a few lines of Python that put bytes into `out`; `csv` is what is packed.
    private func packed(_ script: String, csv: [UInt8] = UnpackerTests.csv) async throws -> [UInt8] {
        let folder = FileManager.default.temporaryDirectory.appending(path: "cohort-packed-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try Data(csv).write(to: URL(filePath: "\(folder)/csv"))
        let program = """
            import gzip, io, os, sys, zipfile
            csv = open(sys.argv[1] + "/csv", "rb").read()
            out = io.BytesIO()
            class Pipe(io.RawIOBase):  # Cannot be sought in: sizes then stand behind the bytes.
                def writable(self): return True
                def write(self, bytes): return out.write(bytes)
            \(script)
            open(sys.argv[1] + "/packed", "wb").write(out.getvalue())
            """
        let result = try await run(
            .name("python3"), arguments: ["-c", program, folder], output: .discarded, error: .string(limit: 65_536))
        try #require(result.terminationStatus.isSuccess, "\(result.standardError)")
        return [UInt8](try Data(contentsOf: URL(filePath: "\(folder)/packed")))
    }

    static let csv: [UInt8] = Array(
        ("number,label\n" + (0..<60_000).map { "\($0 * 7919 % 100_003),\($0 % 3)\n" }.joined()).utf8)

    /// - Parameter pieces: bytes that are fed at once.
    private func unpack(_ bytes: [UInt8], pieces: Int = 65_536) throws -> [UInt8] {
        let unpacker = Unpacker()
        var all: [UInt8] = []
        func drain() throws {
            while let next = try unpacker.next() {
                #expect(!next.isEmpty && (unpacker.isPlain || next.count <= Unpacker.block))
                all += next
            }
        }
        for start in stride(from: 0, to: bytes.count, by: pieces) {
            unpacker.feed(bytes[start..<min(start + pieces, bytes.count)])
            try drain()
        }
        unpacker.finish()
        try drain()
        try unpacker.checkWhole()
        return all
    }

    static let good = [
        "out.write(gzip.compress(csv))", "out.write(gzip.compress(csv[:1000]) + gzip.compress(csv[1000:]))",
        "out.write(gzip.compress(csv) + bytes(512))",
        "with zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('../../data.csv', csv)",
        "with zipfile.ZipFile(out, 'w', zipfile.ZIP_STORED) as z: z.writestr('data.csv', csv)",
        "with zipfile.ZipFile(Pipe(), 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('data.csv', csv)",
        "with zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED) as z:\n    f = z.open('data.csv', 'w', force_zip64=True)\n    f.write(csv)\n    f.close()",
        "with zipfile.ZipFile(Pipe(), 'w', zipfile.ZIP_DEFLATED) as z:\n    f = z.open('data.csv', 'w', force_zip64=True)\n    f.write(csv)\n    f.close()",
        "with zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED) as z:\n    z.writestr('folder/', b'')\n    z.writestr('folder/data.csv', csv)\n    z.writestr('__MACOSX/folder/._data.csv', b'x' * 500)",
        "out.write(csv)",
    ]

    @Test(arguments: good) func `what is packed comes out as it went in, in pieces of any size`(script: String) async throws {
        let bytes = try await packed(script)
        for pieces in [1 << 20, 65_536, 997, 7] { #expect(try unpack(bytes, pieces: pieces) == Self.csv, "pieces of \(pieces)") }
        let few: [UInt8] = Array("a,b\n1,2\n".utf8)
        let small = try await packed(script, csv: few)
        #expect(try unpack(small, pieces: 1) == few)
        // A cut anywhere is reported: no rows are missing silently.
        guard !script.hasPrefix("out.write(csv)") else { return }
        for cut in [bytes.count / 3, bytes.count / 2] {
            #expect(throws: CohortError.self, "cut at \(cut)") { _ = try unpack(Array(bytes[..<cut])) }
        }
    }

    @Test(arguments: [
        (
            "with zipfile.ZipFile(out, 'w') as z:\n    z.writestr('a.csv', csv)\n    z.writestr('b.csv', csv)",
            "holds several files ('a.csv', 'b.csv', …)"
        ),
        ("with zipfile.ZipFile(out, 'w') as z: pass", "is empty: it must hold one CSV"),
        ("with zipfile.ZipFile(out, 'w') as z: z.writestr('[Content_Types].xml', csv)", "is a spreadsheet"),
        (
            "with zipfile.ZipFile(out, 'w', zipfile.ZIP_BZIP2) as z: z.writestr('a.csv', csv)",
            "packed in a way that Cohort does not know (method 12)"
        ),
        ("b = bytearray(gzip.compress(csv)); b[-6] ^= 1; out.write(b)", "the gzip file is damaged"),
        ("b = bytearray(gzip.compress(csv)); b[len(b) // 2] ^= 255; out.write(b)", "the gzip file is damaged"),
        ("out.write(gzip.compress(csv) + b'more')", "the gzip file is damaged"),
        (
            "with zipfile.ZipFile(out, 'w') as z: z.writestr('a.csv', csv)\nb = bytearray(out.getvalue()); b[2000] ^= 1; out.seek(0); out.write(b)",
            "the ZIP file is damaged"
        ),
        (
            "with zipfile.ZipFile(out, 'w') as z: z.writestr('a.csv', csv)\nb = bytearray(out.getvalue()); b[6] |= 1; out.seek(0); out.write(b)",
            "is encrypted"
        ),
        (
            "with zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED) as z:\n    z.writestr('__MACOSX/x', bytes(20 << 20))\n    z.writestr('a.csv', csv)",
            "more than one CSV"
        ),
    ]) func `files that do not unpack are reported`(script: String, sentence: String) async throws {
        let bytes = try await packed(script)
        for pieces in [1 << 20, 61] {
            let error = #expect(throws: CohortError.self) { _ = try unpack(bytes, pieces: pieces) }
            #expect(error?.code == .invalid && error?.message.contains(sentence) == true, "\(error?.message ?? "")")
        }
    }

    @Test func `a name loses the ending of what packed it, and a table of tensors is not packed`() {
        for (name, unpacked) in [("a.csv.gz", "a.csv"), ("A.ZIP", "A"), (".gz", ".gz"), ("a.csv", "a.csv"), ("x.gz.csv", "x.gz.csv")] {
            #expect(Unpacker.unpackedName(name) == unpacked)
        }
        // A header of 0x00088b1f bytes.
        #expect(!Unpacker.isPacked([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, UInt8(ascii: "{")]))
        #expect(!Unpacker.isPacked([0x1f, 0x8b]) && !Unpacker.isPacked([]))
    }

    @Test func `a packed upload is stored as the CSV that it holds, and its limit counts that`() async throws {
        let small: [UInt8] = Array("x,y\n1,a\n2,b\n".utf8)
        let bytes = try await packed(
            "with zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('/etc/passwd', csv)", csv: small)
        let bomb = try await packed("out.write(gzip.compress(bytes(64 << 20)))", csv: [])
        #expect(bomb.count < 100_000)
        try await withServer(change: { $0.uploadLimit = 1 << 20 }) { world in
            let ada = try await world.signup()
            _ = try await world.register("one", try await world.joinToken(ada))
            func send(_ bytes: [UInt8], _ filename: String) async throws -> ServerWorld.Answer {
                var body = Array(
                    "--edge\r\nContent-Disposition: form-data; name=\"peers\"\r\n\r\n1\r\n--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"\(filename)\"\r\n\r\n"
                        .utf8)
                body += bytes + Array("\r\n--edge--\r\n".utf8)
                return try await world.call(
                    "POST", "/sessions/start", bytes: body, token: ada, type: "multipart/form-data; boundary=edge")
            }
            #expect(try await send(bomb, "bomb.csv.gz").status == 413)
            let broken = try await send(Array(bytes[..<40]), "a.zip")
            #expect(broken.status == 400 && broken.detail.contains("the ZIP file breaks off"), "\(broken)")
            #expect(try await world.stored.filter { Session.isUploadKey($0) }.isEmpty)
            let started = try await send(bytes, "rows.csv.zip")
            #expect(started.status == 201, "\(started)")
            let id = try CohortJSON.decode(API.SessionStarted.self, from: started.body.utf8).sessionId
            let session = try #require(try await world.documents.session(id: id))
            #expect(session.filename == "rows.csv" && session.upload?.bytes == small.count)
            #expect(try await world.objects.get(try #require(session.upload).key) == small)
        }
    }
}
