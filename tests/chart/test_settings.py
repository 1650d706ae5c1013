"""The settings file: every setting can be reached, and what the chart writes is what the gateway reads."""

import json
import os
import pathlib
import re
import subprocess
import tempfile
import tomllib
import unittest

from rendering import CHART, MODES, PROJECT, config_map, container, pod, render

ENVIRONMENT = {"ENV_TENANT_TOKEN": "token", "ENV_TENANT_CALLBACKS": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}
# What `database` of the values stands for.
OF_THE_CHART = {"store.url", "store.password_file"}


def settings(mode):
    return tomllib.loads(config_map(render(mode))["data"]["gateway.toml"])


def leaves(table, path=()):
    """The keys of settings; issuers and tenants count as one of their kind."""
    for key, value in table.items():
        if path == ("tenants",):
            key = "*"
        if isinstance(value, dict):
            yield from leaves(value, path + (key,))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for one in value:
                yield from leaves(one, path + (key,))
        else:
            yield ".".join(path + (key,))


def of_schema(schema, path=()):
    """The same of the schema."""
    schema = schema.get("items", schema) if schema.get("type") == "array" and "properties" in schema["items"] else schema
    if "properties" in schema:
        for key, inner in schema["properties"].items():
            yield from of_schema(inner, path + (key,))
    elif isinstance(schema.get("additionalProperties"), dict):
        yield from of_schema(schema["additionalProperties"], path + ("*",))
    else:
        yield ".".join(path)


def example():
    """Every setting, also those that config.example.toml has in comments: `# key = value`."""
    text = (PROJECT / "config.example.toml").read_text()
    keys = set(leaves(tomllib.loads(re.sub(r"^# ?(?=[a-z_]+ = )", "", text, flags=re.MULTILINE))))
    return keys


class Settings(unittest.TestCase):
    def test_the_schema_has_every_setting(self):
        config = json.loads((CHART / "values.schema.json").read_text())["properties"]["config"]
        there = set(of_schema(config)) | OF_THE_CHART
        self.assertEqual(example() - there, set(), "settings that values.schema.json does not know: enter them under config")

    def test_the_mode_of_everything_sets_every_setting(self):
        self.assertEqual(example() - set(leaves(settings("everything"))), set(), "add it to helm/ci/everything-values.yaml")

    def test_numbers_stay_numbers(self):
        table = settings("everything")
        self.assertEqual(table["server"]["max_connections"], 1_000_000)
        self.assertIsInstance(table["server"]["max_connections"], int)
        self.assertEqual(table["vendor"]["polling"]["growth"], 0.25)
        # From the command line they come otherwise than from a file.
        objects = render("everything", sets=["config.rate_limit.burst=1000000", "config.callbacks.allow_http=false"])
        table = tomllib.loads(config_map(objects)["data"]["gateway.toml"])
        self.assertEqual((table["rate_limit"]["burst"], table["callbacks"]["allow_http"]), (1_000_000, False))

    def test_texts_survive(self):
        self.assertEqual(settings("everything")["auth"]["issuers"][0]["audiences"][1], 'calls "quoted" \\ <&>')
        self.assertIn("Umbrella.uz", settings("everything")["tenants"])

    def test_the_address_of_the_database_is_encoded(self):
        url = settings("everything")["store"]["url"]
        self.assertTrue(url.startswith("postgres://calls%2Bgateway@db.internal:6432/calls?sslmode=verify-ca&"), url)
        self.assertTrue(url.endswith("&options=-csearch_path%3Dcalls%20now"), url)

    def test_the_gateway_reads_it(self):
        """`check` finds nothing wrong but what is not there: issuers and databases of example.uz."""
        gateway = next((path for path in candidates() if path.exists()), None)
        if gateway is None:
            self.skipTest("the gateway is not built (cargo build)")
        for mode in MODES:
            with self.subTest(mode), tempfile.TemporaryDirectory() as folder:
                code, said = check(gateway, mode, pathlib.Path(folder))
                # 2 is wrong settings; 1 what cannot be had at the moment.
                self.assertIn(code, (0, 1), said)
                for line in said.splitlines():
                    self.assertRegex(line, r"^(issuer https?://sso\.example\.uz|store: |the settings are good)", said)


def candidates():
    if "GATEWAY_BINARY" in os.environ:
        yield pathlib.Path(os.environ["GATEWAY_BINARY"])
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", PROJECT / "target"))
    yield from (target / profile / "alovoice-gateway" for profile in ("debug", "release"))


def check(gateway, mode, folder):
    objects = render(mode)
    toml = config_map(objects)["data"]["gateway.toml"]
    files = [str(folder), "/run/secrets/alovoice-gateway"]
    for name, content in content_of_files(objects).items():
        (folder / name).write_bytes(content)
    for name in ("umbrella", "umbrella-callbacks", "acme-callbacks"):
        (folder / name).write_text(ENVIRONMENT["ENV_TENANT_CALLBACKS"])
    toml = toml.replace(files[1], files[0]).replace(files[1].replace("/", "%2F"), files[0].replace("/", "%2F"))
    toml = toml.replace("/mnt/secrets-store", files[0]).replace("sqlite:///data", f"sqlite://{files[0]}")
    # No name is looked up: it is the settings that are in question.
    toml = toml.replace("@db.internal:", "@127.0.0.1:")
    toml = toml.replace(":6432/", ":1/").replace(":5432/", ":1/")
    (folder / "gateway.toml").write_text(toml)
    environment = ENVIRONMENT | {one["name"]: one["value"] for one in container(objects)["env"] if "value" in one}
    environment["GATEWAY_CONFIG"] = str(folder / "gateway.toml")
    done = subprocess.run([gateway, "check"], env=environment, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, (done.stdout + done.stderr).strip()


def content_of_files(objects):
    """Something of the right form for each file."""
    made = {
        "public_key_file": public_key(),
        "jwks_file": json.dumps({"keys": [EC_KEY]}).encode(),
        "callback_secret_file": ENVIRONMENT["ENV_TENANT_CALLBACKS"].encode(),
        "hmac_secret_file": b"0123456789abcdef0123456789abcdef",
        "headers_file": b"api-key: key\n",
        "key_file": b"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n",
    }
    volume = next(one for one in pod(objects)["volumes"] if one["name"] == "files")
    sources = [source.get("secret") or source["configMap"] for source in volume["projected"]["sources"]]
    names = [source["items"][0]["path"] for source in sources]
    return {name: made.get(name.rsplit(".", 1)[-1], b"something") for name in names}


# RFC 7517, appendix A.1, with what the gateway asks of a key besides; and RFC 8410, section 10.1.
EC_KEY = {
    "kty": "EC", "crv": "P-256", "use": "sig", "kid": "1", "alg": "ES256",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
}


def public_key():
    body = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="
    return f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n".encode()
