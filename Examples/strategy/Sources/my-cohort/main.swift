import CohortCommands
import CohortStrategies
import SquareRoot

try StrategyCatalogue.add(SquareRoot())
await CohortCommand.run()
