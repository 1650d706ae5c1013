"""Libraries of other languages that crates contain as source code or data, for the SBOM.

Scanners find the vulnerabilities of such a library by its own name and version, not by those of the crate.
"""

import json
import re
import subprocess
from pathlib import Path

# By library: the crate that depends on it, the crate that contains it, a file of the latter whose text or name has the version, the
# pattern of the version, the package URL without the version, and the licence. `cpe` is the vendor and product in vulnerability databases.
LIBRARIES = {
    "SQLite": {
        "crate": "libsqlite3-sys", "file": "sqlite3/sqlite3.h", "version": r'#define SQLITE_VERSION +"([\d.]+)"',
        "purl": "pkg:github/sqlite/sqlite", "license": "blessing", "cpe": "sqlite:sqlite",
    },
    "AWS-LC": {
        "crate": "aws-lc-sys", "file": "aws-lc/include/openssl/base.h", "version": r'#define AWSLC_VERSION_NUMBER_STRING "([\d.]+)"',
        "purl": "pkg:github/aws/aws-lc", "license": "Apache-2.0 OR ISC",
    },
    "Jitterentropy": {
        "crate": "aws-lc-sys", "file": "aws-lc/third_party/jitterentropy/jitterentropy-library/jitterentropy.h",
        "version": r"#define JENT_MAJVERSION (\d+).*#define JENT_MINVERSION (\d+).*#define JENT_PATCHLEVEL (\d+)",
        "purl": "pkg:github/smuellerdd/jitterentropy-library", "license": "BSD-3-Clause OR GPL-2.0-only",
    },
    # These sources have no version of their own.
    "s2n-bignum": {
        "crate": "aws-lc-sys", "file": "aws-lc/third_party/s2n-bignum/s2n-bignum_aws-lc.h", "version": None,
        "purl": "pkg:github/awslabs/s2n-bignum", "license": "Apache-2.0 OR ISC OR MIT-0",
    },
    "fiat-crypto": {
        "crate": "aws-lc-sys", "file": "aws-lc/third_party/fiat/curve25519_64.h", "version": None,
        "purl": "pkg:github/mit-plv/fiat-crypto", "license": "MIT",
    },
    "Swagger UI": {
        "crate": "utoipa-swagger-ui", "source": "utoipa-swagger-ui-vendored", "file": "res/v*.zip", "version": r"/v([\d.]+)\.zip",
        "purl": "pkg:npm/swagger-ui-dist", "license": "Apache-2.0",
    },
}
# A static program also contains the C library. .ci/release links that of Zig, whose sources are in this folder.
MUSL = {
    "crate": "libc", "source": "musl", "file": "src/internal/version.h", "version": r'#define VERSION "([\d.]+)"',
    "purl": "pkg:generic/musl", "license": "MIT", "cpe": "musl-libc:musl",
}
MUSL_SOURCES = "target/tools/zig/lib/python3*/site-packages/ziglang/lib/libc/musl"
# Packages with which a build script compiles C.
COMPILERS = {"cc", "cmake"}


def read_metadata(triple):
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", triple]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["packages"]


def read_version(library, folder):
    (file,) = folder.glob(library["file"])
    if library["version"] is None:
        return None
    text = str(file) if "*" in library["file"] else file.read_text()
    return ".".join(re.search(library["version"], text, re.DOTALL).groups())


def component(name, library, folder):
    version = read_version(library, folder)
    purl = library["purl"] + (f"@{version}" if version else "")
    found = {"type": "library", "bom-ref": purl, "name": name, "scope": "required", "licenses": [{"expression": library["license"]}], "purl": purl}
    if version:
        found["version"] = version
        if "cpe" in library:
            found["cpe"] = f"cpe:2.3:a:{library['cpe']}:{version}:*:*:*:*:*:*:*"
    return found


def add(bom, triple):
    """Adds the libraries to an SBOM, below the crates that contain them. Returns a fault for each crate that compiles an unlisted library."""
    packages = read_metadata(triple)
    folders = {package["name"]: Path(package["manifest_path"]).parent for package in packages}
    libraries = dict(LIBRARIES)
    if triple.endswith("-musl"):
        libraries["musl"] = MUSL
        (folders["musl"],) = Path().glob(MUSL_SOURCES)
    crates = {crate["name"]: crate for crate in bom["components"]}
    dependencies = {dependency["ref"]: dependency for dependency in bom["dependencies"]}
    compiling = {
        package["name"] for package in packages for dependency in package["dependencies"]
        if dependency["kind"] == "build" and dependency["name"] in COMPILERS
    }
    unlisted = compiling & crates.keys() - {library["crate"] for library in LIBRARIES.values()}
    for name, library in libraries.items():
        if crate := crates.get(library["crate"]):
            found = component(name, library, folders[library.get("source", library["crate"])])
            bom["components"].append(found)
            bom["dependencies"].append({"ref": found["bom-ref"]})
            dependencies[crate["bom-ref"]].setdefault("dependsOn", []).append(found["bom-ref"])
    return [f"{name} compiles C, and tests/sbom/bundled.py does not list what" for name in sorted(unlisted)]
