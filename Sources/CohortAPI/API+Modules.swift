public import CohortCore

/// Modules of people's own.
extension API {
    public struct Module: Codable, Hashable, Sendable {
        /// Of its file, lowercase hexadecimal: what a session's `module` is.
        public var sha256: String
        public var bytes: Int
        /// `torchscript`.
        public var format: String
        /// Numbers of one row that it takes.
        public var inputs: Int
        /// Of one row as it takes it; empty: [inputs].
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
