"""A stand-in for an API server, so that Helm can install, upgrade, roll back and uninstall the chart without a cluster.

It stores objects and follows the rules that matter to the chart: strategic merge patches (Helm 3), server-side apply with field managers and conflicts
(Helm 4), the default of a Deployment's `replicas`, immutable selectors and claims, and strategies. It runs no controllers: nothing creates pods.
"""

import base64
import copy
import http.server
import json
import pathlib
import subprocess
import tempfile
import threading
import urllib.parse

import yaml

from rendering import CHART, PROJECT, TOOLS, Refused

RESOURCES = {
    "v1": {"Secret": "secrets", "ConfigMap": "configmaps", "Service": "services", "ServiceAccount": "serviceaccounts", "Pod": "pods",
           "PersistentVolumeClaim": "persistentvolumeclaims"},
    "apps/v1": {"Deployment": "deployments"},
    "batch/v1": {"Job": "jobs", "CronJob": "cronjobs"},
    "autoscaling/v2": {"HorizontalPodAutoscaler": "horizontalpodautoscalers"},
    "policy/v1": {"PodDisruptionBudget": "poddisruptionbudgets"},
    "networking.k8s.io/v1": {"Ingress": "ingresses", "NetworkPolicy": "networkpolicies"},
}
# Keys by which a strategic merge patch identifies the elements of a list.
MERGE_KEYS = ("name", "containerPort", "mountPath", "topologyKey", "port")


class Problem(Exception):
    def __init__(self, code, reason, message):
        super().__init__(message)
        self.body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message}


class Cluster:
    """A namespace `alovoice` with the release `gw`."""

    def __enter__(self):
        self.objects, self.managers, self.version, self.lock = {}, {}, 0, threading.Lock()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"cluster": self}))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.folder = tempfile.TemporaryDirectory()
        self.kubeconfig = pathlib.Path(self.folder.name) / "kubeconfig"
        address = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.kubeconfig.write_text(yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {}}],
            "clusters": [{"name": "k", "cluster": {"server": address}}], "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}]}))
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.folder.cleanup()

    def helm(self, *arguments, binary="helm"):
        command = [TOOLS / binary, *arguments, "--namespace", "alovoice", "--kubeconfig", self.kubeconfig]
        done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=False, timeout=120)
        if done.returncode:
            raise Refused(done.stderr)
        return done.stdout

    def upgrade(self, mode, values=None, binary="helm", chart=CHART, options=()):
        """`helm upgrade --install` with a mode of helm/ci and further values. Returns the output."""
        file = pathlib.Path(self.folder.name) / "values.yaml"
        file.write_text(yaml.safe_dump(values or {}))
        modes = ["--values", f"helm/ci/{mode}-values.yaml"] if mode else []
        return self.helm("upgrade", "--install", "gw", chart, "--disable-openapi-validation", *modes, "--values", file, *options, binary=binary)

    def get(self, kind, name="gw-alovoice-gateway"):
        return self.objects.get((kind, name))

    def names(self, kind):
        return {name for (of, name) in self.objects if of == kind}

    def scale(self, replicas, manager="kube-controller-manager"):
        """Sets the number of pods as an autoscaler or `kubectl scale` does."""
        changed = copy.deepcopy(self.get("Deployment"))
        changed["spec"]["replicas"] = replicas
        self.store("Deployment", changed, manager)

    def store(self, kind, given, manager):
        """Stores an object. A manager that changes a field takes it from the others."""
        key = (kind, given["metadata"]["name"])
        before = self.objects.get(key)
        check(kind, before, given)
        self.version += 1
        given["metadata"] |= {"namespace": "alovoice", "uid": f"{kind}-{key[1]}", "resourceVersion": str(self.version)}
        given["metadata"].setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        if kind == "Deployment":
            given["spec"].setdefault("replicas", 1)
        old, new = leaves(before or {}), leaves(given)
        changed = {path for path in new if old.get(path) != new[path]}
        owners = self.managers.setdefault(key, {})
        for paths in owners.values():
            paths -= changed
        owners.setdefault(manager, set()).update(changed)
        self.objects[key] = given
        return given

    def apply(self, kind, given, manager, force):
        """Server-side apply: a field with another owner and another value is a conflict, and a field that is no longer applied is removed."""
        key = (kind, given["metadata"]["name"])
        live, owners = copy.deepcopy(self.objects.get(key) or given), self.managers.setdefault(key, {})
        old, new = leaves(live), leaves(given)
        others = set().union(*(paths for name, paths in owners.items() if name != manager))
        conflicts = sorted(path for path in new if path in others and old.get(path) != new[path])
        if conflicts and not force:
            raise Problem(409, "Conflict", "conflict: " + ", ".join("." + ".".join(path) for path in conflicts))
        for path in owners.get(manager, set()) - set(new) - others:
            remove(live, path)
        merge(live, given, is_patch=False)
        self.store(kind, live, manager)
        owners[manager] = set(new)
        return live


def check(kind, before, after):
    if kind == "Deployment" and before and before["spec"]["selector"] != after["spec"]["selector"]:
        raise Problem(422, "Invalid", "spec.selector: field is immutable")
    if kind == "Deployment" and after["spec"]["strategy"]["type"] == "Recreate" and "rollingUpdate" in after["spec"]["strategy"]:
        raise Problem(422, "Invalid", "spec.strategy.rollingUpdate: may not be specified when strategy `type` is `Recreate`")
    if kind == "PersistentVolumeClaim" and before and before["spec"] != after["spec"]:
        raise Problem(422, "Invalid", "spec is immutable after creation")


def leaves(value, path=()):
    """The values of an object by path, without what the server sets. A list is one value."""
    if isinstance(value, dict) and value:
        return {at: leaf for key, inner in value.items() for at, leaf in leaves(inner, path + (key,)).items()}
    served = path[:2] in {("metadata", key) for key in ("uid", "resourceVersion", "creationTimestamp", "namespace", "managedFields")}
    return {} if served or not path else {path: value}


def remove(value, path):
    """Removes a field, and the maps that are empty without it."""
    if len(path) > 1 and path[0] in value:
        remove(value[path[0]], path[1:])
    if len(path) == 1 or value.get(path[0]) == {}:
        value.pop(path[0], None)


def merge(live, given, is_patch=True):
    """A strategic merge patch, as far as the chart needs it."""
    for key, value in given.items():
        if key.startswith("$"):
            continue
        if value is None:
            live.pop(key, None)
        elif isinstance(value, dict) and isinstance(live.get(key), dict):
            if "$retainKeys" in value:
                live[key] = {name: inner for name, inner in live[key].items() if name in value["$retainKeys"]}
            merge(live[key], value, is_patch)
        elif is_patch and isinstance(value, list) and isinstance(live.get(key), list) and value and isinstance(value[0], dict):
            live[key] = merged_list(live[key], value)
        else:
            live[key] = copy.deepcopy(value)


def merged_list(live, given):
    name = next((key for key in MERGE_KEYS if all(key in one for one in live + given)), None)
    if name is None:
        return copy.deepcopy([one for one in given if "$patch" not in one])
    found = {one[name]: one for one in live}
    for one in given:
        if one.get("$patch") == "delete":
            found.pop(one[name], None)
        elif one[name] in found:
            merge(found[one[name]], one)
        else:
            found[one[name]] = copy.deepcopy({key: value for key, value in one.items() if not key.startswith("$")})
    return list(found.values())


def decode(text):
    """The body of a request: JSON, YAML, or Helm's record of a release, which client-go sends as protobuf."""
    if not text.startswith(b"k8s\0"):
        return yaml.safe_load(text) if text else {}
    secret = fields(fields(text[4:])[2][0])
    metadata = fields(secret[1][0])
    entry = {one[1][0].decode(): one[2][0] for one in map(fields, secret[2])}
    labels = {one[1][0].decode(): one[2][0].decode() for one in map(fields, metadata[11])}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": metadata[1][0].decode(), "labels": labels},
            "type": secret[3][0].decode(), "data": {key: base64.b64encode(value).decode() for key, value in entry.items()}}


def fields(message):
    """The fields of a protobuf message by number: bytes, or numbers."""
    found, at = {}, 0

    def number():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = message[at]
            value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128:
                return value

    while at < len(message):
        tag = number()
        value = number()
        if tag & 7 == 2:
            value, at = message[at:at + value], at + value
        found.setdefault(tag >> 3, []).append(value)
    return found


class Handler(http.server.BaseHTTPRequestHandler):
    cluster = None
    protocol_version = "HTTP/1.1"
    # Sends each answer at once and not in parts, which would wait for each other.
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def handle_request(self):
        url = urllib.parse.urlsplit(self.path)
        query = {name: values[0] for name, values in urllib.parse.parse_qs(url.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        text = self.rfile.read(length) if length else b""
        try:
            given = {} if self.command == "DELETE" else decode(text)
            with self.cluster.lock:
                code, body = 200, self.answer(url.path.strip("/").split("/"), query, given)
        except Problem as problem:
            code, body = problem.body["code"], problem.body
        sent = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_request

    def answer(self, path, query, given):
        if path == ["version"]:
            return {"major": "1", "minor": "36", "gitVersion": "v1.36.0"}
        if path == ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == ["apis"]:
            groups = [(version.split("/")[0], {"groupVersion": version, "version": version.split("/")[1]}) for version in RESOURCES if "/" in version]
            return {"kind": "APIGroupList", "groups": [{"name": name, "versions": [one], "preferredVersion": one} for name, one in groups]}
        version, rest = ("v1", path[2:]) if path[0] == "api" else ("/".join(path[1:3]), path[3:])
        kinds = RESOURCES.get(version, {})
        if not rest:
            verbs = ["create", "delete", "get", "list", "patch", "update"]
            listed = [{"name": plural, "singularName": "", "kind": kind, "namespaced": True, "verbs": verbs} for kind, plural in kinds.items()]
            return {"kind": "APIResourceList", "groupVersion": version, "resources": listed}
        kind = next((kind for kind, plural in kinds.items() if len(rest) > 2 and plural == rest[2]), None)
        if kind is None:
            raise Problem(404, "NotFound", f"no such resource: {self.path}")
        if len(rest) == 3:
            return self.cluster.store(kind, new(kind, given, self.cluster), query.get("fieldManager", "helm")) if self.command == "POST" else listing(
                self.cluster, version, kind, query.get("labelSelector", ""))
        return self.one(kind, rest[3], query, given)

    def one(self, kind, name, query, given):
        live, manager = self.cluster.get(kind, name), query.get("fieldManager", "helm")
        is_apply = "apply-patch" in self.headers.get("Content-Type", "")
        if live is None and not is_apply:
            raise Problem(404, "NotFound", f"{kind} {name} not found")
        if self.command == "DELETE":
            del self.cluster.objects[(kind, name)]
            self.cluster.managers.pop((kind, name), None)
            return {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        if self.command == "PATCH" and is_apply:
            return self.cluster.apply(kind, given, manager, query.get("force") == "true")
        if self.command == "PATCH":
            changed = copy.deepcopy(live)
            merge(changed, given)
            return self.cluster.store(kind, changed, manager)
        if self.command == "PUT":
            return self.cluster.store(kind, given, manager)
        return live


def new(kind, given, cluster):
    if (kind, given["metadata"]["name"]) in cluster.objects:
        raise Problem(409, "AlreadyExists", f"{kind} {given['metadata']['name']} already exists")
    return given


def listing(cluster, version, kind, selector):
    wanted = dict(one.split("=", 1) for one in selector.split(",") if "=" in one)
    items = [one for (of, _), one in cluster.objects.items() if of == kind and wanted.items() <= one["metadata"].get("labels", {}).items()]
    return {"kind": f"{kind}List", "apiVersion": version, "metadata": {"resourceVersion": str(cluster.version)}, "items": items}
