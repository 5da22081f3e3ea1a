/// The bodies of the HTTP API, shared by server and client.
public enum API {
    /// RFC 9457, `application/problem+json`.
    public struct Problem: Codable, Sendable {
        public var type: String
        public var title: String
        public var status: Int
        public var detail: String
        public var code: String
        public init(title: String, status: Int, detail: String, code: String) {
            self.type = "about:blank"
            self.title = title
            self.status = status
            self.detail = detail
            self.code = code
        }
    }
}
