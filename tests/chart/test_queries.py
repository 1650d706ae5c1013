"""Runs every query of the dashboard and the alerts on a Prometheus that scrapes a sandbox."""

import http.server
import json
import os
import pathlib
import re
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

from rendering import CHART, TOOLS
from test_monitoring import EXTERNAL_METRICS, SELECTOR, dashboard_expressions, rules
from test_settings import candidates

PATIENCE = 60
SCRAPE_INTERVAL = "250ms"
# Panels that are empty without faults or without PostgreSQL. Their metrics exist nevertheless.
EMPTY_WHEN_WELL = {
    "5xx by route", "Open circuit breakers", "Failed", "Given up", "Unknown tenant or missing scope", "Over the rate limit",
    "Token rejected by AloVoice", "Webhooks disabled by the gateway", "Connections to PostgreSQL",
    "Store retries", "Tolerated deviations of answers", "Refused for lack of memory or connections",
}
# Series that appear with their first event, such as a fault or another store, by metric and label.
NOT_HERE = [
    ("alovoice_gateway_http_request_duration_seconds_count", 'status=~"5.."'),
    ("alovoice_gateway_vendor_request_duration_seconds_count", "unreachable|timeout"),
    ("alovoice_gateway_token_rejections_total", "keys_unavailable"),
    ("alovoice_gateway_token_rejections_total", "unknown_tenant"),
    ("alovoice_gateway_callback_attempt_duration_seconds_count", 'outcome!="delivered"'),
    ("alovoice_gateway_store_connections", ""),
    ("alovoice_gateway_store_transaction_retries_total", ""),
]


# Metrics of cAdvisor and kube-state-metrics for the pod of the sandbox.
POD = 'namespace="ns",pod="gw-0",container="gateway"'
CLUSTER_METRICS = f"""
container_memory_working_set_bytes{{{POD}}} 1e8
container_cpu_usage_seconds_total{{{POD}}} 12
container_cpu_cfs_periods_total{{{POD}}} 0
container_cpu_cfs_throttled_periods_total{{{POD}}} 0
kube_pod_container_resource_limits{{{POD},resource="memory"}} 1e9
kube_pod_container_resource_limits{{{POD},resource="cpu"}} 2
"""


class Cluster(http.server.BaseHTTPRequestHandler):
    """Serves the metrics of the cluster. The counters grow with each scrape."""

    scrapes = 0

    def do_GET(self):
        type(self).scrapes += 1
        metrics = re.sub(r"(_total{.*}) (\d+)", lambda match: f"{match[1]} {int(match[2]) + self.scrapes}", CLUSTER_METRICS)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(metrics.encode())

    def log_message(self, *_):
        pass


class Program:
    """A process and its log."""

    def __init__(self, *command, folder):
        self.log = pathlib.Path(folder) / f"{pathlib.Path(command[0]).name}.log"
        with self.log.open("w") as log:
            environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)

    def find(self, pattern):
        """Waits for the first match in the log."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            found = re.search(pattern, self.log.read_text())
            if found:
                return found
            time.sleep(0.02)
        raise AssertionError(f"{self.process.args[0]} did not print {pattern}:\n{self.log.read_text()}")

    def stop(self):
        self.process.kill()
        self.process.wait()


def ask(url, token=None, body=None):
    """Sends a request and returns the status and the body of the response."""
    headers = {"Content-Type": "application/json"} if body else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, data=body and json.dumps(body).encode(), headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read()


class Queries(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        gateway = next((path for path in candidates() if path.exists()), None)
        if gateway is None:
            raise unittest.SkipTest("the gateway is not built (cargo build)")
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        anywhere = "127.0.0.1:0"
        sandbox = Program(
            gateway, "sandbox", "--listen", anywhere, "--admin-listen", anywhere, "--vendor-listen", anywhere,
            "--data-dir", f"{folder.name}/sandbox", folder=folder.name)
        cls.addClassCleanup(sandbox.stop)
        cls.token = sandbox.find(r"\nTOKEN=(\S+)\n")[1]
        cls.admin = sandbox.find(r"\nMetrics +http://(\S+)/metrics\n")[1]
        cls.api = sandbox.find(r"\nSwagger UI +(http://\S+)/swagger-ui/")[1]
        cls.receiver = sandbox.find(r"\nReceiver +(http://\S+)")[1]
        cluster = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Cluster)
        threading.Thread(target=cluster.serve_forever, daemon=True).start()
        cls.addClassCleanup(cluster.server_close)
        cls.addClassCleanup(cluster.shutdown)
        settings = pathlib.Path(folder.name) / "prometheus.yml"
        settings.write_text(json.dumps({
            "global": {"scrape_interval": SCRAPE_INTERVAL, "scrape_timeout": SCRAPE_INTERVAL},
            "scrape_configs": [
                {"job_name": "gw", "static_configs": [{"targets": [cls.admin], "labels": {"namespace": "ns", "pod": "gw-0"}}]},
                {"job_name": "cluster", "static_configs": [{"targets": [f"127.0.0.1:{cluster.server_port}"]}]},
            ],
        }))
        prometheus = Program(
            TOOLS / "prometheus", f"--config.file={settings}", f"--storage.tsdb.path={folder.name}/series",
            f"--web.listen-address={anywhere}", folder=folder.name)
        cls.addClassCleanup(prometheus.stop)
        cls.prometheus = "http://" + prometheus.find(r'msg="Listening on" address=(127\.0\.0\.1:[1-9]\d*)')[1]
        # Until then, Prometheus answers queries with 503.
        prometheus.find("Server is ready to receive web requests")
        cls.calls = 0

    def traffic(self):
        """One call from its submission to its callback, one read, one list and one refused request."""
        analyses = f"{self.api}/v1/analyses"
        type(self).calls += 1
        status, _ = ask(analyses, self.token, {"call_id": f"call-{self.calls}", "callback": {"url": self.receiver}})
        self.assertEqual(status, 202)
        self.assertEqual(ask(f"{analyses}/call-1", self.token)[0], 200)
        self.assertEqual(ask(analyses, self.token)[0], 200)
        self.assertEqual(ask(f"{analyses}/call-1")[0], 401)

    def query(self, expression, job=".*"):
        """The numbers that a query returns, without NaN."""
        expression = expression.replace("$__rate_interval", "30s").replace("$job", job)
        for variable in ("namespace", "tenant"):
            expression = expression.replace(f"${variable}", ".*")
        address = f"{self.prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        status, body = ask(address)
        self.assertEqual(status, 200, f"{expression}: {body}")
        return [sample["value"][1] for sample in json.loads(body)["data"]["result"] if sample["value"][1] != "NaN"]

    def answered(self, wanted):
        """Returns the names of the queries that return no data under traffic."""
        end = time.monotonic() + PATIENCE
        while wanted and time.monotonic() < end:
            self.traffic()
            wanted = [(what, expression) for what, expression in wanted if not self.query(expression)]
        return wanted

    def test_every_panel_shows_data(self):
        wanted = [(title, expression) for title, expression, _ in dashboard_expressions()]
        missing = self.answered([(title, expression) for title, expression in wanted if title not in EMPTY_WHEN_WELL])
        self.assertEqual(missing, [])
        for title, expression in wanted:
            self.query(expression)
        self.assertLessEqual(EMPTY_WHEN_WELL, {title for title, _ in wanted})

    def test_the_number_of_replicas_is_0_when_none_answers(self):
        expression = next(expression for title, expression, _ in dashboard_expressions() if title == "Replicas")
        self.answered([("Replicas", "alovoice_gateway_build_info")])
        self.assertEqual(self.query(expression), ["1"])
        self.assertEqual(self.query(expression, job="stopped"), ["0"])

    def test_every_queried_series_exists(self):
        """Covers alerts and panels that are empty without faults too."""
        expressions = [(rule["alert"], rule["expr"]) for rule in rules()]
        expressions += [(title, expression) for title, expression, _ in dashboard_expressions()]
        wanted = set()
        for _, expression in expressions:
            for name, labels in re.findall(rf"\b((?:alovoice_gateway|process)_[a-z_]+|up)\b({SELECTOR})?", expression):
                if not any(name == other and part in labels for other, part in NOT_HERE) and name not in EXTERNAL_METRICS - {"up"}:
                    wanted.add((name, name + labels))
        self.assertGreater(len(wanted), 50)
        self.assertEqual(self.answered(sorted(wanted)), [])

    def test_no_alert_fires_without_faults(self):
        self.answered([("a scrape", "alovoice_gateway_ready")])
        for rule in rules():
            with self.subTest(rule["alert"]):
                self.assertEqual(self.query(rule["expr"]), [])

    def test_promtool_accepts_the_metrics(self):
        self.traffic()
        status, metrics = ask(f"http://{self.admin}/metrics")
        self.assertEqual(status, 200)
        done = subprocess.run([TOOLS / "promtool", "check", "metrics"], input=metrics, capture_output=True, check=False)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))


if __name__ == "__main__":
    unittest.main()
