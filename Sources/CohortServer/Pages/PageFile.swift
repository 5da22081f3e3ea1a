import CPages

/// A file of the pages: a template (`.mustache`), a script, a style, a picture, sample data. They are in `Sources/CPages/files`, and embedded in the executable.
struct PageFile: Sendable {
    let name: String
    let text: String

    static let all: [PageFile] = (0..<cohort_page_file_count()).map { index in
        let file = cohort_page_file_at(index)
        return PageFile(
            name: String(cString: file.name),
            text: String(decoding: UnsafeRawBufferPointer(start: file.bytes, count: file.size), as: UTF8.self))
    }

    static func named(_ name: String) -> PageFile? { all.first { $0.name == name } }

    /// The name without its extension: `new` of `new.mustache`.
    var stem: String { String(name.prefix { $0 != "." }) }

    var isTemplate: Bool { name.hasSuffix(".mustache") }

    /// The media type of an asset; nil for files that browsers do not request.
    var mediaType: String? {
        let types = [
            "js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml",
            "csv": "text/csv; charset=utf-8",
        ]
        return name.split(separator: ".").last.flatMap { types[String($0)] }
    }
}
