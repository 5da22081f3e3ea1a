import CohortClient
import CohortCore
import Testing

@Suite
struct EventStreamParserTests {
    private static let stream = """
        \u{FEFF}: a comment\r\n\
        id: 7\r\n\
        event: note\r\n\
        data: first line\r\n\
        data:second line\r\n\
        \r\n\
        data\n\
        \n\
        : ping\n\
        \n\
        id: 8\r\
        data: {"type":"TRAIN"}\r\
        \r\
        retry: 10\n\
        unknown: field\n\
        data:  ünïcödé\n\
        \n\
        data: cut off
        """

    private static let events = [
        ServerSentEvent(id: "7", name: "note", data: Array("first line\nsecond line".utf8)),
        ServerSentEvent(id: "7", data: []),
        ServerSentEvent(id: "8", data: Array(#"{"type":"TRAIN"}"#.utf8)),
        ServerSentEvent(id: "8", data: Array(" ünïcödé".utf8)),
    ]

    @Test
    func `reads comments, ids, names, several lines of data and all three line ends`() throws {
        var parser = EventStreamParser()
        let events = try parser.feed(Self.stream.utf8)
        #expect(events == Self.events)
    }

    @Test
    func `gives the same events wherever the stream is cut into two`() throws {
        let bytes = Array(Self.stream.utf8)
        for cut in 0...bytes.count {
            var parser = EventStreamParser()
            let events = try parser.feed(bytes[..<cut]) + parser.feed(bytes[cut...])
            #expect(events == Self.events, "cut at \(cut)")
        }
    }

    @Test
    func `gives the same events when bytes come one by one`() throws {
        var parser = EventStreamParser()
        var events: [ServerSentEvent] = []
        for byte in Self.stream.utf8 { events += try parser.feed(CollectionOfOne(byte)) }
        #expect(events == Self.events)
    }

    @Test
    func `keeps the old id when a new one holds a null`() throws {
        var parser = EventStreamParser()
        let events = try parser.feed("id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n".utf8)
        #expect(events.map(\.id) == ["1", "1"])
    }

    @Test
    func `fails on an event that does not end`() throws {
        var parser = EventStreamParser()
        let line = [UInt8](repeating: UInt8(ascii: "x"), count: EventStreamParser.maxEventBytes)
        let events = try parser.feed(line)
        #expect(events.isEmpty)
        #expect(throws: CohortError.self) { try parser.feed(line) }
    }
}
