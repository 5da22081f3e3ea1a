// swift-tools-version: 6.2
import PackageDescription

// `COHORT_ONLY=CohortTraining swift test` builds and tests just that target and its dependencies, and several as `A,B`: `swift test --filter`
// would build every test target first.
let only = Context.environment["COHORT_ONLY"]?.split(separator: ",").map(String.init)

let settings: [SwiftSetting] =
    [
        .enableUpcomingFeature("InternalImportsByDefault"),
        .enableUpcomingFeature("MemberImportVisibility"),
        .enableUpcomingFeature("ExistentialAny"),
    ] + (Context.environment["CI"] == nil ? [] : [.treatAllWarnings(as: .error)])

extension Target.Dependency {
    static let argumentParser = product(name: "ArgumentParser", package: "swift-argument-parser")
    static let asyncAlgorithms = product(name: "AsyncAlgorithms", package: "swift-async-algorithms")
    static let asyncHTTPClient = product(name: "AsyncHTTPClient", package: "async-http-client")
    static let configuration = product(name: "Configuration", package: "swift-configuration")
    static let dequeModule = product(name: "DequeModule", package: "swift-collections")
    static let crypto = product(name: "Crypto", package: "swift-crypto")
    static let grdb = product(name: "GRDB", package: "GRDB.swift")
    static let hummingbird = product(name: "Hummingbird", package: "hummingbird")
    static let hummingbirdCore = product(name: "HummingbirdCore", package: "hummingbird")
    static let hummingbirdTLS = product(name: "HummingbirdTLS", package: "hummingbird")
    static let mustache = product(name: "Mustache", package: "swift-mustache")
    static let nioCertificateReloading = product(name: "NIOCertificateReloading", package: "swift-nio-extras")
    static let hummingbirdTesting = product(name: "HummingbirdTesting", package: "hummingbird")
    static let nioHTTPTypes = product(name: "NIOHTTPTypes", package: "swift-nio-extras")
    static let httpTypes = product(name: "HTTPTypes", package: "swift-http-types")
    static let jwtKit = product(name: "JWTKit", package: "jwt-kit")
    static let logging = product(name: "Logging", package: "swift-log")
    static let nioCore = product(name: "NIOCore", package: "swift-nio")
    static let nioFileSystem = product(name: "_NIOFileSystem", package: "swift-nio")
    static let nioEmbedded = product(name: "NIOEmbedded", package: "swift-nio")
    static let nioHTTPCompression = product(name: "NIOHTTPCompression", package: "swift-nio-extras")
    static let nioHTTP1 = product(name: "NIOHTTP1", package: "swift-nio")
    static let nioSSL = product(name: "NIOSSL", package: "swift-nio-ssl")
    static let nioTLS = product(name: "NIOTLS", package: "swift-nio")
    static let swiftASN1 = product(name: "SwiftASN1", package: "swift-asn1")
    static let x509 = product(name: "X509", package: "swift-certificates")
    static let nioPosix = product(name: "NIOPosix", package: "swift-nio")
    static let tracing = product(name: "Tracing", package: "swift-distributed-tracing")
    static let unixSignals = product(name: "UnixSignals", package: "swift-service-lifecycle")
    static let system = product(name: "SystemPackage", package: "swift-system")
    static let serviceLifecycle = product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
    static let subprocess = product(name: "Subprocess", package: "swift-subprocess")
}

func room(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

func tests(
    _ name: String, _ dependencies: [Target.Dependency], resources: [Resource] = [], exclude: [String] = []
) -> [Target] {
    guard only?.contains(where: { "\($0)Tests" == name }) ?? true else { return [] }
    return [
        .testTarget(
            name: name, dependencies: dependencies + ["TestSupport"], exclude: exclude, resources: resources,
            swiftSettings: settings)
    ]
}

let package = Package(
    name: "cohort",
    platforms: [.macOS(.v15)],
    products: [
        .executable(name: "cohort", targets: ["cohort"]),
        // For custom strategies: Examples/strategy.
        .library(name: "CohortStrategies", targets: ["CohortCore", "CohortSession", "CohortStrategies"]),
        .library(name: "CohortCommands", targets: ["CohortCommands"]),
        .library(name: "StrategyContract", targets: ["StrategyContract"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        .package(url: "https://github.com/apple/swift-asn1", exact: "1.7.4"),
        .package(url: "https://github.com/apple/swift-async-algorithms", exact: "1.1.4"),
        .package(url: "https://github.com/apple/swift-certificates", exact: "1.21.1"),
        .package(url: "https://github.com/apple/swift-collections", exact: "1.6.0"),
        .package(url: "https://github.com/apple/swift-configuration", exact: "1.4.0", traits: [.defaults]),
        .package(url: "https://github.com/apple/swift-crypto", exact: "4.5.2"),
        .package(url: "https://github.com/apple/swift-distributed-tracing", exact: "1.7.3"),
        .package(url: "https://github.com/apple/swift-http-types", exact: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", exact: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-extras", exact: "1.35.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", exact: "2.37.6"),
        .package(url: "https://github.com/apple/swift-system", exact: "1.8.1"),
        .package(url: "https://github.com/groue/GRDB.swift", exact: "7.10.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", exact: "2.28.1"),
        .package(url: "https://github.com/hummingbird-project/swift-mustache", exact: "2.1.1"),
        .package(url: "https://github.com/swift-server/async-http-client", exact: "1.37.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", exact: "2.13.0"),
        .package(url: "https://github.com/swiftlang/swift-subprocess", exact: "1.0.2"),
        .package(url: "https://github.com/vapor/jwt-kit", exact: "5.7.1"),
        // What those depend on, for the target TransitivePins alone.
        .package(url: "https://github.com/apple/swift-algorithms", exact: "1.2.1"),
        .package(url: "https://github.com/apple/swift-atomics", exact: "1.3.0"),
        .package(url: "https://github.com/apple/swift-http-structured-headers", exact: "1.7.0"),
        .package(url: "https://github.com/apple/swift-metrics", exact: "2.13.0"),
        .package(url: "https://github.com/apple/swift-nio-http2", exact: "1.46.0"),
        .package(url: "https://github.com/apple/swift-nio-transport-services", exact: "1.28.0"),
        .package(url: "https://github.com/apple/swift-numerics", exact: "1.1.1"),
        .package(url: "https://github.com/apple/swift-service-context", exact: "1.5.1"),
    ],
    targets: [
        // Holds the versions of packages that others bring: the lock file is not committed, so every version stands here. Empty, and in no product.
        .target(
            name: "TransitivePins",
            dependencies: [
                .product(name: "Algorithms", package: "swift-algorithms"), .product(name: "Atomics", package: "swift-atomics"),
                .product(name: "StructuredFieldValues", package: "swift-http-structured-headers"),
                .product(name: "CoreMetrics", package: "swift-metrics"), .product(name: "NIOHPACK", package: "swift-nio-http2"),
                .product(name: "NIOTransportServices", package: "swift-nio-transport-services"),
                .product(name: "RealModule", package: "swift-numerics"),
                .product(name: "ServiceContextModule", package: "swift-service-context"),
            ]),
        // Pure: no server package up to the next comment but one, so they build and test in seconds.
        // Words that every room needs; knows no session.
        room("CohortCore"),
        // What peers and watchers see: the messages and the ports that carry them.
        room("CohortWire", ["CohortCore"]),
        // Documents, settings, the strategy port and the session machine.
        room("CohortSession", ["CohortCore", "CohortWire"]),
        // The bodies of the HTTP API.
        room("CohortAPI", ["CohortCore", "CohortSession", "CohortWire"]),
        // Kernels are compiled with optimization in every configuration: a debug build that trains is still usable.
        .target(name: "CKernels", cSettings: [.unsafeFlags(["-O3", "-fno-math-errno"])]),
        room("CohortStrategies", ["CohortCore", "CohortSession", "CKernels"]),
        // What several rooms need of the machine.
        .target(name: "CInflate", linkerSettings: [.linkedLibrary("z")]),
        room("CohortSystem", ["CohortCore", "CInflate", .dequeModule]),
        room("CohortTraining", ["CohortCore", "CohortSystem", "CKernels", .crypto, .system]),

        // Opens the plugin of Plugins/Torch at run time; libtorch is not needed to build.
        .target(name: "CTorch"),
        // Starts a sandboxed process for custom code.
        .target(name: "CSandbox"),
        room("TorchEngine", ["CohortCore", "CohortSystem", "CTorch", "CSandbox"]),

        // Which spans a session has; who sends them is another's.
        room("CohortTracing", ["CohortCore", .tracing]),

        // One technology each.
        .target(name: "CCrypt", linkerSettings: [.linkedLibrary(":libcrypt.a")]),
        room("SQLiteDocuments", ["CohortCore", "CohortSession", "CohortWire", .grdb]),
        room("DirectoryObjects", ["CohortCore", "CohortSystem", .crypto]),
        room(
            "S3Objects",
            ["CohortCore", "CohortSystem", .asyncHTTPClient, .crypto, .logging, .nioCore, .nioHTTP1, .nioSSL, .system]),
        // Opens libmongoc at run time; its headers, which are not on the compiler's own path, are needed to build.
        .target(
            name: "CMongo",
            cSettings: [.unsafeFlags(["/usr", "/usr/local"].flatMap { ["-I\($0)/include/libmongoc-1.0", "-I\($0)/include/libbson-1.0"] })]),
        room("MongoDocuments", ["CohortCore", "CohortSession", "CohortSystem", "CohortWire", "CMongo"]),
        // Opens librabbitmq at run time; its headers are needed to build.
        .target(name: "CRabbitMQ"),
        room(
            "RabbitMQTransport",
            ["CohortCore", "CohortSystem", "CohortWire", "CRabbitMQ", .asyncHTTPClient, .crypto, .logging, .nioCore, .nioHTTP1, .nioSSL]),

        room("OTLPTracer", ["CohortCore", "CohortTracing", .asyncHTTPClient, .logging, .nioCore, .nioHTTP1, .serviceLifecycle, .tracing]),

        // Reference implementations of the ports, for tests.
        room("InMemory", ["CohortCore", "CohortSession", "CohortSystem", "CohortWire", .crypto]),

        // What every strategy keeps, for tests of strategies wherever they are.
        room(
            "StrategyContract",
            [
                "CohortCoordinator", "CohortCore", "CohortSession", "CohortStrategies", "CohortSystem", "CohortTraining", "CohortWire",
                "InMemory",
            ]),

        // What several test targets need.
        .target(name: "TestSupport", dependencies: ["CohortCore"], path: "Tests/TestSupport", swiftSettings: settings),
        // A server that a test scripts, for peers.
        .target(
            name: "PeerTestSupport",
            dependencies: [
                "CohortAPI", "CohortClient", "CohortCore", "CohortPeer", "CohortTraining", "CohortWire", .asyncHTTPClient, .crypto,
                .httpTypes, .hummingbird, .hummingbirdCore, .logging, .nioCore, .serviceLifecycle,
            ], path: "Tests/PeerTestSupport", swiftSettings: settings),

        // The parts that talk.
        room(
            "CohortClient",
            [
                "CohortAPI", "CohortCore", "CohortSession", "CohortSystem", "CohortWire", .asyncHTTPClient, .crypto, .httpTypes, .logging,
                .nioCore, .nioHTTP1, .nioPosix, .nioSSL,
                .nioTLS, .nioFileSystem,
            ]),
        room(
            "CohortCoordinator",
            [
                "CohortCore", "CohortSession", "CohortStrategies", "CohortTracing", "CohortTraining", "CohortSystem", "CohortWire", .crypto,
                .logging, .serviceLifecycle,
                .system, .tracing,
            ]),
        room(
            "CohortPeer",
            [
                "CohortAPI", "CohortCore", "CohortTracing", "CohortTraining", "CohortSystem", "CohortWire", "CohortClient", .crypto,
                .logging, .serviceLifecycle,
                .tracing,
            ]),
        // The files of the pages, embedded in the executable.
        .target(name: "CPages", exclude: ["files"]),
        room(
            "CohortServer",
            [
                "CohortAPI", "CohortCore", "CohortSession", "CohortTracing", "CohortTraining", "CohortSystem", "CohortWire", "CCrypt",
                "CPages",
                .asyncAlgorithms, .dequeModule, .tracing, .hummingbird, .hummingbirdCore,
                .hummingbirdTLS,
                .nioCertificateReloading, .nioSSL, .httpTypes, .jwtKit, .crypto, .logging, .nioCore,
                .system,
                .nioPosix, .nioFileSystem, .nioHTTP1, .nioHTTPTypes, .nioEmbedded, .nioHTTPCompression, .mustache, .serviceLifecycle,
            ]),

        // The commands: the only target that knows every implementation.
        room(
            "CohortCommands",
            [
                "CohortAPI", "CohortCore", "CohortSession", "CohortStrategies", "CohortTraining", "CohortWire", "SQLiteDocuments",
                "MongoDocuments", "DirectoryObjects",
                "OTLPTracer", "RabbitMQTransport", "S3Objects", "TorchEngine",
                "CohortClient",
                "CohortCoordinator", "CohortPeer", "CohortServer", "CohortSystem", .argumentParser, .asyncHTTPClient, .configuration,
                .crypto,
                .logging, .nioCore, .nioPosix, .nioSSL, .serviceLifecycle, .subprocess, .swiftASN1, .system, .unixSignals, .x509,
            ]),
        .executableTarget(
            name: "cohort", dependencies: ["CohortCommands"], swiftSettings: settings,
            // Libraries that an installed Cohort brings with it. The older kind of entry, which holds for what they need in turn as well.
            linkerSettings: [
                .unsafeFlags(
                    ["-Xlinker", "-rpath", "-Xlinker", "$ORIGIN/../lib/cohort", "-Xlinker", "--disable-new-dtags"],
                    .when(platforms: [.linux]))
            ]),
    ]
        + tests("CohortCoreTests", ["CohortCore"])
        + tests("CohortWireTests", ["CohortCore", "CohortWire"])
        + tests("CohortSessionTests", ["CohortCore", "CohortSession", "CohortStrategies", "CohortWire"])
        + tests("OTLPTracerTests", ["OTLPTracer", "CohortTracing", "CohortCore", .tracing])
        + tests(
            "CohortStrategiesTests", ["CohortStrategies", "CohortCore", "CohortSession"], resources: [.copy("Resources/byzfl.json")],
            exclude: ["Resources/make_byzfl.py"])
        + tests(
            "CohortTrainingTests", ["CohortTraining", "CohortCore", "CKernels"],
            resources: [.copy("Resources/reference.json")], exclude: ["Resources/make_reference.py"])
        + tests(
            "TorchEngineTests", ["cohort", "TorchEngine", "CSandbox", "CohortTraining", "CohortCore", .crypto, .subprocess, .system],
            exclude: ["Resources/export_modules.py"])
        + tests(
            "CohortCoordinatorTests",
            [
                "InMemory", .logging, .serviceLifecycle, .crypto, "CohortCoordinator", "StrategyContract", "CohortSystem",
                "DirectoryObjects", "CohortCore", "CohortSession", "CohortWire",
                "CohortStrategies", "CohortTraining", "MongoDocuments", "RabbitMQTransport", "S3Objects",
            ])
        + tests(
            "CohortServerTests",
            [
                "PeerTestSupport", "CohortServer", "CohortAPI", "CohortCoordinator", "CohortCore", "CohortSession", "CohortWire",
                "CohortStrategies",
                "CohortPeer", "CohortSystem", "InMemory", "CohortClient",
                "SQLiteDocuments",
                "DirectoryObjects",
                .asyncHTTPClient,
                .crypto, .logging,
                .nioCore, .nioEmbedded,
                .nioHTTPCompression, .nioHTTP1, .nioPosix, .serviceLifecycle, .subprocess,
            ])
        + tests(
            "CohortPeerTests",
            [
                "PeerTestSupport",
                "CohortAPI", "CohortPeer", "CohortClient", "CohortCore", "CohortSession", "CohortSystem", "CohortTraining", "CohortWire",
                .asyncHTTPClient,
                .hummingbird,
                .serviceLifecycle,
            ])
        + tests(
            "ContractTests",
            [
                "InMemory", "CohortAPI", "CohortCore", "CohortSession", "CohortWire", "SQLiteDocuments", "MongoDocuments",
                "DirectoryObjects", "S3Objects", "RabbitMQTransport",
                "CohortServer",
                "CohortClient", .asyncHTTPClient, "CohortSystem", .crypto, .nioCore, .nioPosix, .grdb, .logging,
            ])
        + tests(
            "SystemTests",
            [
                "cohort", "CohortAPI", "CohortCommands", "CohortCore", "CohortClient", "CohortPeer", "CohortSession", "CohortStrategies",
                "CohortTraining", "CohortWire",
                .argumentParser,
                .asyncHTTPClient, .hummingbird,
                .subprocess,
                .serviceLifecycle,
                .nioCore,
                .nioHTTP1,
                .system,
            ], exclude: ["Resources/make_module.py"])
        // Times the engine: only when asked for, COHORT_ONLY=EngineBench.
        + (only == ["EngineBench"]
            ? [
                .executableTarget(
                    name: "EngineBench", dependencies: ["CohortTraining", "CohortCore", "CKernels", "TorchEngine"],
                    path: "Benchmarks/EngineBench",
                    swiftSettings: settings)
            ] : [])
        // Times how updates become one: only when asked for, COHORT_ONLY=AggregationBench.
        + (only == ["AggregationBench"]
            ? [
                .executableTarget(
                    name: "AggregationBench",
                    dependencies: [
                        "CohortCoordinator", "CohortCore", "CohortSession", "CohortStrategies", "CohortSystem", "CohortTraining",
                        "CohortWire",
                        "DirectoryObjects",
                    ],
                    path: "Benchmarks/AggregationBench", swiftSettings: settings)
            ] : [])
        // Times a real RabbitMQ: only when asked for, COHORT_ONLY=BrokerBench.
        + (only == ["BrokerBench"]
            ? [
                .executableTarget(
                    name: "BrokerBench", dependencies: ["RabbitMQTransport", "CohortCore", "CohortWire", .logging],
                    path: "Benchmarks/BrokerBench",
                    swiftSettings: settings)
            ] : [])
        // Times a real S3: only when asked for, COHORT_ONLY=StoreBench.
        + (only == ["StoreBench"]
            ? [
                .executableTarget(
                    name: "StoreBench", dependencies: ["S3Objects", "CohortCore", .logging], path: "Benchmarks/StoreBench",
                    swiftSettings: settings)
            ] : [])
)

if let only {
    // Keep those targets, their tests and their dependencies, and nothing else.
    var neededTargets: Set<String> = []
    func need(_ name: String) {
        guard let target = package.targets.first(where: { $0.name == name }), neededTargets.insert(name).inserted else { return }
        for dependency in target.dependencies {
            if case .byNameItem(let name, _) = dependency { need(name) }
        }
    }
    for name in only {
        need("\(name)Tests")
        need(name)
    }
    package.targets.removeAll { !neededTargets.contains($0.name) }
    package.products.removeAll()
}
