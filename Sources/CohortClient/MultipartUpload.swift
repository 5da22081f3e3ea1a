import CohortCore
import NIOCore
import _NIOFileSystem

/// `multipart/form-data` (RFC 7578) with text fields first and one file last, read from disk while it is sent.
struct MultipartUpload: AsyncSequence, Sendable {
    typealias Element = ByteBuffer

    static let chunkLength = 256 << 10

    let handle: ReadFileHandle
    let fileBytes: Int64
    let boundary: String
    let head: ByteBuffer
    let tail: ByteBuffer
    /// Told how many of the file's bytes have been handed to the connection, which takes no more than it can send.
    let progress: @Sendable (_ sent: Int, _ total: Int) -> Void

    init(
        fields: [(name: String, value: String)], filename: String, handle: ReadFileHandle, fileBytes: Int64,
        progress: @escaping @Sendable (_ sent: Int, _ total: Int) -> Void
    ) {
        self.handle = handle
        self.fileBytes = fileBytes
        self.progress = progress
        boundary = "cohort-\(newIdentifier())"
        var head = Self.text(fields, boundary: boundary)
        head += "--\(boundary)\r\nContent-Disposition: form-data; name=\"file\"; filename=\"\(Self.quoted(filename))\"\r\n"
        head += "Content-Type: text/csv\r\n\r\n"
        self.head = ByteBuffer(string: head)
        tail = ByteBuffer(string: "\r\n--\(boundary)--\r\n")
    }

    /// Text fields.
    static func text(_ fields: [(name: String, value: String)], boundary: String) -> String {
        fields.map { "--\(boundary)\r\nContent-Disposition: form-data; name=\"\($0.name)\"\r\n\r\n\($0.value)\r\n" }.joined()
    }

    var byteCount: Int64 { Int64(head.readableBytes) + fileBytes + Int64(tail.readableBytes) }

    /// What would end the quoted string, as HTML's form submission encodes it.
    static func quoted(_ name: String) -> String {
        name.reduce(into: "") { result, character in
            switch character {
            case "\"": result += "%22"
            case "\r\n": result += "%0D%0A"
            case "\r": result += "%0D"
            case "\n": result += "%0A"
            default: result.append(character)
            }
        }
    }

    func makeAsyncIterator() -> Iterator { Iterator(upload: self) }

    struct Iterator: AsyncIteratorProtocol {
        private enum Part { case head, file, tail, end }
        let upload: MultipartUpload
        private var part = Part.head
        private var sent: Int64 = 0

        init(upload: MultipartUpload) { self.upload = upload }

        mutating func next() async throws -> ByteBuffer? {
            switch part {
            case .head:
                part = upload.fileBytes > 0 ? .file : .tail
                return upload.head
            case .file:
                let length = Swift.min(Int64(MultipartUpload.chunkLength), upload.fileBytes - sent)
                let chunk = try await upload.handle.readChunk(fromAbsoluteOffset: sent, length: .bytes(length))
                guard chunk.readableBytes > 0 else {
                    throw CohortError(.invalid, "the file became shorter while it was sent: send it again when nobody writes to it")
                }
                sent += Int64(chunk.readableBytes)
                upload.progress(Int(sent), Int(upload.fileBytes))
                if sent >= upload.fileBytes { part = .tail }
                return chunk
            case .tail:
                part = .end
                return upload.tail
            case .end:
                return nil
            }
        }
    }
}

extension SessionSettings {
    /// Every field as the form of `POST /sessions/start` names it.
    func formFields() throws -> [(name: String, value: String)] {
        var fields: [(name: String, value: String)] = [
            ("peers", "\(peers)"), ("strategy", strategy), ("rounds", "\(rounds)"), ("epochs", "\(epochs)"),
            ("batch_size", "\(batchSize)"), ("lr", "\(lr)"), ("optimizer", optimizer.name.rawValue),
            ("momentum", "\(optimizer.momentum)"), ("nesterov", "\(optimizer.nesterov)"),
            ("weight_decay", "\(optimizer.weightDecay)"), ("beta1", "\(optimizer.beta1)"), ("beta2", "\(optimizer.beta2)"),
            ("epsilon", "\(optimizer.epsilon)"), ("seed", "\(seed)"), ("validation", "\(validation)"), ("min_peers", "\(minPeers)"),
        ]
        if let from {
            fields.append(("from", from))
        } else {
            fields += [
                ("hidden", hidden.isEmpty ? "none" : hidden.map(String.init).joined(separator: ",")), ("activation", activation.rawValue),
                ("dropout", "\(dropout)"),
            ]
            if let task { fields.append(("task", task.rawValue)) }
        }
        if let lrSchedule { fields.append(("lr_schedule", lrSchedule.rawValue)) }
        if let target { fields.append(("target", target)) }
        if !perPeer.isEmpty { fields.append(("per_peer", String(decoding: try CohortJSON.encode(perPeer), as: UTF8.self))) }
        switch classWeight {
        case nil: break
        case .balanced: fields.append(("class_weight", "balanced"))
        case .byLabel(let weights):
            fields.append(("class_weight", String(decoding: try CohortJSON.encode(weights), as: UTF8.self)))
        }
        if let name { fields.append(("name", name)) }
        if let note { fields.append(("note", note)) }
        if let pool { fields.append(("pool", pool.rawValue)) }
        if let earlyStopping { fields.append(("early_stopping", "\(earlyStopping)")) }
        if let data {
            if let header = data.header { fields.append(("header", header ? "yes" : "no")) }
            for (name, columns) in [("use", data.use), ("ignore", data.ignore)] where !columns.isEmpty && from == nil {
                fields.append((name, String(decoding: try CohortJSON.encode(columns), as: UTF8.self)))
            }
            if let group = data.group { fields.append(("group", group)) }
            if from == nil { fields.append(("scaling", data.scaling.rawValue)) }
        }
        if let maxNormRatio { fields.append(("max_norm_ratio", "\(maxNormRatio)")) }
        return fields
    }
}
