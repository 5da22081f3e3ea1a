import CKernels
import CohortCore

/// The first layer of a net on a packed table with columns of categories: the product adds rows of weights in place of multiplying zeros.
///
/// Its weights are held transposed, [in, out], the rows of other features first, then those of categories, in the order of the columns. Sums are made in
/// another order than a dense product makes them.
final class CodedLayer {
    /// Features a column of categories has on average, from which on this is faster.
    private static let minFeatures = 8
    /// Features of categories, all together.
    private static let minWidth = 64

    /// The row of the transposed weights for each feature.
    private let rowOfFeature: [Int]
    /// Features that are no categories.
    let denseCount: Int
    private let codeRows: Int
    private let rows: PackedRows
    private let gather: PackedGather
    private let columns: UnsafeMutableBufferPointer<cohort_code_column>
    private var codes: UnsafeMutablePointer<Int32>
    private var capacity = 0

    /// nil for a table on which this is not faster.
    init?(_ table: FeatureTable) {
        guard case .packed(let rows) = table.rows else { return nil }
        let layout = rows.layout
        let coded = layout.columns.filter(\.isOneHot)
        let features = coded.reduce(0) { $0 + $1.features }
        guard features >= Self.minWidth, features >= Self.minFeatures * coded.count else { return nil }
        var dense = layout
        dense.columns = layout.columns.filter { !$0.isOneHot }
        denseCount = dense.featureCount
        codeRows = features
        self.rows = rows
        gather = PackedGather(PackedRows(base: rows.base, layout: dense, dictionary: rows.dictionary))
        var (nextDense, nextCode) = (0, denseCount)
        var rowOfFeature: [Int] = []
        var found: [cohort_code_column] = []
        for column in layout.columns {
            if column.isOneHot {
                found.append(
                    cohort_code_column(offset: column.offset, bytes: column.bytes, features: column.features, first_row: nextCode))
                rowOfFeature += nextCode..<(nextCode + column.features)
                nextCode += column.features
            } else {
                rowOfFeature += nextDense..<(nextDense + column.features)
                nextDense += column.features
            }
        }
        self.rowOfFeature = rowOfFeature
        columns = .allocate(capacity: found.count)
        _ = columns.initialize(from: found)
        codes = .allocate(capacity: 1)
    }

    deinit {
        columns.deallocate()
        codes.deallocate()
    }

    /// Weights [out, in] as they are held here, and back.
    func arrange(_ weights: UnsafeMutablePointer<Float>, outputs: Int, isBack: Bool) {
        let inputs = rowOfFeature.count
        let copy = [Float](UnsafeBufferPointer(start: weights, count: inputs * outputs))
        for (feature, row) in rowOfFeature.enumerated() {
            for output in 0..<outputs {
                let (plain, held) = (output * inputs + feature, row * outputs + output)
                if isBack { weights[plain] = copy[held] } else { weights[held] = copy[plain] }
            }
        }
    }

    /// - Parameter features: gets the features that are no categories, [count, ``denseCount``].
    func gather(
        _ indices: UnsafeBufferPointer<UInt32>, into features: UnsafeMutablePointer<Float>, targets: UnsafeMutablePointer<Float>,
        threads: KernelThreads
    ) {
        if indices.count > capacity {
            codes.deallocate()
            capacity = indices.count
            codes = .allocate(capacity: capacity * columns.count)
        }
        gather.gather(indices, into: features, targets: targets, threads: threads)
        cohort_gather_codes(
            rows.base, rows.layout.recordBytes, columns.baseAddress, columns.count, indices.baseAddress, indices.count, codes)
    }

    /// Z [batch, out] = activation(X · W + b) for the batch that was gathered.
    func forward(
        _ z: UnsafeMutablePointer<Float>, x: UnsafePointer<Float>, weight: UnsafePointer<Float>, bias: UnsafePointer<Float>, batch: Int,
        outputs: Int, activation: cohort_activation, products: Products?, threads: KernelThreads
    ) {
        if denseCount > 0 {
            products?.plainForward(z, x: x, weight: weight, bias: bias, batch: batch, inputs: denseCount, outputs: outputs)
        } else {
            for row in 0..<batch { (z + row * outputs).update(from: bias, count: outputs) }
        }
        cohort_add_code_rows(threads.pointer, codes, columns.count, batch, weight, outputs, z)
        cohort_activate(z, batch * outputs, Int32(activation.rawValue))
    }

    /// The gradient of the weights as they are held here.
    func weightGradient(
        _ gradient: UnsafeMutablePointer<Float>, dz: UnsafePointer<Float>, x: UnsafePointer<Float>, batch: Int, outputs: Int,
        products: Products?, threads: KernelThreads
    ) {
        if denseCount > 0 {
            // dW [dense, out] = Xᵀ · dZ.
            products?.weightGradient(gradient, dz: x, x: dz, batch: batch, inputs: outputs, outputs: denseCount)
        }
        cohort_code_gradient(threads.pointer, codes, columns.count, batch, dz, outputs, denseCount, codeRows, gradient)
    }
}
