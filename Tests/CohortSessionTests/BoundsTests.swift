import CohortCore
import CohortSession
import CohortStrategies
import CohortWire
import FoundationEssentials
import Testing

/// Numbers and texts from outside.
private enum Hostile {
    static let numbers = [
        "0", "-0", "-1", "1", "2", "0.5", "1e308", "-1e308", "1.7976931348623157e308", "5e-324", "3e-308", "1e19", "-1e19", "1e300",
        "-1e300",
        "9223372036854775807", "-9223372036854775808", "9223372036854775808", "18446744073709551616", "4294967296", "1e999", "0.1e-5",
    ]
    static let others = [
        "null", "true", "false", "[]", "{}", "[1e308]", #""""#, #""x""#, #""NaN""#, #""Infinity""#, #""\u0000""#,
        #""\u001b]52;c;AAAA\u0007\n2026-01-01 error forged""#, #""\u202e\u2066txt.exe""#,
        "\"" + String(repeating: "x", count: 70_000) + "\"",
    ]

    /// `json` with each value in turn, at any depth, replaced by each of the hostile ones.
    static func variants(of json: String) -> [String] {
        var result: [String] = []
        let bytes = Array(json.utf8)
        var index = 0
        // Values follow a colon; strings here hold none.
        while index < bytes.count {
            defer { index += 1 }
            guard bytes[index] == UInt8(ascii: ":") else { continue }
            var end = index + 1
            var depth = 0
            while end < bytes.count {
                let byte = bytes[end]
                if byte == UInt8(ascii: "{") || byte == UInt8(ascii: "[") { depth += 1 }
                if byte == UInt8(ascii: "}") || byte == UInt8(ascii: "]") {
                    if depth == 0 { break }
                    depth -= 1
                }
                if byte == UInt8(ascii: ","), depth == 0 { break }
                end += 1
            }
            let (head, tail) = (String(decoding: bytes[...index], as: UTF8.self), String(decoding: bytes[end...], as: UTF8.self))
            for value in numbers + others { result.append(head + value + tail) }
        }
        return result
    }
}

@Suite struct BoundsTests {
    private static let hash = String(repeating: "0a", count: 32)

    static let events = [
        #"{"type":"ENABLED","session_id":"s","peer_id":"a","generation":1,"ready":true,"capabilities":{"cores":1,"memory_bytes":1,"engine":"native","device":"cpu","samples_per_second":1000,"platform":"x","version":"1"}}"#,
        #"{"type":"READY","session_id":"s","peer_id":"a","generation":1}"#,
        #"{"type":"PROGRESS","session_id":"s","peer_id":"a","generation":1,"phase":"training","progress":0.5}"#,
        #"{"type":"HEARTBEAT","session_id":"s","peer_id":"a","generation":1,"round":0,"epoch":1,"loss":0.5,"accuracy":0.5,"samples_per_second":10,"progress":0.5,"validation":{"loss":1,"samples":3}}"#,
        #"{"type":"DONE","session_id":"s","peer_id":"a","generation":1,"round":0,"attempt":0,"results":{"loss":0.5,"accuracy":0.5,"samples":30,"epochs":1,"seconds":1,"evaluation":{"samples":0,"loss_sum":0,"correct":0,"target_sum":0,"target_square_sum":0},"own_evaluation":{"samples":0,"loss_sum":0,"correct":0,"target_sum":0,"target_square_sum":0}},"update":{"key":"k","sha256":"\#(hash)","bytes":3},"update_data":"AAAA"}"#,
        #"{"type":"ERROR","session_id":"s","peer_id":"a","generation":1,"round":0,"message":"no","retryable":true}"#,
    ]

    /// What decodes goes into a running session, as its coordinator does it. Whatever it is, nothing traps, and the document can be stored.
    @Test(arguments: [FedAvg.name, Independent.name]) func `any number and any text in any field of any event`(name: String) throws {
        let strategy = try StrategyCatalogue.builtIn.named(name)
        var decoded = 0
        var refused = 0
        for json in Self.events.flatMap({ [$0] + Hostile.variants(of: $0) }) {
            let event: PeerEvent
            do {
                event = try CohortJSON.decode(PeerEvent.self, from: json.utf8)
            } catch {
                #expect(error is CohortError || error is UnknownMessageType, "\(error)")
                refused += 1
                continue
            }
            decoded += 1
            for round in 0..<3 {
                var stage = Stage(peers: ["a", "b"], rounds: 2)
                stage.machine = SessionMachine(stage.session, strategy: strategy, rules: .init())
                stage = stage.started()
                for _ in 0..<min(round, stage.session.settings.rounds) {
                    for name in ["a", "b"] { stage.done(name) }
                    stage.aggregated()
                }
                guard event.sessionId == "s" else { continue }
                switch event {
                case .enabled(let event): stage.send(.enabled(event))
                case .ready(let event): stage.send(.ready(event))
                case .progress(let event): stage.send(.progress(event))
                case .heartbeat(var event):
                    event.round = event.round == 0 ? round : event.round
                    stage.send(.heartbeat(event))
                case .done(var event):
                    event.round = event.round == 0 ? round : event.round
                    event.attempt = nil
                    if stage.machine.verdict(on: event) == .current {
                        for norm in [nil, 0, 1e308, .leastNonzeroMagnitude] as [Double?] {
                            var copy = stage
                            copy.send(.done(event, norm: norm, measured: nil))
                            try check(&copy)
                        }
                        stage.send(.done(event, norm: 1, measured: nil))
                    }
                case .error(let event): stage.send(.error(event))
                }
                try check(&stage)
            }
        }
        #expect(decoded > 100 && refused > 100, "\(decoded) decoded, \(refused) refused")
    }

    private func check(_ stage: inout Stage) throws {
        #expect(throws: Never.self) { try CohortJSON.encode(stage.session) }
        stage.done("b")
        if stage.aggregates { stage.aggregated() }
        stage.now += 1e6
        stage.send(.tick)
        #expect(throws: Never.self) { try CohortJSON.encode(stage.session) }
        for notice in stage.actions.notices {
            #expect(throws: Never.self) { try CohortJSON.encode(notice) }
        }
        #expect(stage.session.peers.allSatisfy { $0.speed.isFinite && $0.speed > 0 })
    }

    @Test func `texts for people hold nothing that a terminal or a log would act on`() throws {
        for json in Hostile.variants(of: Self.events[5]) {
            guard case .error(let event)? = try? CohortJSON.decode(PeerEvent.self, from: json.utf8) else { continue }
            #expect(event.message.count <= 1_001)
            #expect(
                event.message.unicodeScalars.allSatisfy { scalar in
                    scalar.value >= 0x20 && !(0x7f..<0xa0).contains(scalar.value) && !(0x202a...0x202e).contains(scalar.value)
                }, "\(event.message.prefix(80))")
        }
        #expect("a\nb\tc\u{1B}[31md".printable(max: 100) == "a b c\u{FFFD}[31md")
        #expect("abcdef".printable(max: 3) == "abc…")
    }

    @Test func `capabilities are bounded, a speed class always is`() throws {
        let base =
            #"{"cores":1,"memory_bytes":1,"engine":"native","device":"cpu","samples_per_second":1000,"platform":"x","version":"1","encodings":["f32"]}"#
        for json in Hostile.variants(of: base) {
            guard let about = try? CohortJSON.decode(PeerCapabilities.self, from: json.utf8) else { continue }
            let speed = SessionPeer.speedClass(of: about.samplesPerSecond)
            #expect(about.samplesPerSecond <= 1e9 && (1...0x1p30).contains(speed), "\(json.prefix(200))")
        }
    }

    @Test func `counts add up to metrics that can be stored, and a negative loss is no loss`() throws {
        let base = #"{"samples":3,"loss_sum":1,"correct":1,"target_sum":1,"target_square_sum":1}"#
        for json in Hostile.variants(of: base) {
            guard let counts = try? CohortJSON.decode(Counts.self, from: json.utf8) else { continue }
            #expect(counts.lossSum >= 0 && counts.correct <= counts.samples)
            for task in [LearningTask.classification, .regression] {
                #expect(throws: Never.self) { try CohortJSON.encode((counts + counts + counts).metrics(task)) }
            }
        }
        #expect(throws: CohortError.self) {
            try CohortJSON.decode(Counts.self, from: base.replacing("\"loss_sum\":1", with: "\"loss_sum\":-1e300").utf8)
        }
    }
}
