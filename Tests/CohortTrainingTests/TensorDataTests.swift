import CohortCore
import FoundationEssentials
import TestSupport
import Testing

@testable import CohortTraining

/// Data sets of tensors in place of CSVs.
@Suite struct TensorDataTests {
    private let folder = FileManager.default.temporaryDirectory.appending(path: "cohort-tensors-\(newIdentifier())").path

    init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }

    private struct Tensor {
        var name: String
        var type: String
        var shape: [Int]
        var bytes: [UInt8]

        init<Value: BitwiseCopyable>(_ name: String, type: String, shape: [Int], _ values: [Value]) {
            self.name = name
            self.type = type
            self.shape = shape
            bytes = values.withUnsafeBytes { Array($0) }
        }
    }

    private func write(_ tensors: [Tensor], cut: Int = 0, name: String = "data.safetensors") throws -> String {
        var header = Safetensors.Header()
        var body: [UInt8] = []
        for tensor in tensors {
            header.entries[tensor.name] = .init(
                dtype: tensor.type, shape: tensor.shape, dataOffsets: [body.count, body.count + tensor.bytes.count])
            body += tensor.bytes
        }
        let json = [UInt8](try JSONEncoder().encode(header))
        let file = withUnsafeBytes(of: UInt64(json.count).littleEndian) { Array($0) } + json + body
        let path = "\(folder)/\(name)"
        try Data(file.dropLast(cut)).write(to: URL(filePath: path))
        return path
    }

    private func table(_ path: String, _ options: DataOptions = DataOptions()) throws -> (FeatureTable, TableSchema) {
        let schema = try SchemaInference.infer(csvAt: path, target: nil, task: nil, validation: 0.25, seed: 1, options: options).schema
        let cache = "\(folder)/\(newIdentifier()).table"
        try TableLoader.build(csvAt: path, schema: schema, cacheAt: cache)
        return (try TableLoader.open(cacheAt: cache), schema)
    }

    @Test func `each number is a feature, as it is, in the order of the rows`() throws {
        // With one that is constant, one that counts the rows, one that is too fine for a decimal fraction, and one that is huge.
        let values: [Float] = (0..<40).flatMap { (row: Int) -> [Float] in
            let number = Float(row)
            return [7, number, 0.1 + number * 1e-7, number * 1e30, row % 3 == 0 ? -0.0 : .pi * number]
        }
        let labels = (0..<40).map { Int64($0 % 2 == 0 ? 10 : 9) }
        let path = try write([
            Tensor("targets", type: "I64", shape: [40], labels), Tensor("inputs", type: "F32", shape: [40, 5], values),
        ])
        let (table, schema) = try table(path)
        #expect(schema.encoding == .safetensors && schema.task == .classification && schema.classes == ["9", "10"])
        #expect(schema.columns.map(\.name) == ["x0", "x1", "x2", "x3", "x4", "target"])
        #expect(Array(table.features.prefix(200)) == values)
        #expect(Array(table.targets.prefix(40)) == labels.map { $0 == 9 ? 0 : 1 })
        #expect(table.trainingRows.count == 30 && table.validationRows.count == 10)
        // What a person says of them holds.
        let (scaled, _) = try self.table(path, DataOptions(ignore: ["x1"], scaling: .range))
        #expect(scaled.featureCount == 4 && scaled.features[1] >= 0 && scaled.features[1] <= 1)
    }

    @Test func `numbers of each type are read`() throws {
        let rows = 12
        func check(_ inputs: Tensor, _ expected: [Float]) throws {
            let path = try write(
                [inputs, Tensor("targets", type: "U8", shape: [rows, 1], (0..<rows).map { UInt8($0 % 2) })],
                name: "\(inputs.type).safetensors")
            let (table, _) = try table(path)
            #expect(Array(table.features.prefix(rows)) == expected, "\(inputs.type)")
        }
        let numbers = (0..<rows).map { $0 * 9 - 40 }
        let floats = numbers.map { Float($0) }
        try check(Tensor("inputs", type: "F64", shape: [rows], numbers.map { Double($0) + 0.25 }), floats.map { $0 + 0.25 })
        try check(Tensor("inputs", type: "I64", shape: [rows], numbers.map { Int64($0) }), floats)
        try check(Tensor("inputs", type: "I32", shape: [rows], numbers.map { Int32($0) }), floats)
        try check(Tensor("inputs", type: "I16", shape: [rows], numbers.map { Int16($0) }), floats)
        try check(Tensor("inputs", type: "I8", shape: [rows], numbers.map { Int8($0) }), floats)
        let whole = (0..<rows).map { $0 * 23 }
        try check(Tensor("inputs", type: "U8", shape: [rows], (0..<rows).map { UInt8($0 * 23) }), whole.map { Float($0) })
        try check(Tensor("inputs", type: "U16", shape: [rows], whole.map { UInt16($0 * 200) }), whole.map { Float($0 * 200) })
        try check(Tensor("inputs", type: "U32", shape: [rows], whole.map { UInt32($0 * 2_000_000) }), whole.map { Float($0 * 2_000_000) })
        try check(Tensor("inputs", type: "U64", shape: [rows], whole.map { UInt64($0) << 50 }), whole.map { Float(UInt64($0) << 50) })
        try check(
            Tensor("inputs", type: "BOOL", shape: [rows], (0..<rows).map { UInt8($0 % 3 == 0 ? 1 : 0) }),
            (0..<rows).map { $0 % 3 == 0 ? 1 : 0 })
        // 16 bits: the first of a float, and IEEE's half.
        try check(Tensor("inputs", type: "BF16", shape: [rows], floats.map { UInt16($0.bitPattern >> 16) }), floats)
        let halves: [(UInt16, Float)] = [
            (0x3c00, 1), (0xc000, -2), (0x3555, 0.333_251_95), (0x7bff, 65504), (0x0001, 0x1p-24), (0x03ff, 0x1.ff8p-15), (0x0400, 0x1p-14),
            (0x0000, 0), (0x4900, 10), (0x5640, 100), (0xb800, -0.5), (0x3800, 0.5),
        ]
        try check(Tensor("inputs", type: "F16", shape: [rows], halves.map(\.0)), halves.map(\.1))
    }

    @Test func `an invalid data set is a sentence`() throws {
        let (x, y) = (
            Tensor("inputs", type: "F32", shape: [4, 2], [Float](repeating: 1, count: 8)),
            Tensor("targets", type: "I64", shape: [4], [Int64](0..<4))
        )
        func message(_ tensors: [Tensor], cut: Int = 0) throws -> String {
            let path = try write(tensors, cut: cut)
            return try #require(throws: CohortError.self) { try table(path) }.message
        }
        #expect(try message([y]).contains("no tensor 'inputs' but 'targets'"))
        #expect(try message([x]).contains("there is no column 'target' to predict"))
        #expect(try message([x, y], cut: 1).contains("the file is not whole"))
        #expect(
            try message([x, Tensor("targets", type: "I64", shape: [3], [Int64](0..<3))]).contains(
                "inputs has the shape [4, 2] and targets [3]"))
        #expect(
            try message([x, Tensor("targets", type: "C64", shape: [4], [Int64](0..<4))]).contains("is C64, which is no type of numbers"))
        #expect(try message([Tensor("inputs", type: "F32", shape: [4, 0], [Float]()), y]).contains("there is nothing in it"))
        #expect(try message([Tensor("inputs", type: "F32", shape: [1 << 40, 1 << 40], [Float]()), y]).contains("or too much"))
        var far = x
        far.shape = [4, 3]
        #expect(try message([far, y]).contains("reaches past the file's end"))
        let array = "\(folder)/x.npy"
        try Data([0x93] + Array("NUMPY".utf8) + [1, 0, 8, 0, 0, 0]).write(to: URL(filePath: array))
        #expect(try #require(throws: CohortError.self) { try table(array) }.message.contains("--targets y.npy"))
    }

    @Test func `NumPy's arrays become one data set`() throws {
        func save(_ name: String, header dictionary: String, bytes: [UInt8], version: UInt8 = 1) throws -> String {
            let length = version == 1 ? [UInt8(dictionary.utf8.count), 0] : [UInt8(dictionary.utf8.count), 0, 0, 0]
            let path = "\(folder)/\(name).npy"
            try Data([0x93] + Array("NUMPY".utf8) + [version, 0] + length + Array(dictionary.utf8) + bytes).write(to: URL(filePath: path))
            return path
        }
        let values = (0..<24).map { Float($0) / 8 }
        let x = try save(
            "x", header: "{'descr': '<f4', 'fortran_order': False, 'shape': (8, 3), }", bytes: values.withUnsafeBytes { Array($0) },
            version: 2)
        let y = try save("y", header: "{'descr': '|u1', 'fortran_order': False, 'shape': (8,), }", bytes: [0, 1, 0, 1, 0, 1, 0, 1])
        let path = "\(folder)/both.safetensors"
        try NumPyFile.pack(inputs: NumPyFile(path: x), targets: NumPyFile(path: y), to: path)
        #expect(try TensorData.rowShape(at: path) == [3])
        let (table, schema) = try table(path)
        #expect(Array(table.features.prefix(24)) == values && schema.classes == ["0", "1"])

        func message(_ dictionary: String, _ bytes: Int = 8) throws -> String {
            let path = try save("bad", header: dictionary, bytes: [UInt8](repeating: 0, count: bytes))
            return try #require(throws: CohortError.self) { try NumPyFile(path: path) }.message
        }
        #expect(try message("{'descr': '<f4', 'fortran_order': True, 'shape': (2,), }").contains("numpy.ascontiguousarray"))
        #expect(try message("{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }").contains("big-endian"))
        #expect(try message("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }").contains("no plain numbers"))
        #expect(try message("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }").contains("it is not whole"))
        #expect(try message("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999999), }").contains("too large"))
        let short = try save(
            "short", header: "{'descr': '|u1', 'fortran_order': False, 'shape': (7,), }", bytes: [UInt8](repeating: 0, count: 7))
        let error = try #require(throws: CohortError.self) {
            try NumPyFile.pack(inputs: NumPyFile(path: x), targets: NumPyFile(path: short), to: "\(folder)/no.safetensors")
        }
        #expect(error.message.contains("targets must be one number a row, [8]"))
    }
}
