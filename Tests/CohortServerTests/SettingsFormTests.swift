import CohortCore
import CohortSession
import CohortStrategies
import Testing

@testable import CohortServer

@Suite struct ColumnFields {
    private func settings(_ fields: [String: String]) throws -> SessionSettings {
        try SettingsForm.settings(fields, strategies: [FedAvg()])
    }

    @Test func `the column options become the session's options`() throws {
        #expect(try settings([:]).data == nil)
        let one = try settings(["use": "row, id", "header": "yes", "scaling": "robust", "group": "patient"]).data
        #expect(one == DataOptions(header: true, use: ["row, id"], group: "patient", scaling: .robust))
        #expect(try settings(["ignore": #"["a","b c"]"#, "header": "no"]).data == DataOptions(header: false, ignore: ["a", "b c"]))
        #expect(try settings(["header": "auto", "scaling": "auto", "use": " "]).data == nil)
    }

    @Test(arguments: [
        (["lr_schedule": "step"], "lr_schedule is 'step'; it must be one of constant, linear, cosine, decay"),
        (["header": "maybe"], "header is 'maybe'"),
        (["scaling": "max"], "scaling is 'max'; it must be one of auto, standard, range, robust, none"),
        (["use": "[1]"], "use must be a column's name, or JSON"), (["use": "a", "ignore": "a"], "in both use and ignore"),
        (["from": "3f2a", "hidden": "8"], "hidden does not go with from"),
        (["ignore": "y", "target": "y"], "which is the target"), (["group": "y", "target": "y"], "which is the target"),
    ]) func `invalid values are reported`(fields: [String: String], sentence: String) {
        let error = #expect(throws: CohortError.self) { try settings(fields) }
        #expect(error?.code == .invalid && error?.message.contains(sentence) == true, "\(error?.message ?? "")")
    }
}
