public import CohortCore

/// Modules that users upload.
extension API {
    public struct Module: Codable, Hashable, Sendable {
        /// The SHA-256 of the file, lowercase hexadecimal; it is the value of a session's `module`.
        public var sha256: String
        public var bytes: Int
        /// `torchscript`.
        public var format: String
        /// Numbers of one row that it takes.
        public var inputs: Int
        /// The shape of one row as input; empty: [inputs].
        public var inputShape: [Int]
        public var outputs: Int
        public var task: LearningTask
        public var parameters: Int

        public init(
            sha256: String, bytes: Int, format: String, inputs: Int, inputShape: [Int], outputs: Int, task: LearningTask, parameters: Int
        ) {
            self.sha256 = sha256
            self.bytes = bytes
            self.format = format
            self.inputs = inputs
            self.inputShape = inputShape
            self.outputs = outputs
            self.task = task
            self.parameters = parameters
        }
    }
}
