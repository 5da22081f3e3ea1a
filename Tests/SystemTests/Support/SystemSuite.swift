import Testing

/// Suites that start processes stand under this one: one world at a time on a machine of two cores.
@Suite(.serialized, .timeLimit(.minutes(20)))
enum SystemSuite {}
