#!/usr/bin/env python3
"""What a release is made of, as SPDX 2.3: the Swift packages in the executable, and the libraries that the archive brings. sbom.py FILE"""

import hashlib
import json
import platform
import re
import subprocess
import sys
import tarfile
import uuid
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LICENCES = (("Apache License", "Apache-2.0"), ("MIT License", "MIT"), ("Permission is hereby granted, free of charge", "MIT"))


def licence(name: str) -> str:
    """Of a checked-out package, by its text."""
    for file in sorted((ROOT / ".build/checkouts").glob(f"{name}/LICENSE*")):
        text = file.read_text(errors="replace")
        for words, found in LICENCES:
            if words in text:
                return found
    return "NOASSERTION"


def swift_packages() -> dict[str, dict[str, str]]:
    tree = json.loads(subprocess.check_output(["swift", "package", "show-dependencies", "--format", "json"], cwd=ROOT))
    found: dict[str, dict[str, str]] = {}

    def walk(node: dict) -> None:
        for child in node["dependencies"]:
            name = re.sub(r"\.git$", "", child["url"].rstrip("/").rsplit("/", 1)[1])
            found[name] = {"version": child["version"], "url": child["url"], "licence": licence(name)}
            walk(child)

    walk(tree)
    return found


def main() -> None:
    out = Path(sys.argv[1])
    version = subprocess.check_output([ROOT / "scripts/version.sh"], text=True).strip()
    machine = platform.machine()
    packages = [{"SPDXID": "SPDXRef-cohort", "name": "cohort", "versionInfo": version, "downloadLocation": "NOASSERTION", "licenseConcluded": "Apache-2.0", "licenseDeclared": "Apache-2.0", "copyrightText": "NOASSERTION"}]
    for name, about in sorted(swift_packages().items()):
        packages.append({
            "SPDXID": f"SPDXRef-swift-{re.sub('[^A-Za-z0-9.-]', '-', name)}", "name": name, "versionInfo": about["version"], "downloadLocation": f"git+{about['url']}@{about['version']}",
            "licenseConcluded": about["licence"], "licenseDeclared": about["licence"], "copyrightText": "NOASSERTION",
            "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": f"pkg:swift/{about['url'].removeprefix('https://').removesuffix('.git')}@{about['version']}"}],
        })
    with tarfile.open(ROOT / f"dist/cohort-{version}-linux-{machine}.tar.gz") as archive:
        for member in archive.getmembers():
            if "/lib/cohort/" in member.name and member.isfile():
                data = archive.extractfile(member).read()  # type: ignore[union-attr]
                name = Path(member.name).name
                packages.append({
                    "SPDXID": f"SPDXRef-library-{re.sub('[^A-Za-z0-9.-]', '-', name)}", "name": name, "downloadLocation": "NOASSERTION", "licenseConcluded": "NOASSERTION", "licenseDeclared": "NOASSERTION",
                    "copyrightText": "NOASSERTION", "comment": "From Debian; its licence is in share/doc/cohort/licences.",
                    "checksums": [{"algorithm": "SHA256", "checksumValue": hashlib.sha256(data).hexdigest()}],
                })
    document = {
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": f"cohort-{version}-linux-{machine}", "documentNamespace": f"https://spdx.org/spdxdocs/cohort-{version}-{uuid.uuid4()}",
        "creationInfo": {"created": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"), "creators": ["Tool: scripts/sbom.py"]},
        "packages": packages,
        "relationships": [{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-cohort"}]
        + [{"spdxElementId": "SPDXRef-cohort", "relationshipType": "CONTAINS", "relatedSpdxElement": package["SPDXID"]} for package in packages[1:]],
    }
    out.write_text(json.dumps(document, indent=1) + "\n")
    print(f"{out}: {len(packages)} packages")


if __name__ == "__main__":
    main()
