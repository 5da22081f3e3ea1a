import CohortCore
import CohortSystem
import Foundation
import TestSupport
import Testing

@testable import S3Objects

/// The examples of "Authenticating Requests (AWS Signature Version 4)" in the Amazon S3 API Reference, with their published signatures.
@Suite struct S3SignatureTests {
    private static let signature = SignatureV4(
        credentials: S3Credentials(
            accessKeyId: "AKIAIOSFODNN7EXAMPLE", secretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"), region: "us-east-1")
    private static let date = Date(timeIntervalSince1970: 1_369_353_600)
    private static let host = "examplebucket.s3.amazonaws.com"

    struct Example: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var method = "GET"
        var path = "/"
        var query: [(String, String)] = []
        var headers: [(String, String)] = []
        var payload = SignatureV4.emptyPayload
        var signature: String
    }

    static let examples = [
        Example(
            testDescription: "GET of a range", path: "/test.txt", headers: [("range", "bytes=0-9")],
            signature: "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
        Example(
            testDescription: "PUT of a name to be encoded", method: "PUT", path: "/" + "test$file.text".percentEncoded(),
            headers: [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")],
            payload: "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
            signature: "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"),
        Example(
            testDescription: "a parameter without a value", query: [("lifecycle", "")],
            signature: "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        Example(
            testDescription: "two parameters", query: [("prefix", "J"), ("max-keys", "2")],
            signature: "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ]

    @Test(arguments: examples)
    func `Headers are signed as published`(_ example: Example) {
        let headers = Self.signature.headers(
            example.method, path: example.path, query: example.query,
            headers: example.headers + [("host", Self.host), ("x-amz-content-sha256", example.payload)], payload: example.payload,
            date: Self.date)
        let authorization = headers.first { $0.0 == "authorization" }?.1 ?? ""
        #expect(
            authorization.hasPrefix("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders="))
        #expect(authorization.hasSuffix("Signature=\(example.signature)"))
        #expect(headers.contains { $0 == ("x-amz-date", "20130524T000000Z") })
    }

    @Test func `a link is signed as published`() {
        let query = Self.signature.presignedQuery("GET", host: Self.host, path: "/test.txt", seconds: 86_400, date: Self.date)
        #expect(query.hasSuffix("X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"))
        #expect(query.contains("X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&"))
    }

    @Test func `a session token is signed as well, and goes along`() {
        var signature = Self.signature
        signature.credentials.sessionToken = "token/with+signs=="
        let headers = signature.headers("GET", path: "/", query: [], headers: [("host", Self.host)], payload: "p", date: Self.date)
        #expect(headers.contains { $0 == ("x-amz-security-token", "token/with+signs==") })
        #expect(headers.first { $0.0 == "authorization" }?.1.contains("SignedHeaders=host;x-amz-date;x-amz-security-token,") == true)
        let query = signature.presignedQuery("GET", host: Self.host, path: "/", seconds: 1, date: Self.date)
        #expect(query.contains("&X-Amz-Security-Token=token%2Fwith%2Bsigns%3D%3D&"))
    }
}

@Suite struct S3AnswerTests {
    private func read(_ text: String) -> S3Answer? { S3Answer([UInt8](text.utf8)) }

    @Test func `elements, texts and entities are read`() throws {
        let answer = try #require(
            read(
                """
                <?xml version="1.0" encoding="UTF-8"?>
                <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>true</IsTruncated><Empty/>
                <Contents><Key>a&amp;b &lt;c&gt; &quot;&apos; &#233;&#xe9; &unknown; &</Key></Contents><Contents><Key>d</Key></Contents>
                </ListBucketResult>
                """))
        #expect(answer.name == "ListBucketResult" && answer["IsTruncated"] == "true" && answer["Empty"] == "" && answer["Other"] == nil)
        #expect(answer.all("Contents").map { $0["Key"] } == ["a&b <c> \"' éé &unknown; &", "d"])
    }

    @Test(arguments: [
        "", "not XML", "<a>", "<a><b></a></b>", "<a", "</a>", "<a></b>", String(repeating: "<a>", count: 100_000), "<html><body><p></html>",
    ])
    func `what is not well-formed is no answer`(_ text: String) {
        #expect(read(text) == nil)
    }
}

@Suite struct S3AddressTests {
    private func address(_ url: String) throws -> S3Address { try S3Address(url, setting: "COHORT_OBJECTS_URL") }

    @Test func `its parts are read`() throws {
        let plain = try address("s3://my-bucket")
        #expect(plain.bucket == "my-bucket" && plain.prefix == "" && plain.region == nil && plain.endpoint == nil && !plain.isPathStyle)
        let full = try address(
            "s3://b.c.d/team/one/?endpoint=https%3A%2F%2FS3.lab:9000&region=eu-central-1&style=virtual&cacertfile=/ca.pem&create=yes&public_endpoint=http://10.0.0.1:8333/"
        )
        #expect(full.bucket == "b.c.d" && full.prefix == "team/one/" && full.region == "eu-central-1" && full.creates && !full.isPathStyle)
        #expect(full.endpoint?.description == "https://s3.lab:9000" && full.publicEndpoint?.description == "http://10.0.0.1:8333")
        #expect(try address("s3://bucket?endpoint=https://host:443").endpoint?.authority == "host", "as the Host header has it")
        #expect(try address("s3://bucket?endpoint=http://[::1]:8333").endpoint?.authority == "[::1]:8333")
        #expect(try address("s3://bucket?endpoint=http://host").isPathStyle)
        #expect(try address("s3://with.dots").isPathStyle, "the certificate of Amazon is good for one name before its own")
    }

    @Test(arguments: [
        ("s3:bucket", "scheme"), ("s3://", "bucket"), ("s3://Bucket", "bucket"), ("s3://ab", "bucket"), ("s3://a..b", "bucket"),
        ("s3://bucket/../x", "key"), ("s3://id:secret@bucket", "AWS_ACCESS_KEY_ID"), ("s3://bucket?endpoint=host:1", "https://"),
        ("s3://bucket?endpoint=http://", "endpoint"), ("s3://bucket?endpoint=http://h:0", "endpoint"),
        ("s3://bucket?endpoint=http://h:", "endpoint"), ("s3://bucket?endpoint=http://h/path", "endpoint"),
        ("s3://bucket?endpoint=http://id:secret@h", "credentials"), ("s3://bucket?style=other", "style"),
        ("s3://bucket?create=1", "create"),
        ("s3://bucket?region=a/b", "region"), ("s3://bucket?regoin=x", "regoin"), ("s3://bucket?endpoint=%zz", "% code"),
        ("s3://bucket?cacertfile=/ca.pem", "https"), ("s3://bucket?public_endpoint=http://h", "public_endpoint"),
    ])
    func `an invalid address is refused with what is wrong, and no secret`(_ url: String, _ part: String) async {
        let sentence = await expectError(.invalid) { try address(url) }
        #expect(sentence.contains(part) && !sentence.contains("secret"), "\(sentence)")
    }
}
