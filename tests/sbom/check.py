"""Removes crates that are not built from an SBOM, adds bundled libraries, and validates the result.

cargo-cyclonedx uses the features in the lock file, so it also lists optional crates that are not enabled. The output of `cargo
tree` on standard input lists the crates that are built. Usage: check.py MADE WRITTEN TRIPLE
"""

import json
import sys
from pathlib import Path

import bundled
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator


def built(tree):
    """Name and version of each line, `name v1.2.3 (where)`."""
    words = [line.split() for line in tree if line.strip()]
    return {(name, version.removeprefix("v")) for name, version, *_ in words}


def main(made, written, triple):
    bom = json.loads(Path(made).read_text())
    root = bom["metadata"]["component"]
    crates = built(sys.stdin) - {(root["name"], root["version"])}
    bom["components"] = [c for c in bom["components"] if (c["name"], c["version"]) in crates]
    # Removes the path of the folder on this machine.
    folder = Path.cwd().as_uri()
    text = json.dumps(bom).replace(f"path+{folder}#", "pkg:cargo/").replace("?download_url=file://.#src/main.rs", "")
    bom = json.loads(text)
    known = {c["bom-ref"] for c in bom["components"]} | {bom["metadata"]["component"]["bom-ref"]}
    bom["dependencies"] = [
        {**d, "dependsOn": [ref for ref in d.get("dependsOn", []) if ref in known]}
        for d in bom["dependencies"]
        if d["ref"] in known
    ]
    listed = {(c["name"], c["version"]) for c in bom["components"]}
    faults = [f"{name} {version} is built and not listed" for name, version in sorted(crates - listed)]
    for component in bom["components"]:
        missing = [key for key in ("purl", "licenses", "hashes") if not component.get(key)]
        faults += [f"{component['name']} has no {key}" for key in missing]
    faults += bundled.add(bom, triple)
    text = json.dumps(bom, indent=2) + "\n"
    if str(Path.cwd()) in text:
        faults.append("it names a folder of this machine")
    if error := JsonStrictValidator(SchemaVersion.V1_5).validate_str(text):
        faults.append(f"it is not CycloneDX 1.5: {error}")
    if faults:
        sys.exit("\n".join(faults))
    Path(written).write_text(text)
    print(f"{written}: {len(listed)} crates, each with its licence and checksum, and {len(bom['components']) - len(listed)} bundled libraries; CycloneDX 1.5")


main(*sys.argv[1:])
