import CohortClient
import CohortCore
import Testing

@Suite
struct ServerURLTests {
    @Test(arguments: [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"), ("https://cohort.example.org/", "https://cohort.example.org"),
        ("http://[::1]:80", "http://[::1]:80"), ("https://example.org/behind/a/proxy//", "https://example.org/behind/a/proxy"),
    ])
    func `is taken with http or https, and without its last slash`(text: String, kept: String) throws {
        #expect(try ServerURL(text).text == kept)
    }

    @Test(arguments: [
        "", "localhost:8080", "127.0.0.1:8080", "ftp://example.org", "http://", "http:///path", "http://user:secret@example.org",
        "http://example.org?x=1", "http://example.org:99999", "http://example.org#top", "not a url",
    ])
    func `is refused with a sentence`(text: String) {
        #expect {
            _ = try ServerURL(text)
        } throws: { error in
            (error as? CohortError)?.code == .invalid && "\(error)".contains("it must look like http://")
        }
    }

    @Test
    func `completes a path, and leaves a whole URL alone`() throws {
        let server = try ServerURL("http://example.org/cohort")
        #expect(try server.resolve("/objects/a.csv?signature=1") == "http://example.org/cohort/objects/a.csv?signature=1")
        #expect(try server.resolve("https://s3.example.org/a?b") == "https://s3.example.org/a?b")
        #expect(throws: CohortError.self) { try server.resolve("file:///etc/passwd") }
    }
}
