import AsyncHTTPClient
import CohortCore
import FoundationEssentials
import NIOCore
import NIOHTTP1

/// A measurement of the connection to a server.
public struct ServerProbe: Sendable {
    /// The seconds from a request to its answer, over an open connection.
    public var seconds: Double
    /// The server's clock minus this machine's, in seconds; nil when the server does not say its time.
    public var clockDifference: Double?
}

extension CohortClient {
    /// Asks whether the server is ready, twice: the second time over the same connection.
    /// - Throws: `unavailable`, saying why it is not ready or cannot be reached.
    public func probe() async throws -> ServerProbe {
        try await health()
        let begun = ContinuousClock.now
        let response = try await caller.open(.get("health", "ready"))
        _ = try await caller.body(of: response)
        let seconds = (ContinuousClock.now - begun) / .seconds(1)
        let said = response.headers.first(name: "Date").flatMap(Self.date)
        return ServerProbe(seconds: seconds, clockDifference: said.map { $0.timeIntervalSinceNow + seconds / 2 })
    }

    /// Sends so many bytes that mean nothing, in pieces of at most 1 MB.
    /// - Returns: bytes a second.
    public func measureUpload(bytes: Int) async throws -> Double {
        let piece = ByteBuffer(
            bytes: [UInt8](#"{"peers":"1"}"#.utf8) + [UInt8](repeating: UInt8(ascii: " "), count: min(max(bytes, 0), 1_000_000)))
        var sent = 0
        let begun = ContinuousClock.now
        while sent < bytes {
            var call = HTTPCall.post("sessions", "check")
            call.headers = ["Content-Type": "application/json"]
            call.body = .bytes(piece)
            do {
                try await caller.send(call)
            } catch let error as CohortError where error.code == .notEnoughPeers {
                // No peer is free, which was not the question.
            }
            sent += piece.readableBytes
        }
        return Double(sent) / max((ContinuousClock.now - begun) / .seconds(1), 1e-6)
    }

    /// `Thu, 26 Nov 2026 15:36:49 GMT` (RFC 9110, 5.6.7).
    private static func date(_ text: String) -> Date? {
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        let parts = text.split(separator: " ").map(String.init)
        guard parts.count == 6, parts[5] == "GMT", let month = months.firstIndex(of: parts[2]) else { return nil }
        return try? Date("\(parts[3])-\(month < 9 ? "0" : "")\(month + 1)-\(parts[1])T\(parts[4])Z", strategy: .iso8601)
    }
}
