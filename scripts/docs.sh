#!/usr/bin/env bash
# The library's documentation (DocC), a folder a target, under build-docs: open build-docs/CohortCore/index.html through a web server.
set -euo pipefail
cd "$(dirname "$0")/.."

docc="$(command -v docc || true)"
[ -n "$docc" ] || docc="$(dirname "$(readlink -f "$(command -v swift)")")/docc"
[ -x "$docc" ] || { echo "docs: docc is missing: it comes with Swift's toolchain" >&2; exit 1; }
targets=(CohortCore CohortWire CohortSession CohortAPI CohortStrategies CohortTraining CohortClient CohortCoordinator CohortPeer CohortServer)
graphs=build-docs/.symbols
rm -rf build-docs
mkdir -p "$graphs"
swift build
built="$(swift build --show-bin-path)"
extract="$(dirname "$docc")/swift-symbolgraph-extract"
includes=()
while read -r map; do includes+=(-I "$(dirname "$map")"); done \
    < <(find "$built/" -path '*.build/module.modulemap'; find .build/checkouts Sources -path '*/include/module.modulemap' -o -path 'Sources/*/module.modulemap')
for target in "${targets[@]}"; do
    mkdir -p "$graphs/$target"
    "$extract" -module-name "$target" -I "$built/Modules" "${includes[@]}" -target "$(swiftc -print-target-info | sed -n 's/.*"triple": "\([^"]*\)".*/\1/p' | head -1)" \
        -minimum-access-level public -output-dir "$graphs/$target"
done
for target in "${targets[@]}"; do
    "$docc" convert "Sources/$target/$target.docc" --additional-symbol-graph-dir "$graphs/$target" --fallback-display-name "$target" \
        --fallback-bundle-identifier "cohort.$target" --output-path "build-docs/$target" 2>&1 | tee build-docs/.log
    # A link that leads nowhere is an error; one to another target leads there in the source alone.
    while read -r name; do
        grep -rqF "\"title\":\"${name##*/}\"" "$graphs" || { echo "docs: $target links to '$name', which is not there" >&2; exit 1; }
    done < <(sed -n "s/^warning: '\(.*\)' doesn't exist at .*/\1/p" build-docs/.log)
done
echo "docs: ${#targets[@]} targets under build-docs"
