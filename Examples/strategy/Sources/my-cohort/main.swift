import CohortCommands
import CohortStrategies
import SquareRoot

await CohortCommand.run(strategies: try .builtIn.adding(SquareRoot()))
