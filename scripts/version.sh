#!/usr/bin/env bash
# Cohort's version, as the source has it.
set -euo pipefail
cd "$(dirname "$0")/.."
sed -nE 's/.*static let current = "([0-9.]+)".*/\1/p' "$(grep -rl 'enum CohortVersion' Sources/CohortCore)"
