import CohortCore

/// The different values of the target and how often each is there, up to as many as there may be classes.
struct LabelScan {
    /// nil past the bound.
    private(set) var counts: [String: Int]? = [:]
    /// The line of a label that is too long for one.
    private(set) var longLine: Int?
    /// `None`, in any case of letters: a word, or no value.
    private var nones: [String: Int] = [:]
    /// Short ones, by ``Swift/UnsafeBufferPointer/shortKey``.
    private var short: [UInt64: Int] = [:]

    mutating func add(_ bytes: CellBytes, line: Int) {
        guard counts != nil else { return }
        if let key = bytes.shortKey, let count = short[key] {
            short[key] = count + 1
            return
        }
        if Cell.isNone(bytes) {
            nones[String(decoding: bytes, as: UTF8.self), default: 0] += 1
            return
        }
        guard !Cell.isMissing(bytes) else { return }
        guard bytes.count <= 256 else {
            longLine = line
            counts = nil
            return
        }
        if let key = bytes.shortKey { short[key] = 1 } else { counts?[String(decoding: bytes, as: UTF8.self), default: 0] += 1 }
        if (counts?.count ?? 0) + short.count > SchemaInference.maxClasses { counts = nil }
    }

    /// - Parameter noneIsWord: `None` is a separate class.
    /// - Returns: rows of each label; nil past the bound.
    func labels(noneIsWord: Bool) -> [String: Int]? {
        guard var counts else { return nil }
        for (key, count) in short { counts[CellBytes.text(ofShortKey: key), default: 0] += count }
        if noneIsWord { counts.merge(nones, uniquingKeysWith: +) }
        return counts
    }
}
