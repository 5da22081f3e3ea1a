import CohortCore

/// What went wrong in a test, apart from its expectations.
public struct TestFailure: Error, CustomStringConvertible {
    public let description: String

    public init(_ description: String) { self.description = description }
}

/// Waits until `condition` holds, asking at growing intervals: for conditions without an event. The limit only bounds a failing test.
///
/// An error of Cohort's, such as a server that is still starting, is taken as "not yet"; any other ends the wait.
/// - Parameter description: of the condition, for the error.
/// - Throws: ``TestFailure``, with the last error.
nonisolated(nonsending) public func eventually(
    _ description: String, within limit: Duration = .seconds(120), _ condition: () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + limit
    var last: CohortError?
    var interval = Duration.milliseconds(2)
    repeat {
        do {
            if try await condition() { return }
            last = nil
        } catch let error as CohortError {
            last = error
        }
        try await Task.sleep(for: interval)
        interval = min(interval * 2, .milliseconds(50))
    } while ContinuousClock.now < deadline
    throw TestFailure("not within \(limit): \(description)\(last.map { ", last error: \($0)" } ?? "")")
}
