public import CohortCore
public import Testing

/// Expects `body` to throw a ``CohortError`` of `code`, and returns its sentence.
@discardableResult
public func expectError<Value>(
    _ code: CohortError.Code, sourceLocation: SourceLocation = #_sourceLocation, _ body: () async throws -> Value
) async -> String {
    do {
        _ = try await body()
        Issue.record("nothing was thrown; \(code) was expected", sourceLocation: sourceLocation)
        return ""
    } catch let error as CohortError {
        #expect(error.code == code, "\(error.message)", sourceLocation: sourceLocation)
        return error.message
    } catch {
        Issue.record("\(error) was thrown; \(code) was expected", sourceLocation: sourceLocation)
        return ""
    }
}
