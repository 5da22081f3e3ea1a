import CohortCommands

await CohortCommand.run()
