#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Makes the folder and those above it that are not there, with mode 0700.
/// - Returns: the reason of a failure; nil: the folder exists.
public func createPrivateFolder(_ path: String) -> String? {
    var about = stat()
    if stat(path, &about) == 0 { return about.st_mode & S_IFMT == S_IFDIR ? nil : "there is a file of that name" }
    let parent = path.split(separator: "/", omittingEmptySubsequences: true).dropLast().joined(separator: "/")
    if !parent.isEmpty, let why = createPrivateFolder(path.hasPrefix("/") ? "/\(parent)" : parent) { return why }
    // Another process may have made it meanwhile.
    guard mkdir(path, 0o700) == 0 || errno == EEXIST else { return String(cString: strerror(errno)) }
    return nil
}
