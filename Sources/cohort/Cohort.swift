import ArgumentParser
@main struct Cohort: AsyncParsableCommand {}
