"""The settings file: the chart passes every setting on, and the gateway accepts the rendered file."""

import json
import os
import pathlib
import re
import subprocess
import tempfile
import tomllib
import unittest

import yaml

from rendering import CHART, MODES, PROJECT, config_map, container, pod, render

ENVIRONMENT = {"ENV_TENANT_TOKEN": "token", "ENV_TENANT_CALLBACKS": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}
# The chart derives these settings from the value `database`.
OF_THE_CHART = {"store.url", "store.password_file"}
SCHEMA = json.loads((CHART / "values.schema.json").read_text())["properties"]["config"]


def objects(mode, **options):
    """The objects of a mode. The mode `everything` gets every setting that its file does not have."""
    values = {"config": every_setting()} if mode == "everything" else None
    return render(mode, values=values, **options)


def settings(mode):
    return tomllib.loads(config_map(objects(mode))["data"]["gateway.toml"])


def every_setting():
    """`config` of everything-values.yaml, with the schema's example for each setting that the file does not have."""
    config = yaml.safe_load((CHART / "ci" / "everything-values.yaml").read_text())["config"]
    for path in sorted(set(of_schema(SCHEMA)) - set(leaves(config))):
        schema, table = SCHEMA, config
        *tables, key = path.split(".")
        for name in tables:
            # The first tenant, or the first issuer, gets the setting.
            schema = schema["additionalProperties"] if name == "*" else schema["properties"][name]
            table = next(iter(table.values())) if name == "*" else table.setdefault(name, {})
            if schema.get("type") == "array":
                schema, table = schema["items"], table[0]
        schema = schema["properties"][key]
        table[key] = {"value": "something"} if "allOf" in schema else schema["examples"][0]
    return config


def leaves(table, path=()):
    """The keys of settings. All issuers count as one, and all tenants count as one."""
    for key, value in table.items():
        if path == ("tenants",):
            key = "*"
        # In the values of the chart, a file is {secret, key}, {configMap, key} or {value}.
        if isinstance(value, dict) and not key.endswith("_file"):
            yield from leaves(value, path + (key,))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for one in value:
                yield from leaves(one, path + (key,))
        else:
            yield ".".join(path + (key,))


def of_schema(schema, path=()):
    """The keys of the schema."""
    schema = schema.get("items", schema) if schema.get("type") == "array" and "properties" in schema["items"] else schema
    if "properties" in schema:
        for key, inner in schema["properties"].items():
            yield from of_schema(inner, path + (key,))
    elif isinstance(schema.get("additionalProperties"), dict):
        yield from of_schema(schema["additionalProperties"], path + ("*",))
    else:
        yield ".".join(path)


def example():
    """Every setting, including those that config.example.toml has in comments: `# key = value`."""
    text = (PROJECT / "config.example.toml").read_text()
    keys = set(leaves(tomllib.loads(re.sub(r"^# ?(?=[a-z_]+ = )", "", text, flags=re.MULTILINE))))
    return keys


class Settings(unittest.TestCase):
    def test_the_schema_has_every_setting(self):
        self.assertEqual(set(of_schema(SCHEMA)) | OF_THE_CHART, example())

    def test_the_chart_passes_every_setting_on(self):
        self.assertEqual(example() - set(leaves(settings("everything"))), set())
        self.assertEqual(settings("everything")["cache"]["time_to_live"], "2d", "the example in values.schema.json")

    def test_numbers_stay_numbers(self):
        table = settings("everything")
        self.assertEqual(table["server"]["max_connections"], 1_000_000)
        self.assertIsInstance(table["server"]["max_connections"], int)
        self.assertEqual(table["traces"]["sample_ratio"], 0.25)
        # Helm decodes numbers of the command line and numbers of a file in different ways.
        rendered = render("everything", sets=["config.rate_limit.burst=1000000", "config.callbacks.allow_http=false"])
        table = tomllib.loads(config_map(rendered)["data"]["gateway.toml"])
        self.assertEqual((table["rate_limit"]["burst"], table["callbacks"]["allow_http"]), (1_000_000, False))

    def test_texts_survive(self):
        self.assertEqual(settings("everything")["auth"]["issuers"][0]["audiences"][1], 'calls "quoted" \\ <&>')
        self.assertIn("Umbrella.uz", settings("everything")["tenants"])

    def test_the_address_of_the_database_is_encoded(self):
        url = settings("everything")["store"]["url"]
        self.assertTrue(url.startswith("postgres://calls%2Bgateway@db.internal:6432/calls?sslmode=verify-ca&"), url)
        self.assertTrue(url.endswith("&options=-csearch_path%3Dcalls%20now"), url)

    def test_the_gateway_reads_it(self):
        """`check` reports only that issuers and databases of example.uz cannot be reached."""
        gateway = next((path for path in candidates() if path.exists()), None)
        if gateway is None:
            self.skipTest("the gateway is not built (cargo build)")
        for mode in MODES:
            with self.subTest(mode), tempfile.TemporaryDirectory() as folder:
                code, said = check(gateway, mode, pathlib.Path(folder))
                # 2 means wrong settings; 1 means that a server cannot be reached.
                self.assertIn(code, (0, 1), said)
                for line in said.splitlines():
                    self.assertRegex(line, r"^(warning: vendor\.base_url: |auth\.issuers\[\d\]\.jwks_url: issuer https?://sso\.example\.uz|store: |settings, secrets, )", said)


def candidates():
    if "GATEWAY_BINARY" in os.environ:
        yield pathlib.Path(os.environ["GATEWAY_BINARY"])
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", PROJECT / "target"))
    yield from (target / profile / "alovoice-gateway" for profile in ("debug", "release"))


def check(gateway, mode, folder):
    rendered = objects(mode)
    toml = config_map(rendered)["data"]["gateway.toml"]
    files = [str(folder), "/run/secrets/alovoice-gateway"]
    for name, content in content_of_files(rendered).items():
        (folder / name).write_bytes(content)
    for name in ("umbrella", "umbrella-callbacks", "acme-callbacks"):
        (folder / name).write_text(ENVIRONMENT["ENV_TENANT_CALLBACKS"])
    toml = toml.replace(files[1], files[0]).replace(files[1].replace("/", "%2F"), files[0].replace("/", "%2F"))
    toml = toml.replace("/mnt/secrets-store", files[0]).replace("sqlite:///data", f"sqlite://{files[0]}")
    # Avoids a name lookup, which is not what this test is about.
    toml = toml.replace("@db.internal:", "@127.0.0.1:")
    toml = toml.replace(":6432/", ":1/").replace(":5432/", ":1/")
    (folder / "gateway.toml").write_text(toml)
    environment = ENVIRONMENT | {one["name"]: one["value"] for one in container(rendered)["env"] if "value" in one}
    environment["GATEWAY_CONFIG"] = str(folder / "gateway.toml")
    done = subprocess.run([gateway, "check"], env=environment, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, (done.stdout + done.stderr).strip()


def authority():
    """The certificate of an authority, in PEM format."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=authority -keyout /dev/null"
    return subprocess.run(command.split(), capture_output=True, check=True).stdout


def content_of_files(rendered):
    """Valid content for each file."""
    made = {
        "public_key_file": public_key(),
        "jwks_file": json.dumps({"keys": [EC_KEY]}).encode(),
        "callback_secret_file": ENVIRONMENT["ENV_TENANT_CALLBACKS"].encode(),
        "hmac_secret_file": b"0123456789abcdef0123456789abcdef",
        "headers_file": b"api-key: key\n",
        "ca_file": authority(),
        "ca": authority(),
        "key_file": b"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n",
    }
    volume = next(one for one in pod(rendered)["volumes"] if one["name"] == "files")
    sources = [source.get("secret") or source["configMap"] for source in volume["projected"]["sources"]]
    names = [source["items"][0]["path"] for source in sources]
    return {name: made.get(name.rsplit(".", 1)[-1], b"something") for name in names}


# The key of RFC 7517, appendix A.1, with the parameters that the gateway needs, and the key of RFC 8410, section 10.1.
EC_KEY = {
    "kty": "EC", "crv": "P-256", "use": "sig", "kid": "1", "alg": "ES256",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
}


def public_key():
    body = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="
    return f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n".encode()
