import Hummingbird

enum PageRoutes {
    /// As the browser reached it; nil when it could end a word of a command line.
    static func host(_ request: Request) -> String? {
        guard let host = request.head.authority, !host.isEmpty else { return nil }
        return host.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || ".:-[]".contains($0)) } ? host : nil
    }
}
