"""Alerts and dashboard: each alert is tested and has a runbook, every metric exists, every expression can be read."""

import json
import re
import subprocess
import tempfile
import unittest

import yaml

from rendering import CHART, PROJECT, TOOLS, only, render

ALERT_FILES = ["alerts.yaml", "alerts-sqlite.yaml"]
# Made by Prometheus itself, and by the kubelet (for the SQLite file's volume): not the gateway's.
OF_OTHERS = {"up", "kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes"}
# Of the crate prometheus, for the process.
OF_THE_PROCESS = {f"process_{name}" for name in (
    "cpu_seconds_total", "open_fds", "max_fds", "virtual_memory_bytes", "resident_memory_bytes", "start_time_seconds", "threads")}


# The labels that are asked of a metric; a template of a path among them has braces of its own.
SELECTOR = r'\{(?:[^}"]|"[^"]*")*\}'


def rules():
    for file in ALERT_FILES:
        for group in yaml.safe_load((CHART / "files" / file).read_text())["groups"]:
            yield from group["rules"]


def metrics():
    """The gateway's metrics, with the labels of each, from the page that the declaration generates."""
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
    """The metrics in an expression, with the labels that are asked of each."""
    bare = expression.replace("$__rate_interval", "5m")
    for name, matchers in re.findall(rf"\b((?:alovoice_gateway|process|kubelet_volume)_[a-z_]+|up)\b({SELECTOR})?", bare):
        yield name, set(re.findall(r"([a-z_]+)\s*(?:=~|!=|!~|=)", matchers))


def grouped(expression):
    return {label for labels in re.findall(r"by \(([^)]*)\)", expression) for label in re.split(r",\s*", labels)}


OF_SCRAPING = {"namespace", "job", "instance", "persistentvolumeclaim", "alertname"}


class Metrics(unittest.TestCase):
    def test_alerts_and_dashboard_name_what_exists(self):
        known = metrics() | {name: set() for name in OF_THE_PROCESS | OF_OTHERS}
        expressions = [(rule["alert"], rule["expr"]) for rule in rules()]
        expressions += [(title, expression) for title, expression, _ in dashboard_expressions()]
        for title, expression in expressions:
            with self.subTest(title):
                asked = list(named(expression))
                self.assertTrue(asked)
                has_labels = set(OF_SCRAPING)
                for name, labels in asked:
                    self.assertIn(name, known)
                    self.assertLessEqual(labels, known[name] | OF_SCRAPING, name)
                    has_labels |= known[name]
                self.assertLessEqual(grouped(expression), has_labels)

    def test_the_dashboard_shows_every_metric(self):
        shown = {name for _, expression, _ in dashboard_expressions() for name, _ in named(expression)}
        families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in metrics()}
        seen = {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown} | shown
        self.assertEqual(families - seen, set())


class Alerts(unittest.TestCase):
    def test_each_is_tested(self):
        text = (PROJECT / "tests" / "chart" / "alerts_test.yaml").read_text()
        fired = set(re.findall(r'alertname="(\w+)"', text))
        self.assertEqual(fired, {rule["alert"] for rule in rules()})

    def test_each_says_what_it_is_and_has_a_runbook(self):
        headings = set(re.findall(r"^### (\w+)$", (CHART / "RUNBOOKS.md").read_text(), re.MULTILINE))
        self.assertEqual(headings, {rule["alert"] for rule in rules()})
        for rule in rules():
            with self.subTest(rule["alert"]):
                self.assertIn(rule["labels"]["severity"], ("warning", "critical"))
                self.assertLessEqual({"summary", "description"}, set(rule["annotations"]))

    def test_the_rule_of_the_operator_has_them_all(self):
        spec = only(render("sqlite-watched"), "PrometheusRule")["spec"]
        rendered = [rule for group in spec["groups"] for rule in group["rules"]]
        self.assertEqual([rule["alert"] for rule in rendered], [rule["alert"] for rule in rules()])
        for rule in rendered:
            self.assertEqual(rule["annotations"]["runbook_url"], f"RUNBOOKS.md#{rule['alert'].lower()}")

    def test_values_change_them(self):
        spec = only(render("everything"), "PrometheusRule")["spec"]
        rendered = {rule["alert"]: rule for group in spec["groups"] for rule in group["rules"]}
        self.assertNotIn("AlovoiceGatewaySubmitSlow", rendered)
        self.assertNotIn("AlovoiceGatewayVolumeFull", rendered)
        waiting = rendered["AlovoiceGatewayWorkWaiting"]
        self.assertEqual((waiting["for"], waiting["labels"]), ("30m", {"severity": "critical", "team": "telephony"}))
        self.assertEqual(rendered["AlovoiceGatewayErrors"]["labels"], {"severity": "critical", "team": "telephony"})
        self.assertEqual(waiting["annotations"]["runbook_url"], "https://wiki.example.uz/alovoice#alovoicegatewayworkwaiting")


class Dashboard(unittest.TestCase):
    def test_every_expression_can_be_read(self):
        """As recording rules, since promtool reads those."""
        made = []
        for number, (_, expression, _) in enumerate(dashboard_expressions()):
            expression = expression.replace("$__rate_interval", "5m").replace("$namespace", "x").replace("$job", "x")
            made.append({"record": f"panel:{number}", "expr": expression})
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump({"groups": [{"name": "dashboard", "rules": made}]}, file)
            file.flush()
            done = subprocess.run([TOOLS / "promtool", "check", "rules", file.name], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_panels_do_not_overlap_and_have_their_own_ids(self):
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

    def test_legends_name_labels_that_are_there(self):
        for title, expression, legend in dashboard_expressions():
            with self.subTest(title):
                kept = grouped(expression) | ({"instance"} if " by " not in expression and "max(" not in expression else set())
                for label in re.findall(r"{{(\w+)}}", legend):
                    self.assertIn(label, kept)

    def test_it_is_what_the_config_map_carries(self):
        objects = render("everything")
        carried = objects[("ConfigMap", "calls-dashboard")]
        self.assertEqual(json.loads(carried["data"]["alovoice-gateway.json"]), json.loads((CHART / "files" / "dashboard.json").read_text()))
        self.assertEqual(carried["metadata"]["labels"]["grafana_dashboard"], "1")
