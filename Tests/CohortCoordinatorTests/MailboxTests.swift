import Testing

@testable import CohortCoordinator

@Suite struct MailboxTests {
    @Test func `a flood of looks and ticks is one of each, in order with the rest`() async {
        let mailbox = Mailbox()
        for _ in 0..<100 {
            mailbox.put(.look)
            mailbox.put(.tick)
        }
        mailbox.put(.queueEnded("why"))
        let items = await mailbox.nextItems()
        #expect(items.count == 3)
        mailbox.put(.look)
        #expect(await mailbox.nextItems().count == 1, "taken, a look is news again")
    }

    @Test func `closing ends the wait`() async {
        let mailbox = Mailbox()
        async let items = mailbox.nextItems()
        mailbox.close()
        #expect(await items.isEmpty)
        mailbox.put(.tick)
        #expect(await mailbox.nextItems().isEmpty)
    }
}
