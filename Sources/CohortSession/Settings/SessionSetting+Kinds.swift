import CohortCore

/// Makers of settings of each kind.
extension SessionSetting {
    typealias Path<Value> = any WritableKeyPath<SessionSettings, Value> & Sendable

    /// The allowed values of a number.
    struct Range: Sendable {
        let right: String
        let holds: @Sendable (Double) -> Bool

        static let share = Range(right: "from 0 to below 1") { $0 >= 0 && $0 < 1 }
        static func above(_ least: Double, atMost most: Double = .infinity, right: String) -> Range {
            Range(right: right) { $0 > least && $0 <= most }
        }
    }

    static func problem(_ name: String, value: Any, expected right: String) -> CohortError {
        CohortError(.invalid, "\(name) is \(value); it must be \(right)")
    }

    static func misread(_ name: String, text: String, expected right: String) -> CohortError {
        problem(name, value: "'\(text.printable(max: 60))'", expected: right)
    }

    static func flag(_ name: String, text: String) throws -> Bool {
        // Python writes True and False.
        guard let value = Bool(text.lowercased()) else { throw misread(name, text: text, expected: "true or false") }
        return value
    }

    static func flag(_ name: String, _ path: Path<Bool?>, help: String) -> SessionSetting {
        SessionSetting(
            name: name, kind: .flag, help: help, standard: nil, read: { $0[keyPath: path].map { "\($0)" } },
            write: { settings, text in settings[keyPath: path] = try flag(name, text: text) })
    }

    static func whole(_ name: String, _ path: Path<Int>, in range: ClosedRange<Int>, help: String) -> SessionSetting {
        let right = "a whole number from \(range.lowerBound) to \(range.upperBound)"
        return SessionSetting(
            name: name, kind: .whole(range), help: help, standard: "\(SessionSettings()[keyPath: path])",
            read: { "\($0[keyPath: path])" },
            write: { settings, text in
                guard let value = Int(text) else { throw misread(name, text: text, expected: "a whole number") }
                settings[keyPath: path] = value
            },
            check: { if !range.contains($0[keyPath: path]) { throw problem(name, value: $0[keyPath: path], expected: right) } })
    }

    /// - Parameter range: a peer of one batch has as many epochs as steps, and they have the same limits.
    static func whole(_ name: String, _ path: Path<Int?>, in range: ClosedRange<Int>, help: String) -> SessionSetting {
        var setting = whole(name, path, from: range.lowerBound, help: help)
        setting.kind = .whole(range)
        setting.check = { settings in
            guard let value = settings[keyPath: path], !range.contains(value) else { return }
            throw problem(name, value: value, expected: "a whole number from \(range.lowerBound) to \(range.upperBound), or absent")
        }
        return setting
    }

    /// A number whose default is chosen when training starts.
    static func chosen(_ name: String, _ path: Path<Int>, in range: ClosedRange<Int>, help: String) -> SessionSetting {
        let right = "a whole number from \(range.lowerBound) to \(range.upperBound)"
        return SessionSetting(
            name: name, kind: .whole(range), help: help, standard: nil,
            read: { $0.automatic?.contains(name) == true ? nil : "\($0[keyPath: path])" },
            write: { settings, text in
                guard let value = Int(text) else { throw misread(name, text: text, expected: "a whole number") }
                settings[keyPath: path] = value
                settings.automatic?.removeAll { $0 == name }
            },
            check: { if !range.contains($0[keyPath: path]) { throw problem(name, value: $0[keyPath: path], expected: right) } })
    }

    /// A number that may be absent.
    static func whole(_ name: String, _ path: Path<Int?>, from least: Int, help: String) -> SessionSetting {
        SessionSetting(
            name: name, kind: .whole(least...Int(Int32.max)), help: help, standard: nil,
            read: { $0[keyPath: path].map { "\($0)" } },
            write: { settings, text in
                guard let value = Int(text) else { throw misread(name, text: text, expected: "a whole number") }
                settings[keyPath: path] = value
            },
            check: { settings in
                if let value = settings[keyPath: path], value < least {
                    throw problem(name, value: value, expected: "at least \(least), or absent")
                }
            })
    }

    /// - Parameter depends: the default follows from another setting.
    static func number(
        _ name: String, _ path: Path<Double>, in range: Range, isOfModel: Bool = false, depends: Bool = false, help: String
    ) -> SessionSetting {
        SessionSetting(
            name: name, kind: .number, help: help, standard: depends ? nil : "\(SessionSettings()[keyPath: path])", isOfModel: isOfModel,
            read: { "\($0[keyPath: path])" },
            write: { settings, text in
                guard let value = Double(text) else { throw misread(name, text: text, expected: "a number") }
                settings[keyPath: path] = value
            },
            check: { settings in
                let value = settings[keyPath: path]
                guard value.isFinite, range.holds(value) else { throw problem(name, value: value, expected: range.right) }
            })
    }

    static func number(_ name: String, _ path: Path<Double?>, in range: Range, help: String) -> SessionSetting {
        SessionSetting(
            name: name, kind: .number, help: help, standard: nil,
            read: { $0[keyPath: path].map { "\($0)" } },
            write: { settings, text in
                guard let value = Double(text) else { throw misread(name, text: text, expected: "a number") }
                settings[keyPath: path] = value
            },
            check: { settings in
                guard let value = settings[keyPath: path] else { return }
                guard value.isFinite, range.holds(value) else { throw problem(name, value: value, expected: "\(range.right), or absent") }
            })
    }

    static func choice<Value: RawRepresentable<String> & CaseIterable & Sendable>(
        _ name: String, standard: Value?, isOfModel: Bool = false, help: String, read: @escaping @Sendable (SessionSettings) -> Value?,
        write: @escaping @Sendable (inout SessionSettings, Value) -> Void
    ) -> SessionSetting {
        let known = Value.allCases.map(\.rawValue)
        return SessionSetting(
            name: name, kind: .choice(known), help: help, standard: standard?.rawValue, isOfModel: isOfModel, read: { read($0)?.rawValue },
            write: { settings, text in
                guard let value = Value(rawValue: text) else {
                    throw misread(name, text: text, expected: "one of \(known.joined(separator: ", "))")
                }
                write(&settings, value)
            })
    }

    static func text(_ name: String, _ path: Path<String?>, most: Int? = nil, help: String) -> SessionSetting {
        SessionSetting(
            name: name, kind: .text(most: most), help: help, standard: nil, read: { $0[keyPath: path] },
            write: { settings, text in settings[keyPath: path] = text },
            check: { settings in
                guard let most, let text = settings[keyPath: path] else { return }
                guard text.count <= most, !text.unicodeScalars.contains(where: { $0.value < 32 && $0 != "\n" }) else {
                    throw misread(name, text: text, expected: "text of at most \(most) characters")
                }
            })
    }

    /// Names of columns: one, or JSON of several.
    static func columns(_ name: String, _ path: any WritableKeyPath<DataOptions, [String]> & Sendable, help: String)
        -> SessionSetting
    {
        SessionSetting(
            name: name, kind: .text(most: nil), help: help, standard: nil, isOfModel: true,
            read: { settings in
                guard let names = settings.data?[keyPath: path], !names.isEmpty else { return nil }
                return String(decoding: try CohortJSON.encode(names), as: UTF8.self)
            },
            write: { settings, text in
                var names = [text]
                if text.hasPrefix("[") {
                    // The sentence says what would be right; what JSON finds wrong says less.
                    guard let several = try? CohortJSON.decode([String].self, from: text.utf8) else {
                        throw CohortError(.invalid, "\(name) must be a column's name, or JSON such as [\"id\", \"row\"]")
                    }
                    names = several
                }
                settings.changeData { $0[keyPath: path] = names }
            })
    }
}

extension SessionSettings {
    mutating func changeData(_ change: (inout DataOptions) -> Void) {
        var options = data ?? DataOptions()
        change(&options)
        data = options == DataOptions() ? nil : options
    }
}
