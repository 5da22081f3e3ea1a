import CohortSystem
import HTTPTypes
import Hummingbird

/// Who is at the other end: the connection's address or, where that is a proxy which a setting names, the address that the proxy saw.
struct ClientAddress: Sendable {
    let trustedProxies: [AddressNetwork]

    /// The address, without a port.
    func address(of request: Request, _ context: Context) -> String {
        let lines = HTTPField.Name("X-Forwarded-For").map { request.headers[values: $0] } ?? []
        return address(connection: context.address, forwarded: lines)
    }

    /// The network that attempts are counted by.
    func network(of request: Request, _ context: Context) -> String { AddressNetwork.around(address(of: request, context)) }

    /// The rightmost address of `X-Forwarded-For` that is not a trusted proxy's: any client can write the addresses to the left of it.
    /// - Parameter forwarded: the header's lines, in their order.
    func address(connection: String, forwarded: [String]) -> String {
        guard isTrusted(connection) else { return connection }
        var nearest = connection
        for entry in forwarded.joined(separator: ",").split(separator: ",").reversed() {
            let address = Self.withoutPort(entry.filter { $0 != " " && $0 != "\t" })
            // A trusted proxy writes addresses only.
            // The error only says that it is no address.
            guard (try? AddressNetwork(address)) != nil, !address.contains("/") else { return nearest }
            nearest = address
            guard isTrusted(address) else { return address }
        }
        return nearest
    }

    private func isTrusted(_ address: String) -> Bool { trustedProxies.contains { $0.contains(address) } }

    /// `10.0.0.1:5000` and `[::1]:5000` as some proxies write them.
    private static func withoutPort(_ text: String) -> String {
        if text.hasPrefix("["), let end = text.firstIndex(of: "]") { return String(text[text.index(after: text.startIndex)..<end]) }
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        return parts.count == 2 ? String(parts[0]) : text
    }

}
