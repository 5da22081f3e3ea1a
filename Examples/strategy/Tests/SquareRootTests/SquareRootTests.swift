import SquareRoot
import StrategyContract
import Testing

@Suite struct SquareRootTests {
    @Test func `satisfies the contract of every strategy`() async throws {
        try await StrategyContract.check(SquareRoot())
    }
}
