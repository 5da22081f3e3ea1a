/// The version of Cohort.
public enum CohortVersion {
    public static let current = "0.1.0"
}
