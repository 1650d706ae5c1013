"""Releases over their life: Helm installs, upgrades, rolls back and uninstalls the chart on a stand-in for an API server (cluster.py)."""

import shutil
import tempfile
import pathlib
import unittest

import yaml

from cluster import Cluster
from rendering import CHART, Refused, by_name

HELMS = ("helm", "helm4")
AUTOSCALING = {"autoscaling": {"enabled": True}}
UNMANAGED = {"replicaCount": None}
CLAIM = "gw-alovoice-gateway-data"


def replicas(cluster):
    return cluster.get("Deployment")["spec"]["replicas"]


class Replicas(unittest.TestCase):
    """If a field of the previous manifest is missing in the next one, Helm deletes it, and the API server sets its default: `replicas` becomes 1. So the chart
    renders the live number until the Deployment is created without the field."""

    def test_an_autoscaler_that_takes_over_keeps_the_pods(self):
        for binary in HELMS:
            for values in (AUTOSCALING, UNMANAGED):
                with self.subTest(binary, values=values), Cluster() as cluster:
                    cluster.upgrade("postgres", binary=binary)
                    self.assertEqual(replicas(cluster), 3)
                    cluster.upgrade("postgres", values, binary)
                    self.assertEqual(replicas(cluster), 3)
                    cluster.scale(7)
                    cluster.upgrade("postgres", values, binary)
                    self.assertEqual(replicas(cluster), 7)

    def test_a_release_without_the_field_never_gets_it(self):
        for binary in HELMS:
            with self.subTest(binary), Cluster() as cluster:
                cluster.upgrade("postgres", UNMANAGED, binary)
                cluster.scale(5, "kubectl")
                # With server-side apply (Helm 4), another value of this field would be a conflict with its owner.
                cluster.upgrade("postgres", UNMANAGED, binary)
                self.assertEqual(replicas(cluster), 5)
                manifest = by_name(cluster.helm("get", "manifest", "gw", binary=binary))
                self.assertNotIn("replicas", manifest[("Deployment", "gw-alovoice-gateway")]["spec"])

    def test_a_number_of_pods_can_be_set_again(self):
        with Cluster() as cluster:
            cluster.upgrade("postgres", UNMANAGED)
            cluster.upgrade("postgres", {"replicaCount": 4})
            self.assertEqual(replicas(cluster), 4)
            cluster.upgrade("postgres", UNMANAGED)
            self.assertEqual(replicas(cluster), 4)

    def test_an_autoscaled_release_can_be_stopped_and_started(self):
        with Cluster() as cluster:
            cluster.upgrade("postgres", AUTOSCALING)
            cluster.scale(6)
            cluster.upgrade("postgres", AUTOSCALING | {"replicaCount": 0})
            self.assertEqual(replicas(cluster), 0)
            # An autoscaler leaves a Deployment with 0 pods alone, so the chart starts it. The mode postgres has replicaCount: 3.
            cluster.upgrade("postgres", AUTOSCALING)
            self.assertEqual(replicas(cluster), 2)


class Claims(unittest.TestCase):
    def test_a_move_to_postgres_can_be_rolled_back(self):
        """The claim stays after the move. `helm rollback` of Helm 3 fails if an object of the old revision exists and is not in the new one."""
        for binary in HELMS:
            with self.subTest(binary), Cluster() as cluster:
                cluster.upgrade("sqlite", {"database": {"sqlite": {"size": "50Gi"}}}, binary)
                claim = cluster.get("PersistentVolumeClaim", CLAIM)
                # The API server refuses a smaller claim, and the mode postgres has the default size.
                cluster.upgrade("postgres", binary=binary)
                self.assertEqual(cluster.get("PersistentVolumeClaim", CLAIM)["spec"], claim["spec"])
                cluster.helm("rollback", "gw", "1", binary=binary)
                self.assertIn(CLAIM, str(cluster.get("Deployment")["spec"]["template"]["spec"]["volumes"]))
                self.assertEqual(cluster.get("PersistentVolumeClaim", CLAIM)["spec"], claim["spec"])

    def test_the_claim_stays_after_an_uninstall_and_is_found_again(self):
        with Cluster() as cluster:
            cluster.upgrade("sqlite")
            cluster.helm("uninstall", "gw")
            self.assertEqual(set(cluster.objects), {("PersistentVolumeClaim", CLAIM)})
            cluster.upgrade("sqlite")
            self.assertEqual(cluster.names("PersistentVolumeClaim"), {CLAIM})

    def test_a_claim_that_was_deleted_after_a_move_is_not_created_again(self):
        with Cluster() as cluster:
            cluster.upgrade("sqlite")
            cluster.upgrade("postgres")
            del cluster.objects[("PersistentVolumeClaim", CLAIM)]
            cluster.upgrade("postgres")
            self.assertEqual(cluster.names("PersistentVolumeClaim"), set())

    def test_the_notes_warn_after_a_move_to_postgres(self):
        with Cluster() as cluster:
            self.assertNotIn("WARNING", cluster.upgrade("sqlite"))
            notes = cluster.upgrade("postgres")
            self.assertRegex(notes, f"(?s)WARNING: The release now uses PostgreSQL.*{CLAIM}.*store copy")
            self.assertNotIn("WARNING", cluster.upgrade("postgres"))


class UpgradesThatLoseData(unittest.TestCase):
    def refuses(self, saying, mode, values, before="sqlite"):
        for binary in HELMS:
            with self.subTest(saying, binary=binary, values=values), Cluster() as cluster:
                cluster.upgrade(before, binary=binary)
                objects = {key: one for key, one in cluster.objects.items() if key[0] != "Secret"}
                with self.assertRaisesRegex(Refused, saying):
                    cluster.upgrade(mode, values, binary)
                self.assertEqual({key: one for key, one in cluster.objects.items() if key[0] != "Secret"}, objects)
                # Nothing runs after an uninstall.
                cluster.helm("uninstall", "gw", binary=binary)
                self.assertLessEqual(set(cluster.objects), {("PersistentVolumeClaim", CLAIM)})

    def test_a_new_name_is_refused(self):
        beside = "would create .* beside it, with a new, empty volume"
        self.refuses(beside, "sqlite", {"nameOverride": "calls"})
        self.refuses(beside, "sqlite", {"fullnameOverride": "calls"})
        self.refuses(beside, "postgres", {"nameOverride": "calls"}, before="postgres")

    def test_a_new_selector_is_refused(self):
        self.refuses("Kubernetes does not change a selector", "sqlite", {"nameOverride": "calls", "fullnameOverride": "gw-alovoice-gateway"})

    def test_an_empty_volume_instead_of_the_data_is_refused(self):
        empty = "would start with a new, empty volume"
        self.refuses(f"has its data in {CLAIM}, and {empty}, another", "sqlite", {"database": {"sqlite": {"existingClaim": "another"}}})
        self.refuses(f"has its data in PostgreSQL, and {empty}", "sqlite", {}, before="postgres")

    def test_a_claim_that_an_uninstall_left_under_another_name_is_not_forgotten(self):
        for first, second in (({"nameOverride": "calls"}, {}), ({}, {"fullnameOverride": "calls"})):
            with self.subTest(first), Cluster() as cluster:
                cluster.upgrade("sqlite", first)
                cluster.helm("uninstall", "gw")
                (claim,) = cluster.names("PersistentVolumeClaim")
                with self.assertRaisesRegex(Refused, f"has its data in {claim}, and would start with a new, empty volume"):
                    cluster.upgrade("sqlite", second)
                self.assertEqual(cluster.names("Deployment"), set())
                cluster.upgrade("sqlite", second | {"database": {"sqlite": {"existingClaim": claim}}})

    def test_a_claim_that_exists_can_be_chosen(self):
        with Cluster() as cluster:
            cluster.upgrade("sqlite")
            restored = {"metadata": {"name": "restored", "annotations": {}}, "spec": {}, "kind": "PersistentVolumeClaim", "apiVersion": "v1"}
            cluster.store("PersistentVolumeClaim", restored, "kubectl")
            cluster.upgrade("sqlite", {"database": {"sqlite": {"existingClaim": "restored"}}})
            self.assertIn("restored", str(cluster.get("Deployment")["spec"]["template"]["spec"]["volumes"]))


class NewerCharts(unittest.TestCase):
    def chart(self, folder, edit):
        """A copy of the chart, changed by `edit`."""
        copied = pathlib.Path(folder) / "chart"
        shutil.copytree(CHART, copied)
        edit(copied)
        return copied

    def test_values_of_an_older_chart_can_be_reused(self):
        older = pathlib.Path(__file__).parent / "older_values.yaml"
        for binary in HELMS:
            for mode in ("sqlite", "sqlite-watched", "postgres"):
                with self.subTest(mode, binary=binary), tempfile.TemporaryDirectory() as folder, Cluster() as reused, Cluster() as given:
                    # CustomResourceDefinitions are not part of the stand-in.
                    plain = {"monitoring": {"serviceMonitor": {"enabled": False}, "prometheusRule": {"enabled": False}}}
                    reused.upgrade(mode, plain, binary, self.chart(folder, lambda path: shutil.copy(older, path / "values.yaml")))
                    reused.upgrade(None, {}, binary, options=["--reuse-values"])
                    given.upgrade(mode, plain, binary)
                    given.upgrade(mode, plain, binary)
                    self.assertEqual(manifest(reused, binary), manifest(given, binary))

    def test_the_version_of_the_chart_alone_replaces_no_pods(self):
        def bump(path):
            chart = yaml.safe_load((path / "Chart.yaml").read_text())
            (path / "Chart.yaml").write_text(yaml.safe_dump(chart | {"version": "0.9.9", "appVersion": "0.9.9"}))

        for pinned in ({"tag": "0.1.0"}, {"digest": "sha256:" + "0f" * 32}):
            with self.subTest(pinned), tempfile.TemporaryDirectory() as folder, Cluster() as cluster:
                cluster.upgrade("postgres", {"image": pinned})
                template = cluster.get("Deployment")["spec"]["template"]
                cluster.upgrade("postgres", {"image": pinned}, chart=self.chart(folder, bump))
                self.assertEqual(cluster.get("Deployment")["metadata"]["labels"]["helm.sh/chart"], "alovoice-gateway-0.9.9")
                self.assertEqual(cluster.get("Deployment")["spec"]["template"], template)


def manifest(cluster, binary):
    return by_name(cluster.helm("get", "manifest", "gw", binary=binary))
