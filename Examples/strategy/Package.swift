// swift-tools-version: 6.2
import PackageDescription

// A custom strategy in a separate package. Elsewhere than in Cohort's folder, COHORT_PACKAGE says where that is.
let package = Package(
    name: "strategy",
    platforms: [.macOS(.v15)],
    dependencies: [.package(name: "cohort", path: Context.environment["COHORT_PACKAGE"] ?? "../..")],
    targets: [
        .target(name: "SquareRoot", dependencies: [.product(name: "CohortStrategies", package: "cohort")]),
        .executableTarget(name: "my-cohort", dependencies: ["SquareRoot", .product(name: "CohortCommands", package: "cohort")]),
        .testTarget(name: "SquareRootTests", dependencies: ["SquareRoot", .product(name: "StrategyContract", package: "cohort")]),
    ])
