/// The format of an update's numbers: as they are, or as the change of the round's weights in fewer bytes. The rounding error of a change is added to
/// the peer's next one (error feedback: Karimireddy et al., "Error Feedback Fixes SignSGD", ICML 2019, arXiv 1901.09847).
public enum UpdateCompression: String, Codable, Sendable, CaseIterable {
    case none
    /// The change as it is: nothing is rounded but by the subtraction.
    case fp32
    /// IEEE half precision, and bfloat16 for what an optimizer remembers of squares, which are too small for it.
    case fp16
    /// bfloat16.
    case bf16
    /// Blocks of ``block`` numbers with a scale each: whole numbers from -127 to 127. Squares are never linear: 8 steps an octave below the block's largest.
    case int8

    /// Numbers that share a scale; the last of a stream has what is left.
    public static let block = 1_024
}
