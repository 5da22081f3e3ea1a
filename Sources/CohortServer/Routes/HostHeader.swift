import Hummingbird

enum PageRoutes {
    /// The host as the browser reached it; nil when it contains characters with a meaning in a shell.
    static func host(_ request: Request) -> String? {
        guard let host = request.head.authority, !host.isEmpty else { return nil }
        return host.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || ".:-[]".contains($0)) } ? host : nil
    }
}
