import CSandbox
import FoundationEssentials
import Glibc
import Testing

@testable import TorchEngine

/// What a module's process may send along with its answers.
@Suite(.serialized) struct DescriptorTests {
    private func openDescriptors() throws -> Set<String> { Set(try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) }

    @Test func `descriptors that a module's process sends are closed, one by one`() throws {
        var ends: [Int32] = [-1, -1]
        try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
        let (here, there) = (ModuleSocket(ends[0]), ModuleSocket(ends[1]))
        let file = open("/dev/null", O_RDONLY)
        defer { close(file) }
        // Other tests of this process open and close theirs meanwhile: the test counts those left of five hundred.
        let before = try openDescriptors().count
        for _ in 0..<500 {
            try withUnsafeBytes(of: ModuleSocket.answer) { try there.send($0, file: file) }
            #expect(try here.receiveByte() == ModuleSocket.answer)
            // Two at once: each message's own, and the one before it that was not taken.
            try withUnsafeBytes(of: UInt16(7)) { try there.send($0, file: file) }
            var (value, given): (UInt16, Int32) = (0, -1)
            try withUnsafeMutableBytes(of: &value) { try here.receive($0, file: &given) }
            #expect(value == 7 && given >= 0)
            close(given)
        }
        #expect(try openDescriptors().count < before + 250)
    }
}
