import CohortAPI
import CohortCore
import HTTPTypes
import Hummingbird
import NIOCore

/// An error as the API tells it: RFC 9457, `application/problem+json`.
struct HTTPProblem: Error {
    var status: HTTPResponse.Status
    /// The code for programs; see ``CohortError/Code``.
    var code: String
    /// The sentence for users.
    var detail: String
    var headers: HTTPFields

    init(status: HTTPResponse.Status, code: CohortError.Code, _ detail: String, headers: HTTPFields = [:]) {
        self.status = status
        self.code = code.rawValue
        self.detail = detail
        self.headers = headers
    }

    init(_ error: CohortError, headers: HTTPFields = [:]) {
        self.init(status: error.code.status, code: error.code, error.message, headers: headers)
        if [.unavailable, .notEnoughPeers].contains(error.code), self.headers[.retryAfter] == nil { self.headers[.retryAfter] = "1" }
    }

    /// The JSON.
    var document: [UInt8] {
        let problem = API.Problem(title: status.reasonPhrase, status: status.code, detail: detail, code: code)
        // An API.Problem has nothing that could not be encoded.
        return (try? CohortJSON.encode(problem)) ?? []
    }

    var response: Response {
        var headers = headers
        headers[.contentType] = "application/problem+json"
        return Response(status: status, headers: headers, body: ResponseBody(byteBuffer: ByteBuffer(bytes: document)))
    }
}

extension CohortError.Code {
    var status: HTTPResponse.Status {
        switch self {
        case .invalid, .notEnoughPeers: .badRequest
        case .unauthenticated: .unauthorized
        case .forbidden, .invitationRequired: .forbidden
        case .notFound: .notFound
        case .conflict: .conflict
        case .tooLarge: .contentTooLarge
        case .unavailable: .serviceUnavailable
        case .storageFull: HTTPResponse.Status(code: 507, reasonPhrase: "Insufficient Storage")
        case .internal: .internalServerError
        }
    }
}
