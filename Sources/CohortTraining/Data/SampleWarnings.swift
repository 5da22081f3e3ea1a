import CKernels
import CohortCore

/// Warnings from an even sample of the training rows.
enum SampleWarnings {
    /// The improvement over guessing by one column alone from which it is reported: 1 is perfect.
    private static let (tellsClass, tellsNumber) = (0.98, 0.995)

    /// - Parameters:
    ///   - extremes: the target's outermost values.
    ///   - moments: of each column.
    static func of(_ schema: TableSchema, sample: RowSample, extremes: Extremes, moments: [Moments]) -> [String] {
        let placeholders = placeholders(schema, sample)
        return leaks(schema, sample) + placeholders + farTargets(schema, sample: sample, extremes: extremes)
            + farFeatures(schema, sample: sample, moments: moments, known: placeholders) + codes(schema, sample)
    }

    // MARK: Whole numbers that may be codes

    /// Numbers of schools, communes or products: rows of one number are alike in the target, and those of the next number are as any others. Of a
    /// quantity the numbers beside it tell as much as itself.
    private static func codes(_ schema: TableSchema, _ sample: RowSample) -> [String] {
        let found = sample.numbers.keys.sorted().compactMap { index -> String? in
            guard schema.columns[index].kind == .numeric, let values = sample.numbers[index] else { return nil }
            let known = values.indices.filter { $0 % 2 == 0 && !values[$0].isNaN }
            guard known.count >= 100, known.allSatisfy({ values[$0].rounded() == values[$0] && abs(values[$0]) < 1e15 }) else { return nil }
            let groups = Dictionary(grouping: known) { values[$0] }
            // Of few numbers, such as marks or children, neighbours are far from each other.
            guard (15...200).contains(groups.count), known.count >= 5 * groups.count else { return nil }
            let ordered = groups.keys.sorted()
            let rows = ordered.map { groups[$0] ?? [] }
            let places = Dictionary(uniqueKeysWithValues: ordered.enumerated().map { ($1, $0) })
            let own = shrunkScore(values, targets: sample.targets, task: schema.task) { value in places[value].map { [(rows[$0], 1)] } }
            let around = shrunkScore(values, targets: sample.targets, task: schema.task) { value in
                places[value].map { place in
                    let (low, high) = (max(0, place - 1), min(ordered.count - 1, place + 1))
                    guard low < place, place < high else { return [(rows[low < place ? low : high], 1)] }
                    let share = (value - ordered[low]) / (ordered[high] - ordered[low])
                    return [(rows[low], 1 - share), (rows[high], share)]
                }
            }
            guard own >= 0.04, own - max(0, around) >= max(0.03, own / 2), turns(rows, targets: sample.targets, task: schema.task) >= 0.5
            else {
                return nil
            }
            let name = schema.columns[index].name
            return
                "'\(name)' has \(groups.count) different whole numbers, and rows of one are alike in '\(schema.target)' where those of the next are not: if it is a code, such as a school's, --category \(name) makes each number a category"
        }
        // Where many columns are so, such as the points of a picture, it is the kind of the data.
        guard found.count <= max(3, sample.numbers.count / 8) else { return [] }
        return found.count > 5 ? found.prefix(5) + ["… and \(found.count - 5) columns more have such numbers"] : found
    }

    /// The share of direction changes of the target's mean (or of the commonest class's share) from one number to the next: low for a curve, two thirds for
    /// codes, which have no order.
    private static func turns(_ groups: [[Int]], targets: [Double], task: LearningTask) -> Double {
        let common = Dictionary(grouping: targets) { $0 }.max { ($0.value.count, $1.key) < ($1.value.count, $0.key) }?.key
        let means = groups.filter { $0.count >= 3 }.map { rows in
            rows.reduce(0.0) { $0 + (task == .regression ? targets[$1] : targets[$1] == common ? 1 : 0) } / Double(rows.count)
        }
        guard means.count >= 10 else { return 0 }
        let steps = zip(means, means.dropFirst()).map { $1 - $0 }
        let turns = zip(steps, steps.dropFirst()).count { $0 * $1 < 0 }
        return Double(turns) / Double(steps.count - 1)
    }

    /// The improvement over guessing when the odd rows are predicted by means of some of the even ones, by their weights (of classes: by shares), drawn towards
    /// the mean of all where they are few. 0: none, 1: perfect.
    private static func shrunkScore(
        _ values: [Double], targets: [Double], task: LearningTask, _ rows: (Double) -> [(rows: [Int], weight: Double)]?
    ) -> Double {
        let known = targets.indices.filter { $0 % 2 == 0 }
        let prior = 5.0
        let classes: [Double?] = task == .classification ? Set(targets).sorted().map { $0 } : [nil]
        // More classes than that cost time and tell nothing more.
        guard classes.count <= 20 else { return 0 }
        var (error, all) = (0.0, 0.0)
        for label in classes {
            let target = { (row: Int) in label.map { targets[row] == $0 ? 1 : 0 } ?? targets[row] }
            let base = known.reduce(0) { $0 + target($1) } / Double(max(1, known.count))
            var cached: [Double: Double] = [:]
            for row in targets.indices where row % 2 == 1 && !values[row].isNaN {
                let value = values[row]
                if cached[value] == nil {
                    cached[value] = rows(value)?.reduce(0) { sum, part in
                        let mean = (part.rows.reduce(0) { $0 + target($1) } + prior * base) / (Double(part.rows.count) + prior)
                        return sum + part.weight * mean
                    }
                }
                let guess = cached[value] ?? base
                error += (target(row) - guess) * (target(row) - guess)
                all += (target(row) - base) * (target(row) - base)
            }
        }
        return all > 0 ? 1 - error / all : 0
    }

    // MARK: Values far from all others

    private static func farTargets(_ schema: TableSchema, sample: RowSample, extremes: Extremes) -> [String] {
        guard schema.task == .regression, let far = FarValues(sample.targets.sorted()) else { return [] }
        let found = (extremes.least + extremes.largest).filter { far.isFar($0.value) }
        guard !found.isEmpty else { return [] }
        let places = found.map { "\(Cell.label($0.value)) on line \($0.line)" }
        let values = found.count == 1 ? "a value of '\(schema.target)' lies" : "values of '\(schema.target)' lie"
        return [
            "\(values) far from all others (\(places.joined(separator: ", "))): the error is mostly theirs, and little else is learned; correct or remove them"
        ]
    }

    private static func farFeatures(_ schema: TableSchema, sample: RowSample, moments: [Moments], known: [String]) -> [String] {
        let found = schema.columns.indices.compactMap { index -> String? in
            let column = schema.columns[index]
            guard column.kind == .numeric, !known.contains(where: { $0.contains("'\(column.name)'") }),
                let far = FarValues(sample.sorted(index))
            else { return nil }
            guard let value = [moments[index].least, moments[index].largest].first(where: far.isFar) else { return nil }
            return
                "\(Cell.label(value)) in '\(column.name)' lies far from all other values: correct it, or --scaling robust keeps it from flattening the others"
        }
        return found.count > 5 ? found.prefix(5) + ["… and \(found.count - 5) columns more have such values"] : found
    }

    // MARK: Columns that tell the target

    /// Every column alone, on one half of the sample, against the other half: a text by what its rows mostly are, a number by its nearest
    /// neighbour.
    private static func leaks(_ schema: TableSchema, _ sample: RowSample) -> [String] {
        guard sample.count >= 40 else { return [] }
        // A few absurd values would decide over every column.
        let far = schema.task == .regression ? FarValues(sample.targets.sorted()) : nil
        let targets = far.map { far in sample.targets.map(far.clipped) } ?? sample.targets
        let telling = schema.columns.indices.compactMap { index -> (name: String, score: Double)? in
            let guesses =
                sample.numbers[index].map { byNeighbour($0, targets) }
                ?? sample.texts[index].map { byText($0, targets: targets, task: schema.task) }
            guard schema.columns[index].featureCount > 0, let guesses else { return nil }
            return (schema.columns[index].name, score(guesses, targets: targets, task: schema.task))
        }.filter { $0.score >= (schema.task == .classification ? tellsClass : tellsNumber) }
        return telling.prefix(5).map { name, score in
            let how =
                schema.task == .classification
                ? "right in \(Int((score * 100).rounded())) % of the rows that guessing gets wrong"
                : "R² \((score * 1_000).rounded() / 1_000)"
            return
                "'\(name)' alone tells '\(schema.target)' (\(how)): is it known beforehand? If it is a copy of it or comes after it, --ignore \(name) leaves it out"
        }
    }

    /// Guesses the odd rows' targets from the even ones; nil: no guess.
    private static func byNeighbour(_ values: [Double], _ targets: [Double]) -> [Double?] {
        let known = values.indices.filter { $0 % 2 == 0 && !values[$0].isNaN }.sorted { (values[$0], $0) < (values[$1], $1) }
        return values.indices.map { index in
            guard index % 2 == 1, !values[index].isNaN, !known.isEmpty else { return nil }
            var (low, high) = (0, known.count)
            while low < high {
                let middle = (low + high) / 2
                if values[known[middle]] < values[index] { low = middle + 1 } else { high = middle }
            }
            let (before, after) = (max(low - 1, 0), min(low, known.count - 1))
            let isBefore = abs(values[known[before]] - values[index]) < abs(values[known[after]] - values[index])
            return targets[known[isBefore ? before : after]]
        }
    }

    private static func byText(_ texts: [UInt64], targets: [Double], task: LearningTask) -> [Double?] {
        var seen: [UInt64: [Double]] = [:]
        for index in texts.indices where index % 2 == 0 && texts[index] != 0 { seen[texts[index], default: []].append(targets[index]) }
        let guesses = seen.mapValues { values -> Double in
            guard task == .classification else { return values.reduce(0, +) / Double(values.count) }
            return Dictionary(grouping: values) { $0 }.max { ($0.value.count, $1.key) < ($1.value.count, $0.key) }?.key ?? 0
        }
        return texts.indices.map { $0 % 2 == 1 ? guesses[texts[$0]] : nil }
    }

    /// 0: as good as guessing, 1: perfect. A row without a guess is guessed.
    private static func score(_ guesses: [Double?], targets: [Double], task: LearningTask) -> Double {
        let tested = guesses.indices.filter { $0 % 2 == 1 }
        let known = guesses.indices.filter { $0 % 2 == 0 }.map { targets[$0] }
        guard tested.count >= 20, !known.isEmpty else { return 0 }
        if task == .classification {
            let most = Dictionary(grouping: known) { $0 }.max { ($0.value.count, $1.key) < ($1.value.count, $0.key) }?.key ?? 0
            let right = Double(tested.count { (guesses[$0] ?? most) == targets[$0] })
            let base = Double(tested.count { targets[$0] == most })
            return Double(tested.count) - base >= 5 ? (right - base) / (Double(tested.count) - base) : 0
        }
        let mean = known.reduce(0, +) / Double(known.count)
        func squares(_ guess: (Int) -> Double) -> Double { tested.reduce(0) { $0 + (targets[$1] - guess($1)) * (targets[$1] - guess($1)) } }
        let all = squares { _ in mean }
        return all > 0 ? 1 - squares { guesses[$0] ?? mean } / all : 0
    }

    // MARK: Numbers that stand for no value

    private static let placeholders: [Double] = [-9_999, -999, -99, 99, 999, 9_999, 99_999]

    /// A number such as −999 that comes often and lies farther from all others than these from one another.
    private static func placeholders(_ schema: TableSchema, _ sample: RowSample) -> [String] {
        let found = sample.numbers.keys.sorted().compactMap { index -> String? in
            let sorted = sample.sorted(index)
            guard let least = sorted.first, let largest = sorted.last else { return nil }
            for value in [least, largest] where placeholders.contains(value) {
                let others = sorted.filter { $0 != value }
                let times = sorted.count - others.count
                guard times >= 2, others.count >= 10, let low = others.first, let high = others.last, high > low else { continue }
                if max(low - value, value - high) > high - low {
                    return
                        "\(Cell.label(value)) in '\(schema.columns[index].name)' lies far from all other values: does it stand for no value? Write NA then"
                }
            }
            return nil
        }
        return found.count > 10 ? found.prefix(10) + ["… and \(found.count - 10) columns more have such numbers"] : found
    }
}
