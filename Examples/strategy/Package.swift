// swift-tools-version: 6.2
import PackageDescription

// A strategy of one's own, in a package of its own. Elsewhere than in Cohort's folder, COHORT_PACKAGE says where that is.
let package = Package(
    name: "strategy",
    platforms: [.macOS(.v15)],
    dependencies: [.package(name: "cohort", path: Context.environment["COHORT_PACKAGE"] ?? "../..")],
    targets: [
        .target(name: "SquareRoot", dependencies: [.product(name: "CohortStrategies", package: "cohort")]),
        .executableTarget(name: "my-cohort", dependencies: ["SquareRoot", .product(name: "CohortCommands", package: "cohort")]),
        .testTarget(name: "SquareRootTests", dependencies: ["SquareRoot", .product(name: "StrategyContract", package: "cohort")]),
    ])
