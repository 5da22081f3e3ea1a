import CohortCore
import NIOCore
import Testing

@testable import CohortServer

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

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

    @Test func `a body that ends early is reported as cut`() throws {
        for length in [0, 20, 100, Self.body.utf8.count - 14] {
            #expect(throws: (any Error).self, "\(length)") {
                try Self.parts([String(decoding: Self.body.utf8.prefix(length), as: UTF8.self)])
            }
        }
    }

    @Test func `bodies with any bytes changed, in pieces of any size, are parts or an error`() throws {
        var generator = SeededGenerator(seed: 4)
        let pieces = [
            "\r\n", "--", "--edge", "--edge--", "\r\n--edge\r\n", "\"", "\0", ":", "; name=", "Content-Disposition: form-data; name=\"a\"",
        ]
        var whole = 0
        let cases = getenv("COHORT_FUZZ_CASES").flatMap { Int(String(cString: $0)) } ?? 20_000
        for _ in 0..<cases {
            var body = Array(Self.body.utf8)
            for _ in 0..<generator.next(below: 4) {
                let place = generator.next(below: body.count)
                switch generator.next(below: 3) {
                case 0: body[place] = UInt8(generator.next(below: 256))
                case 1: body.removeSubrange(place..<min(body.count, place + 1 + generator.next(below: 30)))
                default: body.insert(contentsOf: pieces[generator.next(below: pieces.count)].utf8, at: place)
                }
            }
            var parser = try MultipartParser(contentType: Self.type)
            var open = 0
            var isInTurn = true
            do {
                while !body.isEmpty {
                    let count = min(body.count, 1 + generator.next(below: 60))
                    for event in try parser.feed(ByteBuffer(bytes: body.prefix(count))) {
                        switch event {
                        case .began: open += 1
                        case .body: isInTurn = isInTurn && open == 1
                        case .ended: open -= 1
                        }
                        isInTurn = isInTurn && (0...1).contains(open)
                    }
                    body.removeFirst(count)
                }
                try parser.end()
                #expect(open == 0)
                whole += 1
            } catch is CohortError {}
            #expect(isInTurn)
        }
        #expect(whole > 1_000, "\(whole)")
    }

    @Test(arguments: [nil, "text/plain", "multipart/form-data", "multipart/form-data; boundary="]) func `another content type is refused`(
        type: String?
    ) {
        #expect(throws: (any Error).self) { try MultipartParser(contentType: type) }
    }
}
