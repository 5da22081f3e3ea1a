import CohortCore

/// Validates e-mail addresses, names and passwords.
enum AccountRules {
    /// Trimmed and lowercased.
    /// - Throws: ``CohortError`` `invalid`.
    static func email(_ text: String) throws -> String {
        let email = text.trimmed.lowercased()
        guard email.utf8.count <= 254 else {
            throw CohortError(.invalid, "the e-mail address has \(email.utf8.count) bytes; it must have at most 254")
        }
        let parts = email.split(separator: "@", omittingEmptySubsequences: false)
        let labels = parts.count == 2 ? parts[1].split(separator: ".", omittingEmptySubsequences: false) : []
        let isPossible =
            parts.count == 2 && !parts[0].isEmpty && parts[0].utf8.count <= 64 && labels.count >= 2
            && labels.allSatisfy { !$0.isEmpty && $0.utf8.count <= 63 && !$0.hasPrefix("-") && !$0.hasSuffix("-") }
            && email.unicodeScalars.allSatisfy {
                !$0.properties.isWhitespace && $0.isPrintable && !"<>()[],;:\\\"".unicodeScalars.contains($0)
            }
        guard isPossible else {
            throw CohortError(.invalid, "'\(email.prefix(60))' is not an e-mail address; it must look like name@example.org")
        }
        return email
    }

    /// One line of 1 to `longest` printable characters, trimmed.
    /// - Throws: ``CohortError`` `invalid`, naming the field.
    static func name(_ text: String, field: String, longest: Int = 64) throws -> String {
        let name = text.trimmed
        guard (1...longest).contains(name.count), name.utf8.count <= 4 * longest, name.unicodeScalars.allSatisfy(\.isPrintable) else {
            throw CohortError(
                .invalid,
                "\(field) is '\(name.prefix(longest))' (\(name.count) characters); it must be 1 to \(longest) printable characters")
        }
        return name
    }
}

extension Unicode.Scalar {
    var isPrintable: Bool {
        switch properties.generalCategory {
        case .control, .format, .surrogate, .unassigned, .lineSeparator, .paragraphSeparator, .privateUse: false
        default: true
        }
    }
}

extension String {
    /// Without white space at both ends.
    var trimmed: String {
        var text = self[...]
        while let first = text.first, first.isWhitespace { text.removeFirst() }
        while let last = text.last, last.isWhitespace { text.removeLast() }
        return String(text)
    }
}
