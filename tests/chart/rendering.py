"""Renders the chart with `helm` for the tests of this folder."""

import pathlib
import subprocess
import tempfile

import yaml

PROJECT = pathlib.Path(__file__).resolve().parents[2]
CHART = PROJECT / "helm"
TOOLS = PROJECT / "target" / "tools"
MODES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))


class Refused(Exception):
    """The error message of Helm if it does not render."""


def helm(*arguments, binary="helm", values=None):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(values or {}, file)
        file.flush()
        command = [TOOLS / binary, *arguments, "--values", file.name]
        done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=False)
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def render(mode, values=None, binary="helm", sets=(), chart=CHART):
    """The objects of a mode of helm/ci, or without a mode, with further values, by kind and name."""
    arguments = ["template", "gw", chart, "--namespace", "alovoice", *(["--values", f"helm/ci/{mode}-values.yaml"] if mode else [])]
    for one in sets:
        arguments += ["--set", one]
    return by_name(helm(*arguments, binary=binary, values=values))


class StrictLoader(yaml.SafeLoader):
    """Refuses a key that occurs twice in a mapping, as kustomize does."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key occurs twice among {keys}"
        return super().construct_mapping(node, deep)


def by_name(text):
    """The objects in a text of Helm, by kind and name."""
    objects = [one for one in yaml.load_all(text, Loader=StrictLoader) if one]
    found = {(one["kind"], one["metadata"]["name"]): one for one in objects}
    assert len(found) == len(objects), "two objects share a kind and a name"
    return found


def only(objects, kind):
    """The only object of a kind."""
    found = [one for (of, _), one in objects.items() if of == kind]
    assert len(found) == 1, f"{len(found)} objects of kind {kind}"
    return found[0]


def has(objects, kind):
    return any(of == kind for of, _ in objects)


def pod(objects):
    return only(objects, "Deployment")["spec"]["template"]["spec"]


def container(objects):
    return next(one for one in pod(objects)["containers"] if one["name"] == "gateway")


def config_map(objects):
    return next(one for (kind, _), one in objects.items() if kind == "ConfigMap" and "gateway.toml" in one["data"])
