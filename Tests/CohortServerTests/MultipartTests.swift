import NIOCore
import Testing

@testable import CohortServer

@Suite struct Multipart {
    private static let type = "multipart/form-data; boundary=\"edge\""
    private static let body =
        "preamble\r\n--edge\r\nContent-Disposition: form-data; name=\"peers\"\r\n\r\n3\r\n--edge\r\n"
        + "Content-Disposition: form-data; name=\"empty\"\r\n\r\n\r\n--edge\r\n"
        + "content-disposition: form-data; filename=\"../a \\\"b\\\".csv\"; name=file\r\nContent-Type: text/csv\r\n\r\n"
        + "x,y\r\n1,2\r\n--edgy\r\n\r\n\r\n--edge--\r\nepilogue"

    /// Name, filename and content of each part.
    private static func parts(_ chunks: [String]) throws -> [[String?]] {
        var parser = try MultipartParser(contentType: type)
        var parts: [[String?]] = []
        for chunk in chunks {
            for event in try parser.feed(ByteBuffer(string: chunk)) {
                switch event {
                case .began(let part): parts.append([part.name, part.filename, ""])
                case .body(let bytes): parts[parts.count - 1][2]? += String(buffer: bytes)
                case .ended: break
                }
            }
        }
        try parser.end()
        return parts
    }

    @Test func `the parts are the same wherever the body is cut`() throws {
        let expected: [[String?]] = [["peers", nil, "3"], ["empty", nil, ""], ["file", "a \"b\".csv", "x,y\r\n1,2\r\n--edgy\r\n\r\n"]]
        #expect(try Self.parts([Self.body]) == expected)
        #expect(try Self.parts(Self.body.utf8.map { String(decoding: [$0], as: UTF8.self) }) == expected)
        for cut in 0..<Self.body.utf8.count {
            let bytes = Array(Self.body.utf8)
            let halves = [bytes[..<cut], bytes[cut...]].map { String(decoding: $0, as: UTF8.self) }
            #expect(try Self.parts(halves) == expected, "cut at \(cut)")
        }
    }

    @Test func `a body that ends early is said to be cut`() throws {
        for length in [0, 20, 100, Self.body.utf8.count - 14] {
            #expect(throws: (any Error).self, "\(length)") {
                try Self.parts([String(decoding: Self.body.utf8.prefix(length), as: UTF8.self)])
            }
        }
    }

    @Test(arguments: [nil, "text/plain", "multipart/form-data", "multipart/form-data; boundary="]) func `another content type is refused`(
        type: String?
    ) {
        #expect(throws: (any Error).self) { try MultipartParser(contentType: type) }
    }
}
