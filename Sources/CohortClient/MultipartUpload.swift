import CohortCore
import CohortSession
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

    /// Escapes a quoted string as HTML's form submission does.
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
                    throw CohortError(.invalid, "the file became shorter while it was sent: send it again when no program writes to it")
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
        try SessionSetting.all.compactMap { setting in
            guard from == nil || !setting.isOfModel, module == nil || !SessionSetting.ofSimpleDNN.contains(setting.name) else { return nil }
            return try setting.text(of: self).map { (setting.name, $0) }
        }
    }
}
