import Hummingbird

extension Request {
    /// The host as the browser reached it; nil when it contains characters with a meaning in a shell.
    var browserHost: String? {
        guard let host = head.authority, !host.isEmpty else { return nil }
        return host.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || ".:-[]".contains($0)) } ? host : nil
    }
}
