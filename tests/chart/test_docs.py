"""Values and commands in the documentation, and the metadata of the chart."""

import re
import unittest

import yaml

from rendering import CHART, PROJECT, container, only, pod, render

PAGE = (PROJECT / "docs" / "kubernetes.md").read_text()


class Values(unittest.TestCase):
    def test_every_block_of_values_renders(self):
        blocks = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
        values = [one for one in blocks if "apiVersion" not in one]
        self.assertGreater(len(values), 5)
        for one in values:
            with self.subTest(str(one)[:60]):
                self.assertTrue(render("postgres", one))
        application = next(one for one in blocks if one.get("kind") == "Application")
        self.assertNotIn("replicas", only(render("postgres", application["spec"]["source"]["helm"]["valuesObject"]), "Deployment")["spec"])

    def test_the_example_of_openshift_leaves_users_to_the_cluster(self):
        """The security context constraints `restricted-v2` refuse a pod with a user or a group outside the range of the namespace."""
        text = next(text for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "openshift-dns" in text)
        spec = pod(render("postgres", yaml.safe_load(text)))
        self.assertEqual(set(spec["securityContext"]), {"runAsNonRoot", "fsGroupChangePolicy", "seccompProfile"})

    def test_authorities_and_proxies_are_settings(self):
        text = next(text for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "https_proxy" in text)
        objects = render("postgres", yaml.safe_load(text))
        sources = next(one for one in pod(objects)["volumes"] if one["name"] == "files")["projected"]["sources"]
        self.assertIn({"configMap": {"name": "corporate-ca", "items": [{"key": "ca.crt", "path": "network.ca_file"}]}}, sources)
        self.assertIn("/run/secrets/alovoice-gateway", {one["mountPath"] for one in container(objects)["volumeMounts"]})


class Metadata(unittest.TestCase):
    def test_the_chart_describes_itself(self):
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
        self.assertRegex(chart["home"], "^https://")
        self.assertRegex(chart["icon"], "^(https://|data:image/svg)")
        self.assertTrue(chart["maintainers"][0]["name"])
        self.assertEqual(chart["annotations"]["artifacthub.io/license"], "Apache-2.0")
        for change in yaml.safe_load(chart["annotations"]["artifacthub.io/changes"]):
            self.assertIn(change["kind"], ("added", "changed", "deprecated", "removed", "fixed", "security"))


class Commands(unittest.TestCase):
    def test_every_wait_is_longer_than_the_slowest_start(self):
        startup = yaml.safe_load((CHART / "values.yaml").read_text())["probes"]["startup"]
        slowest = startup["periodSeconds"] * startup["failureThreshold"]
        found = 0
        for path in [PROJECT / "README.md", *PROJECT.glob("docs/*.md"), *CHART.glob("*.md"), CHART / "values.yaml", CHART / "templates" / "NOTES.txt"]:
            for command in re.findall(r"^ *helm (?:upgrade|install|rollback).*", path.read_text(), re.MULTILINE):
                if "--wait" in command:
                    found += 1
                    minutes = re.search(r"--timeout (\d+)m", command)
                    self.assertTrue(minutes and int(minutes[1]) * 60 > slowest, f"{path}: {command}")
        self.assertGreater(found, 1)

    def test_no_text_recommends_a_change_that_conflicts_with_helm(self):
        """With Helm 4, a field that another tool changed is a conflict at the next upgrade."""
        for path in [PROJECT / "README.md", *PROJECT.glob("docs/*.md"), *CHART.glob("*.md"), *CHART.glob("*.yaml"), *CHART.glob("templates/**/*.*")]:
            with self.subTest(path.name):
                self.assertEqual(re.findall(r"kubectl[^\n`]* (?:rollout undo|set image|edit|scale deploy)", path.read_text()), [])
