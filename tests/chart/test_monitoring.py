"""Alerts and dashboard: each alert has a test and a runbook, every metric exists, and every expression is valid."""

import json
import re
import subprocess
import tempfile
import unittest

import yaml

from rendering import CHART, PROJECT, TOOLS, only, render

ALERT_FILES = ["alerts.yaml", "alerts-sqlite.yaml"]
# Metrics of Prometheus and of the kubelet (for the volume of the SQLite file).
EXTERNAL_METRICS = {"up", "kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes"}
# Metrics of the process, from the crate prometheus.
PROCESS_METRICS = {f"process_{name}" for name in (
    "cpu_seconds_total", "open_fds", "max_fds", "virtual_memory_bytes", "resident_memory_bytes", "start_time_seconds", "threads")}


# The label matchers of a metric. A path template in a matcher contains braces too.
SELECTOR = r'\{(?:[^}"]|"[^"]*")*\}'


def rules():
    for file in ALERT_FILES:
        for group in yaml.safe_load((CHART / "files" / file).read_text())["groups"]:
            yield from group["rules"]


def metrics():
    """The metrics of the gateway with their labels, from the generated page docs/metrics.md."""
    found = {}
    page = (PROJECT / "docs" / "metrics.md").read_text()
    for name, kind, labels in re.findall(r"^\| `(alovoice_gateway_[a-z_]+)` \| ([a-z]+) \| ([^|]*) \|", page, re.MULTILINE):
        labels = set(re.findall(r"`([a-z_]+)`", labels))
        for suffix in ["_bucket", "_count", "_sum"] if kind == "histogram" else [""]:
            found[name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    return found


def panels():
    for panel in json.loads((CHART / "files" / "dashboard.json").read_text())["panels"]:
        yield from panel.get("panels", [])
        yield panel


def dashboard_expressions():
    for panel in panels():
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"], target["legendFormat"]


def named(expression):
    """The metrics in an expression, each with the labels of its matchers."""
    bare = expression.replace("$__rate_interval", "5m")
    for name, matchers in re.findall(rf"\b((?:alovoice_gateway|process|kubelet_volume)_[a-z_]+|up)\b({SELECTOR})?", bare):
        yield name, set(re.findall(r"([a-z_]+)\s*(?:=~|!=|!~|=)", matchers))


def grouped(expression):
    return {label for labels in re.findall(r"by \(([^)]*)\)", expression) for label in re.split(r",\s*", labels)}


SCRAPE_LABELS = {"namespace", "job", "instance", "persistentvolumeclaim", "alertname"}


class Metrics(unittest.TestCase):
    def test_alerts_and_dashboard_use_existing_metrics_and_labels(self):
        known = metrics() | {name: set() for name in PROCESS_METRICS | EXTERNAL_METRICS}
        expressions = [(rule["alert"], rule["expr"]) for rule in rules()]
        expressions += [(title, expression) for title, expression, _ in dashboard_expressions()]
        for title, expression in expressions:
            with self.subTest(title):
                asked = list(named(expression))
                self.assertTrue(asked)
                has_labels = set(SCRAPE_LABELS)
                for name, labels in asked:
                    self.assertIn(name, known)
                    self.assertLessEqual(labels, known[name] | SCRAPE_LABELS, name)
                    has_labels |= known[name]
                self.assertLessEqual(grouped(expression), has_labels)

    def test_the_dashboard_shows_every_metric(self):
        shown = {name for _, expression, _ in dashboard_expressions() for name, _ in named(expression)}
        families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in metrics()}
        seen = {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown} | shown
        self.assertEqual(families - seen, set())


class Alerts(unittest.TestCase):
    def test_every_alert_has_a_test(self):
        text = (PROJECT / "tests" / "chart" / "alerts_test.yaml").read_text()
        fired = set(re.findall(r'alertname="(\w+)"', text))
        self.assertEqual(fired, {rule["alert"] for rule in rules()})

    def test_every_alert_has_a_description_and_a_runbook(self):
        headings = set(re.findall(r"^### (\w+)$", (CHART / "RUNBOOKS.md").read_text(), re.MULTILINE))
        self.assertEqual(headings, {rule["alert"] for rule in rules()})
        for rule in rules():
            with self.subTest(rule["alert"]):
                self.assertIn(rule["labels"]["severity"], ("warning", "critical"))
                self.assertLessEqual({"summary", "description"}, set(rule["annotations"]))

    def test_the_prometheus_rule_has_every_alert(self):
        spec = only(render("sqlite-watched"), "PrometheusRule")["spec"]
        rendered = [rule for group in spec["groups"] for rule in group["rules"]]
        self.assertEqual([rule["alert"] for rule in rendered], [rule["alert"] for rule in rules()])
        for rule in rendered:
            # Alertmanager and Grafana show the annotation as a link, so it must be a URL.
            self.assertNotIn("runbook_url", rule["annotations"])
        spec = only(render("external-secrets"), "PrometheusRule")["spec"]
        for rule in (rule for group in spec["groups"] for rule in group["rules"]):
            self.assertEqual(rule["annotations"]["runbook_url"], f"https://wiki.example.uz/runbooks#{rule['alert'].lower()}")

    def test_monitors_take_the_fields_that_operators_expect(self):
        monitor = only(render("everything"), "ServiceMonitor")
        self.assertEqual((monitor["metadata"]["namespace"], monitor["spec"]["namespaceSelector"]), ("monitoring", {"matchNames": ["alovoice"]}))
        self.assertEqual((monitor["spec"]["sampleLimit"], monitor["spec"]["labelLimit"]), (20000, 20))
        self.assertIs(monitor["spec"]["endpoints"][0]["honorLabels"], True)
        self.assertEqual(only(render("everything"), "PrometheusRule")["metadata"]["namespace"], "monitoring")

    def test_a_pod_monitor_selects_the_gateway_and_not_its_tests(self):
        values = {"enabled": True, "namespace": "monitoring", "labels": {"release": "prometheus"}, "limits": {"targetLimit": 9}}
        objects = render("postgres", {"monitoring": {"podMonitor": values}})
        monitor = only(objects, "PodMonitor")
        self.assertEqual(monitor["metadata"]["namespace"], "monitoring")
        self.assertEqual(monitor["spec"]["targetLimit"], 9)
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        template = only(objects, "Deployment")["spec"]["template"]
        self.assertLessEqual(wanted, template["metadata"]["labels"].items())
        for (kind, _), one in objects.items():
            self.assertFalse(kind == "Pod" and wanted <= one["metadata"]["labels"].items())
        ports = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
        self.assertIn(monitor["spec"]["podMetricsEndpoints"][0]["port"], ports)

    def test_values_override_alerts(self):
        spec = only(render("everything"), "PrometheusRule")["spec"]
        rendered = {rule["alert"]: rule for group in spec["groups"] for rule in group["rules"]}
        self.assertNotIn("AlovoiceGatewaySubmitSlow", rendered)
        self.assertNotIn("AlovoiceGatewayVolumeFull", rendered)
        waiting = rendered["AlovoiceGatewayWorkWaiting"]
        self.assertEqual((waiting["for"], waiting["labels"]), ("30m", {"severity": "critical", "team": "telephony"}))
        self.assertEqual(rendered["AlovoiceGatewayErrors"]["labels"], {"severity": "critical", "team": "telephony"})
        self.assertEqual(waiting["annotations"]["runbook_url"], "https://wiki.example.uz/alovoice#alovoicegatewayworkwaiting")


class Dashboard(unittest.TestCase):
    def test_every_expression_is_valid(self):
        """Checks the expressions as recording rules, since promtool reads rules only."""
        made = []
        for number, (_, expression, _) in enumerate(dashboard_expressions()):
            expression = expression.replace("$__rate_interval", "5m").replace("$namespace", "x").replace("$job", "x")
            made.append({"record": f"panel:{number}", "expr": expression})
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump({"groups": [{"name": "dashboard", "rules": made}]}, file)
            file.flush()
            done = subprocess.run([TOOLS / "promtool", "check", "rules", file.name], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_panels_do_not_overlap_and_have_unique_ids(self):
        taken, ids = {}, set()
        for panel in panels():
            self.assertNotIn(panel["id"], ids)
            ids.add(panel["id"])
            place = panel["gridPos"]
            self.assertLessEqual(place["x"] + place["w"], 24)
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    self.assertNotIn((x, y), taken, f"{panel['title']} lies on {taken.get((x, y))}")
                    taken[(x, y)] = panel["title"]

    def test_legends_use_existing_labels(self):
        for title, expression, legend in dashboard_expressions():
            with self.subTest(title):
                kept = grouped(expression) | ({"instance"} if " by " not in expression and "max(" not in expression else set())
                for label in re.findall(r"{{(\w+)}}", legend):
                    self.assertIn(label, kept)

    def test_the_config_map_contains_the_dashboard(self):
        objects = render("everything")
        carried = objects[("ConfigMap", "calls-dashboard")]
        self.assertEqual(json.loads(carried["data"]["alovoice-gateway.json"]), json.loads((CHART / "files" / "dashboard.json").read_text()))
        self.assertEqual(carried["metadata"]["labels"]["grafana_dashboard"], "1")
