import CohortCore
import Logging
import OTLPTracer
import ServiceLifecycle

extension Settings {
    /// Creates the exporter of this process's spans; nil unless a collector is named.
    /// - Throws: ``CohortError`` `invalid` for what is no URL.
    func makeTracing(service: String, instance: String, logger: Logger) throws -> (any Service)? {
        guard let collector = text("otlp_url") else { return nil }
        let exporter = try OTLPExporter(
            collector: collector, service: service, version: CohortVersion.current, instance: instance, logger: logger)
        exporter.bootstrap()
        return exporter
    }
}
