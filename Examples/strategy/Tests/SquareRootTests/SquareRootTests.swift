import SquareRoot
import StrategyContract
import Testing

@Suite struct SquareRootTests {
    @Test func `it keeps what every strategy keeps`() async throws {
        try await StrategyContract.check(SquareRoot())
    }
}
