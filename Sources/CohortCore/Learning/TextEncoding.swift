/// Text encodings of a CSV other than UTF-8.
public enum TextEncoding: String, Codable, Sendable, CaseIterable {
    /// "Unicode text" of Excel; recognized by its byte order mark.
    case utf16le = "utf-16le"
    case utf16be = "utf-16be"
    /// The encoding of Excel on Windows in Western Europe and America; assumed for text that is not UTF-8.
    case windows1252 = "windows-1252"
    /// Tensors: a `.safetensors` file with `inputs` [rows, …] and `targets` [rows], of which columns x0, x1, … and `target` are made.
    case safetensors
}
