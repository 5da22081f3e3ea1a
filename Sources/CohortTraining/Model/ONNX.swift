import CohortCore

/// A model file as ONNX (opset 17, with `ai.onnx.ml` 3 for text): raw values in, predictions out, so that no code of Cohort's is needed to predict.
///
/// Inputs are named as the columns that the model predicts from, [rows, 1] each: numbers as doubles (NaN: missing), categories as strings (empty:
/// missing), of a date one double a part, `COLUMN.PART`. Outputs: `label` [rows] and `probabilities` [rows, classes], or `value` [rows, 1] in the
/// target's own unit.
public struct ONNXModel {
    private let file: ModelFile
    private var nodes: [ProtocolBuffer] = []
    private var initializers: [ProtocolBuffer] = []
    private var inputs: [ProtocolBuffer] = []
    private var count = 0

    /// Encodes the model file as ONNX.
    public static func encode(_ file: ModelFile) throws -> [UInt8] {
        guard file.module == nil else {
            throw CohortError(
                .invalid,
                "a custom module is not exported as ONNX: use --format torchscript, and torch.onnx.export on the result")
        }
        var model = ONNXModel(file)
        return try model.encoded()
    }

    private init(_ file: ModelFile) { self.file = file }

    private mutating func encoded() throws -> [UInt8] {
        let features = makeFeatures()
        let outputs = makeNet(features)
        var graph = ProtocolBuffer()
        for node in nodes { graph.add(1, node) }
        graph.add(2, "cohort")
        for tensor in initializers { graph.add(5, tensor) }
        for input in inputs { graph.add(11, input) }
        for output in outputs { graph.add(12, output) }

        var model = ProtocolBuffer()
        model.add(1, 8)  // ir_version of ONNX 1.10 to 1.12, which have opset 17
        model.add(2, "cohort")
        for (domain, version) in [("", 17), ("ai.onnx.ml", 3)] {
            var operators = ProtocolBuffer()
            operators.add(1, domain)
            operators.add(2, version)
            model.add(8, operators)
        }
        model.add(7, graph)
        var about = [
            ("spec", String(decoding: try CohortJSON.encode(file.spec), as: UTF8.self)),
            ("schema", String(decoding: try CohortJSON.encode(file.schema), as: UTF8.self)),
        ]
        if let session = file.sessionId { about.append(("session_id", session)) }
        for (key, value) in about {
            var entry = ProtocolBuffer()
            entry.add(1, key)
            entry.add(2, value)
            model.add(14, entry)
        }
        return model.bytes
    }

    // MARK: From columns to features

    private mutating func makeFeatures() -> String {
        let schema = file.schema
        var blocks: [String] = []
        var index = 0
        while index < schema.columns.count {
            let column = schema.columns[index]
            switch column.kind {
            case .numeric:
                // Those next to each other at once.
                let run = schema.columns[index...].prefix { $0.kind == .numeric }
                blocks.append(
                    standardized(
                        run.map { Value(input: $0.name, missing: $0.mean ?? 0, shift: $0.offset, scale: $0.divisor) }))
                index += run.count
                continue
            case .categorical: blocks.append(category(column))
            case .date:
                let parts = column.parts ?? []
                if !parts.isEmpty {
                    blocks.append(
                        standardized(
                            parts.map {
                                Value(input: "\(column.name).\($0.part.rawValue)", missing: $0.mean, shift: $0.mean, scale: $0.std)
                            }))
                }
            case .ignored, .target: break
            }
            index += 1
        }
        return blocks.count == 1 ? blocks[0] : node("Concat", inputs: blocks, attributes: [("axis", .whole(1))])
    }

    private struct Value {
        var input: String
        var missing, shift, scale: Double
    }

    /// (x − shift) / scale in doubles, as floats; NaN counts as `missing`.
    private mutating func standardized(_ values: [Value]) -> String {
        for value in values { inputs.append(Self.value(value.input, type: .double, shape: [nil, 1])) }
        let raw = values.count == 1 ? values[0].input : node("Concat", inputs: values.map(\.input), attributes: [("axis", .whole(1))])
        let known = node("Where", inputs: [node("IsNaN", inputs: [raw]), constant(values.map(\.missing)), raw])
        let centered = node("Sub", inputs: [known, constant(values.map(\.shift))])
        return node(
            "Cast", inputs: [node("Div", inputs: [centered, constant(values.map(\.scale))])],
            attributes: [("to", .whole(ElementType.float.rawValue))])
    }

    private mutating func category(_ column: TableSchema.Column) -> String {
        inputs.append(Self.value(column.name, type: .string, shape: [nil, 1]))
        let own = column.categories ?? []
        var blocks: [String] = []
        if !own.isEmpty { blocks.append(oneHot(column.name, own)) }
        if column.hasOther == true {
            // Neither one of them nor missing.
            let known = ([oneHot(column.name, Self.missingTexts)] + blocks).map { block in
                node("ReduceSum", inputs: [block, constant([1] as [Int])], attributes: [("keepdims", .whole(1))])
            }
            let sum = known.count == 1 ? known[0] : node("Add", inputs: known)
            blocks.append(node("Relu", inputs: [node("Sub", inputs: [constant([1] as [Float]), sum])]))
        }
        return blocks.count == 1 ? blocks[0] : node("Concat", inputs: blocks, attributes: [("axis", .whole(1))])
    }

    /// [rows, 1] of texts → [rows, texts].
    private mutating func oneHot(_ input: String, _ texts: [String]) -> String {
        let encoded = node(
            "OneHotEncoder", inputs: [input], attributes: [("cats_strings", .texts(texts)), ("zeros", .whole(1))], domain: "ai.onnx.ml")
        return node("Reshape", inputs: [encoded, constant([0, texts.count] as [Int])])
    }

    /// The texts that ``Cell/isMissing(_:none:)`` treats as missing, in common spellings.
    private static let missingTexts: [String] = {
        let texts = ["", "na", "n/a", "#n/a", "<na>", "nan", "null", "none", "?", "inf", "+inf", "-inf", "infinity", "-infinity"]
        let cases = texts.flatMap { [$0, $0.uppercased(), $0.prefix(1).uppercased() + $0.dropFirst()] } + ["NaN", "<NA>"]
        return Set(cases).sorted()
    }()

    // MARK: The net

    private mutating func makeNet(_ features: String) -> [ProtocolBuffer] {
        let spec = file.spec
        let activation =
            switch spec.activation {
            case .relu: "Relu"
            case .tanh: "Tanh"
            case .sigmoid: "Sigmoid"
            }
        var offset = 0
        for tensor in spec.tensors {
            initializers.append(
                Self.tensor(
                    tensor.name, type: .float, shape: tensor.shape,
                    bytes: Self.littleEndian(file.parameters[offset..<(offset + tensor.count)])))
            offset += tensor.count
        }
        var x = features
        let layers = stride(from: 0, to: spec.tensors.count, by: 2)
        for index in layers {
            x = node("Gemm", inputs: [x, spec.tensors[index].name, spec.tensors[index + 1].name], attributes: [("transB", .whole(1))])
            if index + 2 < spec.tensors.count { x = node(activation, inputs: [x]) }
        }
        switch spec.task {
        case .classification:
            let place = node("ArgMax", inputs: [x], attributes: [("axis", .whole(1)), ("keepdims", .whole(0))])
            node("Softmax", inputs: [x], attributes: [("axis", .whole(1))], output: "probabilities")
            node(
                "LabelEncoder", inputs: [place],
                attributes: [
                    ("keys_int64s", .wholes(Array(file.schema.classes.indices))), ("values_strings", .texts(file.schema.classes)),
                ],
                domain: "ai.onnx.ml", output: "label")
            return [
                Self.value("label", type: .string, shape: [nil]), Self.value("probabilities", type: .float, shape: [nil, spec.outputs]),
            ]
        case .regression:
            let target = file.schema.columns.first { $0.kind == .target }
            let wide = node("Cast", inputs: [x], attributes: [("to", .whole(ElementType.double.rawValue))])
            let scaled = node("Mul", inputs: [wide, constant([target?.std ?? 1])])
            node("Add", inputs: [scaled, constant([target?.mean ?? 0])], output: "value")
            return [Self.value("value", type: .double, shape: [nil, 1])]
        }
    }

    // MARK: Parts of a graph (onnx.proto)

    private enum ElementType: Int {
        case float = 1
        case int64 = 7
        case string = 8
        case double = 11
    }

    private enum Attribute {
        case whole(Int)
        case wholes([Int])
        case texts([String])
    }

    /// - Returns: the name of its output.
    @discardableResult private mutating func node(
        _ kind: String, inputs: [String], attributes: [(String, Attribute)] = [], domain: String = "", output: String? = nil
    ) -> String {
        count += 1
        let output = output ?? "cohort/\(count)"
        var node = ProtocolBuffer()
        for input in inputs { node.add(1, input) }
        node.add(2, output)
        node.add(3, "\(kind)_\(count)")
        node.add(4, kind)
        for (name, value) in attributes {
            var attribute = ProtocolBuffer()
            attribute.add(1, name)
            switch value {
            case .whole(let value):
                attribute.add(3, value)
                attribute.add(20, 2)
            case .wholes(let values):
                for value in values { attribute.add(8, value) }
                attribute.add(20, 7)
            case .texts(let texts):
                for text in texts { attribute.add(9, text) }
                attribute.add(20, 8)
            }
            node.add(5, attribute)
        }
        if !domain.isEmpty { node.add(7, domain) }
        nodes.append(node)
        return output
    }

    private mutating func constant(_ values: [Double]) -> String {
        constant(.double, length: values.count, bytes: Self.littleEndian(values.map(\.bitPattern)))
    }

    private mutating func constant(_ values: [Float]) -> String {
        constant(.float, length: values.count, bytes: Self.littleEndian(values[...]))
    }

    private mutating func constant(_ values: [Int]) -> String {
        constant(.int64, length: values.count, bytes: Self.littleEndian(values.map { UInt64(bitPattern: Int64($0)) }))
    }

    private mutating func constant(_ type: ElementType, length: Int, bytes: [UInt8]) -> String {
        count += 1
        let name = "cohort/constant_\(count)"
        initializers.append(Self.tensor(name, type: type, shape: [length], bytes: bytes))
        return name
    }

    private static func littleEndian(_ values: ArraySlice<Float>) -> [UInt8] { littleEndian(values.map(\.bitPattern)) }

    private static func littleEndian(_ values: [some FixedWidthInteger]) -> [UInt8] {
        values.flatMap { value in withUnsafeBytes(of: value.littleEndian) { Array($0) } }
    }

    private static func tensor(_ name: String, type: ElementType, shape: [Int], bytes: [UInt8]) -> ProtocolBuffer {
        var tensor = ProtocolBuffer()
        for length in shape { tensor.add(1, length) }
        tensor.add(2, type.rawValue)
        tensor.add(8, name)
        tensor.add(9, bytes)
        return tensor
    }

    /// - Parameter shape: nil: the number of rows.
    private static func value(_ name: String, type: ElementType, shape: [Int?]) -> ProtocolBuffer {
        var dimensions = ProtocolBuffer()
        for length in shape {
            var dimension = ProtocolBuffer()
            if let length { dimension.add(1, length) } else { dimension.add(2, "rows") }
            dimensions.add(1, dimension)
        }
        var tensor = ProtocolBuffer()
        tensor.add(1, type.rawValue)
        tensor.add(2, dimensions)
        var kind = ProtocolBuffer()
        kind.add(1, tensor)
        var value = ProtocolBuffer()
        value.add(1, name)
        value.add(2, kind)
        return value
    }
}

/// A message of Protocol Buffers as its bytes, field after field: as much of the encoding as ONNX needs.
struct ProtocolBuffer {
    private(set) var bytes: [UInt8] = []

    mutating func add(_ field: Int, _ value: Int) {
        varint(UInt64(field) << 3)
        varint(UInt64(bitPattern: Int64(value)))
    }

    mutating func add(_ field: Int, _ value: [UInt8]) {
        varint(UInt64(field) << 3 | 2)
        varint(UInt64(value.count))
        bytes += value
    }

    mutating func add(_ field: Int, _ text: String) { add(field, Array(text.utf8)) }

    mutating func add(_ field: Int, _ message: ProtocolBuffer) { add(field, message.bytes) }

    private mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }
}
