/// How a CSV's bytes are text, where they are not UTF-8.
public enum TextEncoding: String, Codable, Sendable, CaseIterable {
    /// What Excel calls "Unicode text"; told by its byte order mark.
    case utf16le = "utf-16le"
    case utf16be = "utf-16be"
    /// What Excel on Windows writes in Western Europe and America; taken for what is no UTF-8.
    case windows1252 = "windows-1252"
    /// Tensors: a `.safetensors` file with `inputs` [rows, …] and `targets` [rows], of which columns x0, x1, … and `target` are made.
    case safetensors
}
