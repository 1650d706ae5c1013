"""Upgrades, rolls back and upgrades again two replicas under load, and counts what failed, got lost or was doubled.

Usage: journey.py PREVIOUS CURRENT POSTGRES_FOLDER. The exit code is 0 only if every count is 0.

During the first start of the current version, a reader holds a lock as `pg_dump` does, so the update of the tables has to wait. The
replicas of the previous version must answer meanwhile.
"""

import base64
import collections
import os
import pathlib
import pwd
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from load import CALL_LIMIT, Ingress, Load
from peers import Receiver, Vendor

PREVIOUS, CURRENT, POSTGRES = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
ROWS = int(os.environ.get("ROWS", "200000"))
# Number of responses between two steps.
RESPONSES = 300
# Time limit in seconds for the start or the end of a process, and for other waits.
PATIENCE = 120
LOCK_WAIT = "schema update waits for other transactions"
SETTINGS = {
    "AUTH__ISSUERS__0__ISSUER": "https://issuer.test", "AUTH__ISSUERS__0__AUDIENCES": "alovoice-gateway",
    "AUTH__ISSUERS__0__ALGORITHMS": "HS256", "CALLBACKS__ALLOW_HTTP": "true", "CALLBACKS__ALLOW_NETWORKS": "127.0.0.0/8",
    "RATE_LIMIT__REQUESTS_PER_SECOND": "100000", "RATE_LIMIT__BURST": "100000", "SERVER__SHUTDOWN_DELAY": "2s",
    "VENDOR__POLLING__FIRST_AFTER": "1s", "VENDOR__POLLING__MIN_INTERVAL": "500ms", "VENDOR__POLLING__SETTLE_AFTER": "2s",
}
# Copies the finished call `seed`. The columns depend on the version of the schema.
COPY_ROWS = """SELECT format('INSERT INTO analyses (call_id, %1$s) SELECT call_id || ''-'' || number, %1$s FROM analyses, generate_series(1, {rows}) AS number
    WHERE call_id = ''seed''', string_agg(quote_ident(column_name), ', ')) FROM information_schema.columns
    WHERE table_schema = current_schema() AND table_name = 'analyses' AND column_name NOT IN ('id', 'call_id') \\gexec
ANALYZE analyses;
"""


def say(text):
    print(f"=== {text}", flush=True)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def until(what, holds, limit=PATIENCE):
    end = time.monotonic() + limit
    while not holds():
        if time.monotonic() > end:
            raise SystemExit(f"timed out: {what}")
        time.sleep(0.05)


class Database:
    """A PostgreSQL server with one database."""

    def __init__(self, folder):
        self.port = free_port()
        self.url = f"postgres://gateway@127.0.0.1:{self.port}/postgres"
        # PostgreSQL refuses to run as root.
        account = None
        if os.getuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            account = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
        self.user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
        home, data = folder / "postgres", folder / "postgres" / "data"
        home.mkdir()
        if account:
            os.chown(home, account.pw_uid, account.pw_gid)
        subprocess.run([POSTGRES / "initdb", "--pgdata", data, "--username", "gateway", "--auth", "trust", "--no-sync", "--encoding",
                        "UTF8", "--locale", "C"], check=True, stdout=subprocess.DEVNULL, cwd="/", **self.user)
        log = (folder / "postgres.log").open("w")
        self.process = subprocess.Popen([POSTGRES / "postgres", "-D", data, "-p", str(self.port), "-h", "127.0.0.1", "-k", home],
                                        stdout=log, stderr=log, cwd="/", **self.user)
        until("PostgreSQL", lambda: subprocess.run(self.command("SELECT 1"), capture_output=True, check=False).returncode == 0)

    def command(self, *sql):
        words = [POSTGRES / "psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1", self.url]
        return words + [word for statement in sql for word in ("--command", statement)]

    def query(self, sql):
        return subprocess.run(self.command(sql), check=True, capture_output=True, text=True).stdout.strip()

    def run_script(self, script):
        subprocess.run(self.command(), input=script, check=True, capture_output=True, text=True)

    def lock_for_reading(self):
        """Locks the calls as `pg_dump` does, until the returned process gets `COMMIT`."""
        reader = subprocess.Popen(self.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        reader.stdin.write("BEGIN; LOCK TABLE analyses IN ACCESS SHARE MODE; SELECT 'locked';\n")
        reader.stdin.flush()
        if reader.stdout.readline().strip() != "locked":
            raise SystemExit("psql did not lock the table")
        return reader

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()


class Replica:
    """A process of the gateway."""

    def __init__(self, name, program, environment, folder):
        self.name = name
        self.api, self.admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.log = folder / f"{name.replace(' ', '-')}.log"
        listeners = {"GATEWAY_SERVER__LISTEN": self.api, "GATEWAY_SERVER__ADMIN_LISTEN": self.admin}
        with self.log.open("w") as log:
            self.process = subprocess.Popen([program, "serve"], env=environment | listeners, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def __str__(self):
        return self.name

    def has_logged(self, text):
        return text in self.log.read_text()


class Journey:
    def __init__(self, folder):
        self.folder = folder
        self.vendor, self.receiver, self.database = Vendor(), Receiver(), Database(folder)
        self.ingress, self.replicas, self.ended = Ingress(), [], []
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        self.environment |= {f"GATEWAY_{key}": value for key, value in (SETTINGS | self.secrets()).items()}
        self.environment["GATEWAY_STORE__URL"] = self.database.url
        self.environment["GATEWAY_VENDOR__BASE_URL"] = f"http://127.0.0.1:{self.vendor.port}"
        scopes = "analyses:read analyses:write webhooks:manage"
        token = subprocess.run([PREVIOUS, "token", "--tenant", "acme", "--scope", scopes], env=self.environment, check=True,
                               capture_output=True, text=True).stdout.strip()
        self.load = Load(self.ingress, token, f"http://127.0.0.1:{self.receiver.port}/callback")

    def secrets(self):
        """Writes the secrets and returns the settings that name their files."""
        def key():
            return base64.b64encode(secrets.token_bytes(32)).decode()

        values = {"issuer": key(), "encryption": key(), "callbacks": f"whsec_{key()}", "acme": "vendor-token"}
        for name, value in values.items():
            (self.folder / name).write_text(value)
        self.receiver.secrets["/callback"] = values["callbacks"]
        return {
            "AUTH__ISSUERS__0__HMAC_SECRET_FILE": str(self.folder / "issuer"), "ENCRYPTION__KEY_FILE": str(self.folder / "encryption"),
            "TENANTS__ACME__VENDOR_TOKEN_FILE": str(self.folder / "acme"),
            "TENANTS__ACME__CALLBACK_SECRET_FILE": str(self.folder / "callbacks"),
        }

    def begin(self, name, program):
        replica = Replica(name, program, self.environment, self.folder)
        threading.Thread(target=self.ingress.follow, args=(replica,), daemon=True).start()
        self.replicas.append(replica)
        return replica

    def is_ready(self, replica):
        if replica.process.poll() is not None:
            raise SystemExit(f"{replica} ended:\n{replica.log.read_text()}")
        return replica in self.ingress.ready

    def until_ready(self, replica):
        until(f"readiness of {replica}", lambda: self.is_ready(replica))
        return replica

    def start(self, name, program):
        return self.until_ready(self.begin(name, program))

    def stop(self, replica):
        replica.process.terminate()
        self.ended.append((replica.name, replica.process.wait(PATIENCE)))
        self.replicas.remove(replica)

    def schema(self):
        return self.database.query("SELECT max(version) FROM gateway_schema")

    def seed(self):
        """Fills the table of calls, so that an update of the tables has something to do."""
        self.load.ask("POST", "/v1/analyses", {"call_id": "seed"})
        until("the first call", lambda: self.database.query("SELECT count(*) FROM analyses WHERE status = 'completed' AND stage IS NULL") == "1")
        self.database.run_script(COPY_ROWS.format(rows=ROWS))
        hook = {"url": f"http://127.0.0.1:{self.receiver.port}/webhook", "events": ["analysis.completed"]}
        self.receiver.secrets["/webhook"] = self.load.ask("POST", "/v1/webhooks", hook)["secret"]

    def upgrade_beside_a_reader(self):
        reader = self.database.lock_for_reading()
        replica = self.begin("current 1", CURRENT)
        until("the update of the tables", lambda: self.is_ready(replica) or replica.has_logged(LOCK_WAIT) or self.load.failures)
        self.load.until_answered(RESPONSES)
        say(f"{RESPONSES} responses while a reader held the lock; the longest request took {self.load.longest:.2f} s")
        reader.communicate("COMMIT;\n")
        return self.until_ready(replica)

    def replace(self, replicas, name, program):
        """Replaces two replicas, one after the other. Both versions run together in between."""
        started = []
        for number, replica in enumerate(replicas, 1):
            started.append(self.start(f"{name} {number}", program))
            self.load.until_answered(RESPONSES)
            self.stop(replica)
            self.load.until_answered(RESPONSES)
        return started

    def run(self):
        previous = [self.start(f"previous {number}", PREVIOUS) for number in (1, 2)]
        self.seed()
        say(f"previous version: schema {self.schema()}, {ROWS} calls")
        self.load.start()
        try:
            self.load.until_answered(RESPONSES)
            first = self.upgrade_beside_a_reader()
            self.load.until_answered(RESPONSES)
            say(f"both versions: schema {self.schema()}")
            self.stop(previous[0])
            second = self.start("current 2", CURRENT)
            self.load.until_answered(RESPONSES)
            self.stop(previous[1])
            self.load.until_answered(RESPONSES)
            say("upgraded")
            older = self.replace([first, second], "rolled back", PREVIOUS)
            say(f"rolled back: schema {self.schema()}")
            self.replace(older, "current again", CURRENT)
            say("upgraded again")
        finally:
            self.load.stop()
        return self.count()

    def count(self):
        """Waits until all calls are finished and announced, stops the replicas, and returns the counts."""
        load, calls = self.load, self.load.calls
        end = time.monotonic() + CALL_LIMIT
        lost = [call_id for call_id in calls if not load.wait(call_id, end)]
        wanted = [(path, "analysis.completed", call_id) for path in ("/callback", "/webhook") for call_id in calls]
        with self.receiver.changed:
            self.receiver.changed.wait_for(lambda: all(self.receiver.received[key] for key in wanted), CALL_LIMIT)
        # Metadata that the previous version stored is indexed in the background.
        while True:
            listed = collections.Counter(item["call_id"] for item in load.pages("/v1/analyses?metadata.run=upgrade&limit=100", "analyses"))
            if set(calls) <= set(listed) or time.monotonic() > end:
                break
        events, after = collections.Counter(), "earliest"
        while True:
            page = load.ask("GET", f"/v1/events?limit=500&after={after}")
            events.update(event["data"]["call_id"] for event in page["events"] if event["type"] == "analysis.completed")
            if not page["events"]:
                break
            after = page["next"]
        for replica in list(self.replicas):
            self.stop(replica)

        received = {path: {call_id: self.receiver.received[path, "analysis.completed", call_id] for call_id in calls} for path in ("/callback", "/webhook")}
        kinds = {
            "calls at AloVoice": self.vendor.submits, "completed events": events, "callbacks": received["/callback"],
            "callbacks of the webhook": received["/webhook"], "calls found by metadata": listed,
        }
        rows = [(name, sum(not counts[call_id] for call_id in calls), sum(counts[call_id] > 1 for call_id in calls)) for name, counts in kinds.items()]
        say(f"{load.answered} requests answered, {len(load.failures)} failed; the longest took {load.longest:.2f} s")
        say(f"{len(calls)} calls acknowledged, {len(lost)} not completed")
        for name, missing, doubled in rows:
            say(f"{name}: {missing} lost, {doubled} doubled")
        faults = load.failures + lost + self.receiver.faults + [f"{name}: exit code {code}" for name, code in self.ended if code != 0]
        for fault in faults[:20]:
            print("FAILED", fault)
        return bool(calls) and not faults and not any(missing or doubled for _, missing, doubled in rows)


def main():
    with tempfile.TemporaryDirectory(prefix="gateway-upgrade.") as scratch:
        folder = pathlib.Path(scratch)
        folder.chmod(0o755)
        journey = Journey(folder)
        try:
            is_sound = journey.run()
        finally:
            for replica in journey.replicas:
                replica.process.kill()
            journey.database.stop()
        print("No request failed, and nothing was lost or doubled." if is_sound else "The upgrade is not sound.")
        sys.exit(not is_sound)


main()
