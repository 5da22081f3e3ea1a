import CohortCore
import FoundationEssentials
import Testing

@Suite struct Counting {
    @Test func `slices add up to the whole`() {
        let whole = Counts(samples: 3, lossSum: 6, correct: 2) + Counts(samples: 1, lossSum: 2, correct: 0)
        #expect(whole.metrics(.classification) == Metrics(loss: 2, accuracy: 0.5, samples: 4))
        // y = 1, 2, 3; predictions all 2: SSE 2, SST 2, R² 0.
        #expect(Counts(samples: 3, lossSum: 2, targetSum: 6, targetSquareSum: 14).r2 == 0)
        #expect(Counts().loss == nil)
    }

    @Test func `a diverged loss is null, not NaN`() throws {
        #expect(String(decoding: try CohortJSON.encode(Metrics(loss: .nan, samples: 1)), as: UTF8.self) == #"{"samples":1}"#)
    }
}
