import CKernels
import CohortCore

/// A packed table's layout as the kernels read it.
final class PackedGather {
    private let rows: PackedRows
    private let dictionary: UnsafeMutableBufferPointer<Float>
    private let vectors: UnsafeMutableBufferPointer<UnsafePointer<Float>?>
    private let runs: UnsafeMutableBufferPointer<cohort_packed_run>
    private var layout: cohort_packed_layout

    init(_ rows: PackedRows) {
        self.rows = rows
        let dictionary = UnsafeMutableBufferPointer<Float>.allocate(capacity: max(rows.dictionary.count, 1))
        _ = dictionary.update(fromContentsOf: rows.dictionary)
        self.dictionary = dictionary
        let columns = rows.layout.columns
        vectors = .allocate(capacity: max(columns.count, 1))
        for (index, column) in columns.enumerated() {
            vectors.initializeElement(
                at: index, to: column.vectors.flatMap { dictionary.baseAddress.map { UnsafePointer($0) }?.advanced(by: $0.start) })
        }
        var found: [cohort_packed_run] = []
        var feature = 0
        for (index, column) in columns.enumerated() {
            defer { feature += column.features }
            if let last = found.last, last.kind == column.kind, last.width == column.features,
                column.encoding == .constant || last.offset + last.columns * column.bytes == column.offset
            {
                found[found.count - 1].columns += 1
                continue
            }
            found.append(
                cohort_packed_run(
                    kind: column.kind, columns: 1, offset: column.offset, feature: feature, width: column.features,
                    vectors: vectors.baseAddress?.advanced(by: index)))
        }
        runs = .allocate(capacity: max(found.count, 1))
        _ = runs.update(fromContentsOf: found)
        let target =
            switch rows.layout.target {
            case .u8: COHORT_PACKED_U8
            case .u16: COHORT_PACKED_U16
            case .f32, .constant: COHORT_PACKED_FLOATS
            }
        layout = cohort_packed_layout(
            record_bytes: rows.layout.recordBytes, width: feature, runs: runs.baseAddress, run_count: found.count, target: target,
            target_offset: rows.layout.targetOffset)
    }

    deinit {
        dictionary.deallocate()
        vectors.deallocate()
        runs.deallocate()
    }

    /// - Parameters:
    ///   - features: [count, width].
    ///   - targets: [count].
    func gather(
        _ indices: UnsafeBufferPointer<UInt32>, into features: UnsafeMutablePointer<Float>, targets: UnsafeMutablePointer<Float>,
        threads: KernelThreads
    ) {
        withUnsafePointer(to: layout) {
            cohort_gather_packed(threads.pointer, rows.base, $0, indices.baseAddress, indices.count, features, targets)
        }
    }
}

extension RecordLayout.Column {
    fileprivate var kind: cohort_packed_kind {
        switch encoding {
        case .constant: COHORT_PACKED_CONSTANT
        case .f32: COHORT_PACKED_FLOATS
        case .u8: isOneHot ? COHORT_PACKED_ONE_HOT_U8 : COHORT_PACKED_U8
        case .u16: isOneHot ? COHORT_PACKED_ONE_HOT_U16 : COHORT_PACKED_U16
        }
    }
}
