import CohortCore
import CohortServer
import FoundationEssentials
import SystemPackage

extension Settings {
    /// Who may make an account: `COHORT_SIGN_UP`, `COHORT_INVITATION_CODES`.
    /// - Parameters:
    ///   - isForAll: others than this machine's people can reach the server. Then an account takes an invitation code, unless a setting says otherwise.
    ///   - dataFolder: the folder for the server's generated code.
    /// - Returns: the rule and, where no setting gives codes, the server's own one.
    /// - Throws: ``CohortError`` `invalid` for invalid settings, or a code that cannot be read.
    func signUpRule(isForAll: Bool, dataFolder: String) throws -> (rule: SignUpRule, ownCode: String?) {
        let codes = (text("invitation_codes") ?? "").split(separator: ",").map(String.init)
        let mode = text("sign_up", default: !codes.isEmpty || isForAll ? "invited" : "open")
        guard ["open", "invited", "closed"].contains(mode) else {
            throw CohortError(
                .invalid,
                "COHORT_SIGN_UP is '\(mode.printable(max: 40))'; it must be open (anyone can make an account), invited (with a code) or closed"
            )
        }
        guard mode == "invited" || codes.isEmpty else {
            throw CohortError(.invalid, "COHORT_SIGN_UP is \(mode), which does not go with COHORT_INVITATION_CODES")
        }
        guard mode == "invited" else { return (mode == "open" ? .open : .closed, nil) }
        if !codes.isEmpty {
            do { return (try .invited(by: codes), nil) } catch let error as CohortError {
                throw CohortError(.invalid, "COHORT_INVITATION_CODES: \(error.message)")
            }
        }
        let code = try Self.ownCode(at: "\(dataFolder)/invitation.code")
        return (try .invited(by: [code]), code)
    }

    /// Made once and kept, with mode 0600; another one is made when the file is removed.
    private static func ownCode(at path: String) throws -> String {
        if FileManager.default.fileExists(atPath: path) {
            do {
                let code = try String(contentsOfFile: path, encoding: .utf8).split(whereSeparator: \.isWhitespace).joined()
                _ = try SignUpRule.invited(by: [code])
                return code
            } catch {
                throw CohortError(
                    .invalid, "the invitation code in \(path) cannot be read (\(error)): remove the file to have a new one made")
            }
        }
        let code = SignUpRule.newCode()
        do {
            let file = try FileDescriptor.open(
                FilePath(path), .writeOnly, options: [.create, .exclusiveCreate], permissions: [.ownerRead, .ownerWrite])
            try file.closeAfter { _ = try file.writeAll("\(code)\n".utf8) }
        } catch let error as Errno {
            throw CohortError(.invalid, "the invitation code cannot be written to \(path): \(error)")
        }
        return code
    }

    /// The path that a proxy has put before all others: `COHORT_BASE_PATH`; empty at the root.
    var basePath: String {
        get throws {
            guard let text = text("base_path"), text != "/" else { return "" }
            let path = text.hasSuffix("/") ? String(text.dropLast()) : text
            let parts = path.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
            let isPath =
                path.hasPrefix("/")
                && parts.allSatisfy { part in
                    !part.isEmpty && !part.hasPrefix(".")
                        && part.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-_.".contains($0)) }
                }
            guard isPath else {
                throw CohortError(
                    .invalid, "COHORT_BASE_PATH is '\(text.printable(max: 60))'; it must be a path of letters and digits such as /cohort")
            }
            return path
        }
    }
}
