import CKernels
import Synchronization

/// Matrix products: small ones by our own kernels, large ones by BLAS, where there is one. All matrices are row-major.
struct Products {
    /// Multiplications from which on BLAS is faster than our own kernels.
    static let large = 1 << 20

    /// Room for the kernels.
    private let panel: UnsafeMutablePointer<Float>
    private let threads: KernelThreads
    private let hasBLAS: Bool

    /// - Parameters:
    ///   - maxInner: the longest inner dimension that comes.
    ///   - usesBLAS: whether any product is large.
    init(maxInner: Int, usesBLAS: Bool, threads: KernelThreads) {
        self.threads = threads
        panel = .allocate(capacity: 16 * max(maxInner, 1))
        hasBLAS = usesBLAS && BLAS.isThere
    }

    func deallocate() { panel.deallocate() }

    /// Z [batch, out] = activation(X [batch, in] · Wᵀ + b), W being [out, in].
    func forward(
        _ z: UnsafeMutablePointer<Float>, x: UnsafePointer<Float>, weight: UnsafePointer<Float>, bias: UnsafePointer<Float>, batch: Int,
        inputs: Int, outputs: Int, activation: cohort_activation
    ) {
        if isLarge(batch: batch, inputs: inputs, outputs: outputs) {
            cohort_blas_sgemm(threads.pointer, 0, 1, batch, outputs, inputs, x, inputs, weight, inputs, z)
            cohort_bias_activate(z, bias, batch, outputs, Int32(activation.rawValue))
        } else {
            let isReLU = activation == COHORT_RELU
            cohort_gemm(batch, outputs, inputs, x, inputs, 1, weight, inputs, 1, z, bias, isReLU ? 1 : 0, nil, panel)
            if !isReLU { cohort_activate(z, batch * outputs, Int32(activation.rawValue)) }
        }
    }

    /// Z [batch, out] = X [batch, in] · W + b, W being [in, out].
    func plainForward(
        _ z: UnsafeMutablePointer<Float>, x: UnsafePointer<Float>, weight: UnsafePointer<Float>, bias: UnsafePointer<Float>, batch: Int,
        inputs: Int, outputs: Int
    ) {
        if isLarge(batch: batch, inputs: inputs, outputs: outputs) {
            cohort_blas_sgemm(threads.pointer, 0, 0, batch, outputs, inputs, x, inputs, weight, outputs, z)
            cohort_bias_activate(z, bias, batch, outputs, Int32(COHORT_LINEAR.rawValue))
        } else {
            cohort_gemm(batch, outputs, inputs, x, inputs, 1, weight, outputs, 0, z, bias, 0, nil, panel)
        }
    }

    /// dW [out, in] = dZᵀ · X.
    func weightGradient(
        _ gradient: UnsafeMutablePointer<Float>, dz: UnsafePointer<Float>, x: UnsafePointer<Float>, batch: Int, inputs: Int, outputs: Int
    ) {
        if isLarge(batch: batch, inputs: inputs, outputs: outputs) {
            cohort_blas_sgemm(threads.pointer, 1, 0, outputs, inputs, batch, dz, outputs, x, inputs, gradient)
        } else {
            cohort_gemm(outputs, inputs, batch, dz, 1, outputs, x, inputs, 0, gradient, nil, 0, nil, panel)
        }
    }

    /// dX [batch, in] = dZ · W; where `gate` [batch, in] is given, 0 where it is not positive: ReLU's slope.
    func inputGradient(
        _ dx: UnsafeMutablePointer<Float>, dz: UnsafePointer<Float>, weight: UnsafePointer<Float>, gate: UnsafePointer<Float>?, batch: Int,
        inputs: Int, outputs: Int
    ) {
        if isLarge(batch: batch, inputs: inputs, outputs: outputs) {
            cohort_blas_sgemm(threads.pointer, 0, 0, batch, inputs, outputs, dz, outputs, weight, inputs, dx)
            if let gate { cohort_activation_gradient(dx, gate, batch * inputs, Int32(COHORT_RELU.rawValue)) }
        } else {
            cohort_gemm(batch, inputs, outputs, dz, outputs, 1, weight, inputs, 0, dx, nil, 0, gate, panel)
        }
    }

    private func isLarge(batch: Int, inputs: Int, outputs: Int) -> Bool { hasBLAS && batch * inputs * outputs >= Self.large }
}

/// Threads that share out large products and updates. A model's work calls them, from one thread at a time.
final class KernelThreads {
    let pointer: OpaquePointer?

    /// - Parameter count: with 1 there are none beside the caller.
    init(count: Int) { pointer = count > 1 ? cohort_threads_make(Int32(min(count, 256))) : nil }

    deinit {
        if let pointer { cohort_threads_free(pointer) }
    }
}

/// The BLAS of this process: opened when a net first needs it, and then there for good.
public enum BLAS {
    private struct State {
        var description: String?
        var isOpened = false
    }

    private static let state = Mutex(State())

    /// Opens it, if that was not tried yet.
    static var isThere: Bool { description != nil }

    /// The library's description; nil when the system has none.
    public static var description: String? {
        state.withLock { state in
            if !state.isOpened {
                state.isOpened = true
                state.description = cohort_blas_open(nil).map { String(cString: $0) }
            }
            return state.description
        }
    }

    /// Said of it, once it was looked for.
    static var note: String? {
        state.withLock { state in
            guard state.isOpened else { return nil }
            return state.description.map { "large products by BLAS: \($0)" }
                ?? "no BLAS library was found (such as libopenblas.so.0): large nets train on Cohort's own kernels, more slowly"
        }
    }
}
