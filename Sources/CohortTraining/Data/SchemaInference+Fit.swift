import CKernels
import CohortCore

extension SchemaInference {
    /// Bytes of all categories of all columns.
    private static let maxCategoryBytes = 64 << 20

    /// Second pass: means, deviations and categories, from the training rows alone. What turns out to be none is ignored.
    /// - Returns: what the rows show that a person should know.
    static func fit(
        _ schema: inout TableSchema, values: inout ColumnValues, reader: CSVReader, scans: [ColumnScan], options: DataOptions,
        parallel: InParallel, shouldContinue: () -> Bool
    ) throws -> [String] {
        let columns = schema.columns
        let textColumns = columns.indices.filter { columns[$0].kind == .categorical }
        var rows = try UsableRows(schema: schema)
        // Numbers that are taken as categories, unless there are too many different ones.
        let codes = Set(textColumns.filter { scans[$0].isNumeric && !options.category.contains(columns[$0].name) })
        var moments = ColumnMoments(schema, codes)
        // Numbers, too, that may be dates.
        let dateColumns = columns.indices.filter { columns[$0].dateFormat != nil && [.date, .numeric].contains(columns[$0].kind) }
        let maybeDates = dateColumns.filter { columns[$0].kind == .numeric }
        var notDates = Set<Int>()
        var dates = [[Moments]](repeating: DatePart.allCases.map { _ in Moments() }, count: dateColumns.count)
        var targetMoments = Moments()
        var extremes = Extremes()
        let ids = columns.indices.filter { columns[$0].kind == .ignored && scans[$0].varies && scans[$0].isNumeric && scans[$0].isWhole }
        var sample = RowSample(
            schema, total: schema.trainingRows,
            ids: ids.filter { !options.ignore.contains(columns[$0].name) && columns[$0].name != options.group })
        var classCounts = [Int](repeating: 0, count: schema.classes.count)
        var heldOutCounts = classCounts
        var categories = [CategoryScan](repeating: CategoryScan(), count: columns.count)
        var bytesLeft = maxCategoryBytes
        var counts = (training: 0, validation: 0, dropped: 0)
        var training: [CSVRecord] = []
        try forEachBatch(reader, hasHeader: schema.hasHeader, shouldContinue) { records in
            training.removeAll(keepingCapacity: true)
            for record in records {
                for index in maybeDates where !notDates.contains(index) {
                    if let format = columns[index].dateFormat, CalendarDate(record.trimmed(index), format) == nil,
                        !Cell.isMissing(record.trimmed(index))
                    {
                        notDates.insert(index)
                    }
                }
                guard let row = try rows.next(record) else {
                    counts.dropped += 1
                    continue
                }
                if schema.task == .regression { extremes.add(row.target, line: record.line) }
                for (place, index) in dateColumns.enumerated() {
                    guard let format = columns[index].dateFormat, let date = CalendarDate(record.trimmed(index), format) else { continue }
                    values.add(date, column: index)
                    guard !row.isValidation else { continue }
                    for (part, which) in DatePart.allCases.enumerated() { dates[place][part].add(date.part(which)) }
                }
                guard !row.isValidation else {
                    counts.validation += 1
                    if schema.task == .classification { heldOutCounts[Int(row.target)] += 1 }
                    continue
                }
                counts.training += 1
                sample.add(record, target: row.target)
                if schema.task == .classification { classCounts[Int(row.target)] += 1 } else { targetMoments.add(row.target) }
                for index in textColumns { categories[index].add(record.trimmed(index), &bytesLeft) }
                training.append(record)
            }
            try moments.add(training, parallel)
        }
        (schema.trainingRows, schema.validationRows, schema.droppedRows) = counts
        if schema.task == .classification { (schema.classCounts, schema.validationCounts) = (classCounts, heldOutCounts) }
        for (place, index) in dateColumns.enumerated() where columns[index].kind == .numeric {
            let parts = columns[index].dateFormat?.parts ?? []
            let varies = zip(DatePart.allCases, dates[place]).contains { parts.contains($0) && $1.deviation > 0 }
            if notDates.contains(index) || !varies { schema.columns[index].dateFormat = nil } else { schema.columns[index].kind = .date }
        }
        for index in columns.indices {
            switch schema.columns[index].kind {
            case .numeric: fit(&schema.columns[index], moments.all[index], keepsConstant: options.keepsConstant == true)
            case .categorical:
                fit(&schema.columns[index], scan: categories[index], first: scans[index])
                if codes.contains(index) {
                    fitCode(&schema.columns[index], moments: moments.all[index], scan: categories[index], first: scans[index])
                }
            case .date:
                if let place = dateColumns.firstIndex(of: index) { fit(&schema.columns[index], dates[place]) }
            case .target: if schema.task == .regression { try fitTarget(&schema.columns[index], targetMoments) }
            case .ignored: break
            }
        }
        let said = ScalingRules.apply(options.scaling, to: &schema, moments: moments.all, sample: sample)
        return said + SampleWarnings.of(schema, sample: sample, extremes: extremes, moments: moments.all) + TimeWarnings.of(schema, sample)
    }

    private static func fit(_ column: inout TableSchema.Column, _ moments: Moments, keepsConstant: Bool) {
        // Of one value, 0 is what is left of it.
        let deviation = keepsConstant && moments.count > 0 && moments.deviation == 0 ? 1 : moments.deviation
        if deviation > 0, deviation.isFinite {
            (column.mean, column.std) = (moments.mean, deviation)
        } else {
            column.kind = .ignored
            column.note =
                moments.count == 0
                ? "has no values in the training rows"
                : deviation == 0 ? "has the one value \(moments.mean) in the training rows" : "has values too large to compute with"
        }
    }

    /// Numbers written as codes: categories, or a quantity when nearly each row has a different number.
    private static func fitCode(
        _ column: inout TableSchema.Column, moments: Moments, scan: CategoryScan, first: ColumnScan
    ) {
        let name = column.name.contains(" ") ? "'\(column.name)'" : column.name
        guard column.kind == .ignored, scan.values > 0 else {
            let how = "is codes, with 0 in front of some: taken as categories (--number \(name) takes them as a quantity)"
            column.note = column.note.map { "\(how); it \($0)" } ?? how
            return
        }
        column.kind = .numeric
        (column.categories, column.hasOther, column.note) = (nil, nil, nil)
        fit(&column, moments, keepsConstant: false)
        guard column.kind == .numeric else { return }
        column.note =
            "is written with 0 in front of some numbers, and has too many different ones for categories: taken as a quantity (--ignore \(name) leaves it out)"
    }

    private static func fit(_ column: inout TableSchema.Column, _ moments: [Moments]) {
        let parts = zip(DatePart.allCases, moments).compactMap { part, moments in
            moments.deviation > 0 && column.dateFormat?.parts.contains(part) == true
                ? TableSchema.Column.Part(part: part, mean: moments.mean, std: moments.deviation) : nil
        }
        if let format = column.dateFormat, !parts.isEmpty {
            column.parts = parts
            column.note = "is taken as dates (\(format.example)): \(parts.map(\.part.rawValue).joined(separator: ", "))"
        } else {
            (column.kind, column.dateFormat) = (.ignored, nil)
            column.note = "has no dates in the training rows that differ"
        }
    }

    private static func fitTarget(_ column: inout TableSchema.Column, _ moments: Moments) throws {
        guard moments.count > 0 else { return }
        let deviation = moments.deviation
        guard deviation > 0, deviation.isFinite else {
            throw CohortError(
                .invalid,
                deviation == 0
                    ? "the target column '\(column.name)' has the one value \(moments.mean) in the training rows: there is nothing to learn"
                    : "the target column '\(column.name)' has values too large to compute with")
        }
        (column.mean, column.std) = (moments.mean, deviation)
    }

    private static func fit(_ column: inout TableSchema.Column, scan: CategoryScan, first: ColumnScan) {
        let mixed = first.numbers > 0 ? first.example.map { "numbers and text, such as '\($0.text)' on line \($0.line), are mixed" } : nil
        let different = scan.counts?.count ?? 0
        if let counts = scan.counts, !counts.isEmpty, different * 2 <= scan.values || scan.values < 20 {
            column.note = first.hint.map { "is taken as categories: \($0)" } ?? mixed.map { "\($0): taken as categories" }
            if different > maxCategories {
                let kept = counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.prefix(maxCategories)
                column.categories = kept.map(\.key).sorted()
                column.hasOther = true
                let share = Double(kept.reduce(0) { $0 + $1.value }) / Double(max(1, scan.values))
                column.note =
                    "has \(different) different values: the \(maxCategories) most frequent are categories (\(Int(share * 100)) % of the rows), the others one more"
            } else {
                column.categories = counts.keys.sorted()
            }
        } else {
            column.kind = .ignored
            let many =
                scan.values == 0
                ? "has no values in the training rows"
                : "is text of \(scan.counts.map { "\($0.count)" } ?? "more than \(CategoryScan.most)") different values: no categories"
            column.note = (first.hint ?? mixed).map { "\(many) (\($0))" } ?? many
        }
    }
}

/// Means and deviations of the numeric columns.
private struct ColumnMoments {
    private(set) var all: [Moments]
    /// Columns of numbers that are next to each other.
    private let runs: [Range<Int>]
    private let comma: Bool

    /// - Parameter codes: columns that may turn out to be numbers.
    init(_ schema: TableSchema, _ codes: Set<Int>) {
        all = .init(repeating: Moments(), count: schema.columns.count)
        let names = Set(codes.map { schema.columns[$0].name })
        runs = schema.runs { $0.kind == .numeric || names.contains($0.name) }
        comma = schema.takesComma
    }

    /// Takes the records, in order; threads divide the columns, so that each column's sums are made in the order of the rows.
    mutating func add(_ records: [CSVRecord], _ parallel: InParallel) throws {
        let (runs, comma) = (runs, comma)
        try all.withUnsafeMutableBufferPointer { all in
            try parallel.divide(all.count) { part, _ in
                let runs = runs.map { $0.clamped(to: part) }.filter { !$0.isEmpty }
                for record in records {
                    for run in runs { Self.add(record, columns: run, comma: comma, to: all) }
                }
            }
        }
    }

    private static func add(_ record: CSVRecord, columns run: Range<Int>, comma: Bool, to all: UnsafeMutableBufferPointer<Moments>) {
        var index = run.lowerBound
        while index < run.upperBound {
            index = withUnsafePointer(to: record.fields) {
                cohort_csv_add_moments($0, index, run.upperBound, comma ? 1 : 0, all.baseAddress)
            }
            guard index < run.upperBound else { return }
            if let number = Cell.number(record.trimmed(index), comma: comma) { all[index].add(number) }
            index += 1
        }
    }
}

/// The different values of a text column in the training rows and how often each is there, up to a bound.
private struct CategoryScan {
    /// Different values that are counted.
    static let most = 10_000

    /// nil past the bound.
    private(set) var counts: [String: Int]? = [:]
    private(set) var values = 0

    mutating func add(_ bytes: CellBytes, _ bytesLeft: inout Int) {
        guard !Cell.isMissing(bytes, none: false) else { return }
        values += 1
        guard counts != nil else { return }
        guard bytes.count <= 256, bytesLeft > 0 else {
            counts = nil
            return
        }
        let known = counts?.count ?? 0
        counts?[String(decoding: bytes, as: UTF8.self), default: 0] += 1
        if (counts?.count ?? 0) > known { bytesLeft -= bytes.count + 64 }
        if (counts?.count ?? 0) > Self.most { counts = nil }
    }
}
