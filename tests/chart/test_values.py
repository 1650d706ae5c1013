"""Values that operators expect: routes, Services, placement, labels, jobs, monitoring, parent charts."""

import pathlib
import re
import shutil
import tempfile
import unittest

import yaml

from rendering import CHART, MODES, Refused, by_name, config_map, container, has, helm, only, pod, render

SERVING = {"app.kubernetes.io/name": "alovoice-gateway", "app.kubernetes.io/instance": "gw", "app.kubernetes.io/component": "gateway"}


class ParentCharts(unittest.TestCase):
    def parent(self, values, binary="helm"):
        """The objects of a chart whose dependency is this chart."""
        with tempfile.TemporaryDirectory() as folder:
            chart = pathlib.Path(folder) / "platform"
            shutil.copytree(CHART, chart / "charts" / "calls")
            dependency = {"name": "alovoice-gateway", "version": "*", "alias": "calls", "condition": "calls.enabled"}
            (chart / "Chart.yaml").write_text(yaml.safe_dump({"apiVersion": "v2", "name": "platform", "version": "1.0.0", "dependencies": [dependency]}))
            mode = yaml.safe_load((CHART / "ci" / "sqlite-values.yaml").read_text())
            (chart / "values.yaml").write_text(yaml.safe_dump({"calls": mode | values.pop("calls", {})} | values))
            return by_name(helm("template", "gw", chart, "--namespace", "alovoice", binary=binary))

    def test_a_parent_chart_can_switch_the_chart_off(self):
        for binary in ("helm", "helm4"):
            self.assertIn(("Deployment", "gw-calls"), self.parent({"calls": {"enabled": True}}, binary))
            self.assertEqual(self.parent({"calls": {"enabled": False}}, binary), {})

    def test_a_chart_that_is_switched_off_renders_nothing(self):
        """A parent chart without `condition`."""
        for mode in MODES:
            with self.subTest(mode):
                self.assertEqual(render(mode, {"enabled": False}), {})

    def test_a_parent_chart_can_leave_the_number_of_pods_to_an_autoscaler(self):
        for binary in ("helm", "helm4"):
            self.assertNotIn("replicas", only(self.parent({"calls": {"replicaCount": ""}}, binary), "Deployment")["spec"])

    def test_global_values_apply_to_every_pod(self):
        shared = {"global": {"imageRegistry": "mirror.example.uz:5000/", "imagePullSecrets": ["platform", {"name": "team"}], "other": {"key": 1}}}
        for objects in (self.parent(dict(shared)), render("postgres", shared | {"imagePullSecrets": [{"name": "team"}]})):
            specs = [pod(objects)] + [one["spec"] for (kind, _), one in objects.items() if kind == "Pod"]
            images = {one["image"] for spec in specs for one in spec["containers"]}
            self.assertEqual(images, {"mirror.example.uz:5000/alovoice-gateway:0.1.0", "mirror.example.uz:5000/curlimages/curl:8.11.1"})
            for spec in specs:
                self.assertEqual(sorted(one["name"] for one in spec["imagePullSecrets"]), ["platform", "team"])


class Labels(unittest.TestCase):
    """render() refuses a text in which a key occurs twice."""

    def test_labels_with_the_same_name_are_merged(self):
        same = {"team": "own", "app.kubernetes.io/name": "own", "app.kubernetes.io/component": "own", "helm.sh/chart": "own"}
        monitoring = {kind: {"enabled": True, "labels": same} for kind in ("serviceMonitor", "prometheusRule", "dashboard")}
        common = {key: "common" for key in same}
        objects = render("external-secrets", {
            "commonLabels": common, "podLabels": same, "monitoring": monitoring, "service": {"labels": same}, "httpRoute": {"labels": same},
            "commonAnnotations": {"note": "common"}, "podAnnotations": {"checksum/settings": "own"}, "deploymentAnnotations": {"note": "own"}})
        for (kind, name), one in objects.items():
            with self.subTest(kind, name=name):
                labels = one["metadata"]["labels"]
                self.assertIn(labels["team"], ("own", "common"))
                # These labels belong to selectors.
                self.assertEqual((labels["app.kubernetes.io/name"], labels["app.kubernetes.io/instance"]), ("alovoice-gateway", "gw"))
        template = only(objects, "Deployment")["spec"]["template"]["metadata"]
        self.assertLessEqual(SERVING.items(), template["labels"].items())
        self.assertEqual(template["labels"]["team"], "own")
        self.assertNotEqual(template["annotations"]["checksum/settings"], "own")
        self.assertEqual(only(objects, "Deployment")["metadata"]["annotations"]["note"], "own")
        self.assertEqual(only(objects, "NetworkPolicy")["metadata"]["annotations"], {"note": "common"})

    def test_annotations_of_the_claim_are_merged(self):
        claim = only(render("sqlite", {"database": {"sqlite": {"annotations": {"helm.sh/resource-policy": "own", "note": "x"}}}}), "PersistentVolumeClaim")
        self.assertEqual(claim["metadata"]["annotations"], {"helm.sh/resource-policy": "keep", "note": "x"})

    def test_labels_are_valid_for_every_image_tag(self):
        for tag in ("a" * 62 + "-b", "1.2.3_", "_dev", "v1." + "0" * 70, "feature-" + "x" * 54 + "." + "y" * 10):
            with self.subTest(tag):
                for one in render("postgres", {"image": {"tag": tag}}).values():
                    # The rule of the API server for the values of labels.
                    self.assertRegex(one["metadata"]["labels"]["app.kubernetes.io/version"], r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")

    def test_every_name_of_a_release_gives_a_valid_service(self):
        for release in ("calls.of.acme", "r" * 49 + "--x"):
            objects = by_name(helm("template", release, CHART, "--values", "helm/ci/postgres-values.yaml"))
            for kind, name in objects:
                if kind == "Service":
                    self.assertRegex(name, r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
            self.assertEqual(only(objects, "Deployment")["metadata"]["labels"]["app.kubernetes.io/instance"], release)

    def test_names_that_the_api_server_refuses_are_refused(self):
        for values in ({"nameOverride": "My_Calls"}, {"fullnameOverride": "calls."}):
            with self.assertRaisesRegex(Refused, "don't meet the specifications of the schema"):
                render("postgres", values)


class Routes(unittest.TestCase):
    def public_url(self, mode, values):
        return re.search(r'public_url = "(.*)"', config_map(render(mode, values))["data"]["gateway.toml"]).group(1)

    def test_the_first_host_name_is_the_public_url(self):
        cases = [
            ("external-secrets", {}, "https://calls.example.uz"),
            ("external-secrets", {"httpRoute": {"hostnames": ["*.example.uz", "one.example.uz"], "path": "/alovoice/"}}, "https://one.example.uz/alovoice"),
            ("external-secrets", {"config": {"server": {"public_url": "https://own.example.uz"}}}, "https://own.example.uz"),
            ("postgres", {"ingress": {"path": "/alovoice(/|$)(.*)"}}, "https://calls.example.uz/alovoice"),
            ("postgres", {"ingress": {"tls": []}}, "http://calls.example.uz"),
            ("postgres", {"httpRoute": {"enabled": True, "parentRefs": [{"name": "g"}], "hostnames": ["route.example.uz"]}}, "https://route.example.uz"),
        ]
        for mode, values, url in cases:
            with self.subTest(url):
                self.assertEqual(self.public_url(mode, values), url)

    def test_routes_have_the_path_of_the_public_url(self):
        values = {"config": {"server": {"public_url": "https://calls.example.uz/alovoice/"}}}
        (path,) = only(render("postgres", values), "Ingress")["spec"]["rules"][0]["http"]["paths"]
        self.assertEqual((path["path"], path["pathType"]), ("/alovoice", "Prefix"))
        rule = only(render("external-secrets", values), "HTTPRoute")["spec"]["rules"][0]
        self.assertEqual(rule["matches"], [{"path": {"type": "PathPrefix", "value": "/alovoice"}}])
        # The gateway serves the API at "/".
        rewrite = {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}}
        self.assertEqual(rule["filters"], [rewrite])
        (path,) = only(render("postgres", values | {"ingress": {"path": "/"}}), "Ingress")["spec"]["rules"][0]["http"]["paths"]
        self.assertEqual(path["path"], "/", "a proxy before the ingress may remove the path")

    def test_a_route_takes_matches_filters_rules_and_labels(self):
        objects = render("everything")
        route = only(objects, "HTTPRoute")
        self.assertEqual(route["metadata"]["labels"]["example.uz/exposed"], "yes")
        first, second = route["spec"]["rules"]
        self.assertEqual([one["type"] for one in first["filters"]], ["URLRewrite", "ResponseHeaderModifier"])
        self.assertEqual(second["filters"][0]["type"], "RequestRedirect")
        matches = [{"method": "GET"}, {"method": "POST"}]
        rule = only(render("everything", {"httpRoute": {"matches": matches, "filters": []}}), "HTTPRoute")["spec"]["rules"][0]
        # A prefix can be removed only if every match has it.
        self.assertEqual((rule["matches"], rule.get("filters")), (matches, None))
        ingress = only(objects, "Ingress")["spec"]["rules"][1]["http"]["paths"][0]
        self.assertEqual((ingress["path"], ingress["pathType"]), ("/alovoice(/|$)(.*)", "ImplementationSpecific"))

    def test_the_notes_have_an_address_for_every_kind_of_route(self):
        cases = [
            ("postgres", {}, "Swagger UI:\n\n  https://calls.example.uz/swagger-ui/\n"),
            ("external-secrets", {"httpRoute": {"hostnames": []}}, "Swagger UI:\n\n  https://HOST/swagger-ui/\n\nHOST is a host name of the Gateway"),
            ("external-secrets", {"config": {"server": {"public_url": "https://own.example.uz/calls/"}}}, "  https://own.example.uz/calls/swagger-ui/\n"),
            ("sqlite", {}, "port-forward service/gw-alovoice-gateway 8080:80\n  http://127.0.0.1:8080/swagger-ui/\n"),
        ]
        for mode, values, text in cases:
            with self.subTest(mode, values=values):
                said = helm("install", "gw", "helm", "--dry-run=client", "--values", f"helm/ci/{mode}-values.yaml", binary="helm4", values=values)
                notes = said.split("NOTES:\n")[1]
                self.assertIn(text, notes)
                self.assertNotRegex(notes, r":\n+\Z|:\n\n\n|<no value>|<nil>")


class Pods(unittest.TestCase):
    def test_pods_take_the_fields_that_operators_expect(self):
        deployment = only(render("everything"), "Deployment")["spec"]
        self.assertEqual(deployment["strategy"], {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "50%"}})
        self.assertEqual((deployment["minReadySeconds"], deployment["progressDeadlineSeconds"]), (5, 665))
        spec = deployment["template"]["spec"]
        self.assertEqual(spec["hostAliases"], [{"ip": "10.30.0.10", "hostnames": ["db.internal"]}])
        self.assertEqual((spec["dnsPolicy"], spec["dnsConfig"], spec["hostUsers"]), ("ClusterFirst", {"options": [{"name": "ndots", "value": "2"}]}, False))
        for key in ("hostAliases", "dnsPolicy", "dnsConfig", "hostUsers"):
            self.assertNotIn(key, pod(render("postgres")))
        for mode, strategy in (("postgres", {"type": "Recreate"}), ("sqlite", {"rollingUpdate": {"maxSurge": 1}})):
            recreate = only(render(mode, {"strategy": strategy}), "Deployment")["spec"]
            self.assertEqual(recreate["strategy"], {"type": "Recreate"}, "the API server refuses rollingUpdate here")

    def test_the_number_of_pods_can_be_zero_or_left_to_others(self):
        for mode in ("sqlite", "postgres"):
            with self.subTest(mode):
                objects = render(mode, {"replicaCount": 0})
                self.assertEqual(only(objects, "Deployment")["spec"]["replicas"], 0)
                self.assertFalse(has(objects, "PodDisruptionBudget"))
                self.assertNotIn("replicas", only(render(mode, {"replicaCount": None}), "Deployment")["spec"])
        self.assertTrue(has(render("postgres", {"replicaCount": None}), "PodDisruptionBudget"))
        self.assertEqual(only(render("everything", {"replicaCount": 0}), "Deployment")["spec"]["replicas"], 0)

    def test_a_disruption_budget_takes_either_bound(self):
        spec = only(render("everything"), "PodDisruptionBudget")["spec"]
        # The API server refuses both bounds together.
        self.assertEqual((spec["minAvailable"], spec.get("maxUnavailable")), ("50%", None))

    def test_placement_without_a_selector_applies_to_the_gateway(self):
        """A nil labelSelector matches no pod, so the API server accepts such a constraint but it has no effect."""
        term = {"topologyKey": "kubernetes.io/hostname"}
        own = term | {"labelSelector": {"matchLabels": {"app": "other"}}}
        spec = pod(render("postgres", {
            "topologySpreadConstraints": [term | {"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}, own | {"maxSkew": 2, "whenUnsatisfiable": "ScheduleAnyway"}],
            "affinity": {
                "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term, own]},
                "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term}]}}}))
        selects = [one["labelSelector"]["matchLabels"] for one in spec["topologySpreadConstraints"]]
        self.assertEqual(selects, [SERVING, {"app": "other"}])
        terms = spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        self.assertEqual([one["labelSelector"]["matchLabels"] for one in terms], [SERVING, {"app": "other"}])
        (preferred,) = spec["affinity"]["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        self.assertEqual(preferred["podAffinityTerm"]["labelSelector"]["matchLabels"], SERVING)

    def test_pods_of_helm_test_are_safe_to_apply(self):
        """The spec of a pod is immutable, so `kubectl apply` of a changed test must create a new pod."""
        def tests(values):
            return {key: one["spec"] for key, one in render("postgres", values).items() if key[0] == "Pod"}

        before, after = tests({}), tests({"image": {"tag": "2"}, "tests": {"image": "curl:2"}})
        self.assertEqual((len(before), len(after)), (2, 2))
        self.assertFalse(set(before) & set(after))
        self.assertEqual(tests({"tests": {"enabled": False}}), {})
        self.assertEqual(set(tests({"config": {"log": {"filter": "debug"}}})), set(before))

    def test_a_new_pod_waits_for_the_file_until_the_old_one_is_killed(self):
        """The strategy Recreate covers updates only: after `kubectl delete pod`, the ReplicaSet creates the next pod while the old one drains. The kubelet kills
        the old process at the end of its grace period, so the new one waits for that long."""
        for mode, values in (("sqlite", {}), ("sqlite-watched", {}), ("sqlite", {"config": {"server": {"shutdown_grace": "2m"}}})):
            with self.subTest(mode, values=values):
                objects = render(mode, values)
                waits = int(re.search(r'lock_timeout = "(\d+)s"', config_map(objects)["data"]["gateway.toml"]).group(1))
                self.assertEqual(waits, pod(objects)["terminationGracePeriodSeconds"])
                startup = container(objects)["startupProbe"]
                self.assertLess(waits, startup["periodSeconds"] * startup["failureThreshold"])

    def test_services_take_the_fields_that_operators_expect(self):
        objects = render("everything")
        spec = objects[("Service", "calls")]["spec"]
        self.assertEqual((spec["ipFamilies"], spec["externalTrafficPolicy"]), (["IPv6", "IPv4"], "Local"))
        self.assertEqual((spec["loadBalancerClass"], spec["loadBalancerSourceRanges"]), ("example.uz/internal", ["203.0.113.0/24"]))
        self.assertEqual(objects[("Service", "calls")]["metadata"]["labels"]["example.uz/exposed"], "yes")
        admin = objects[("Service", "calls-admin")]["spec"]
        self.assertEqual(set(admin) & {"externalTrafficPolicy", "loadBalancerClass", "loadBalancerSourceRanges"}, set())
        self.assertEqual(admin["ipFamilies"], ["IPv6", "IPv4"])


class Jobs(unittest.TestCase):
    def job(self, mode, values, kind="Job"):
        return only(render(mode, values), kind)

    def test_jobs_have_the_settings_secrets_and_volume(self):
        for mode, volume in (("sqlite", {"persistentVolumeClaim": {"claimName": "gw-alovoice-gateway-data"}}), ("postgres", {"emptyDir": {"sizeLimit": "64Mi"}})):
            with self.subTest(mode):
                objects = render(mode, {"jobs": {"reseal": {"args": ["store", "reseal"]}}})
                spec = only(objects, "Job")["spec"]["template"]["spec"]
                (one,) = spec["containers"]
                gateway = container(objects)
                self.assertEqual((one["image"], one["env"], one["volumeMounts"]), (gateway["image"], gateway["env"], gateway["volumeMounts"]))
                self.assertEqual(one["args"], ["store", "reseal"])
                self.assertIn({"name": "data"} | volume, spec["volumes"])
                self.assertNotEqual(only(objects, "Job")["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"], "gateway")

    def test_a_job_on_the_file_runs_beside_the_gateway(self):
        """A ReadWriteOnce volume is attached to one node."""
        reseal = {"jobs": {"reseal": {"args": ["store", "reseal"]}}}
        affinity = self.job("sqlite", reseal)["spec"]["template"]["spec"]["affinity"]["podAffinity"]
        (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
        self.assertEqual((term["topologyKey"], term["labelSelector"]["matchLabels"]), ("kubernetes.io/hostname", SERVING))
        for mode, values in (("sqlite", reseal | {"replicaCount": 0}), ("postgres", reseal)):
            self.assertNotIn("affinity", self.job(mode, values)["spec"]["template"]["spec"])

    def test_a_copy_to_postgres_has_both_stores(self):
        objects = render("everything")
        (name,) = [name for kind, name in objects if kind == "Job" and "copy" in name]
        spec = objects[("Job", name)]["spec"]["template"]["spec"]
        self.assertIn({"name": "data", "persistentVolumeClaim": {"claimName": "gw-alovoice-gateway-data"}}, spec["volumes"])
        arguments = spec["containers"][0]["args"]
        toml = config_map(objects)["data"]["gateway.toml"]
        self.assertIn(f'url = "{arguments[arguments.index("--to") + 1]}"', toml)
        self.assertIn(f'password_file = "{arguments[arguments.index("--password-file") + 1]}"', toml)

    def test_a_schedule_makes_a_cron_job(self):
        job = self.job("everything", {}, "CronJob")
        self.assertEqual((job["spec"]["schedule"], job["spec"]["timeZone"], job["spec"]["concurrencyPolicy"]), ("30 1 * * *", "Asia/Tashkent", "Forbid"))
        (one,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        self.assertEqual(one["image"], "docker.io/library/postgres:17.6")
        self.assertIn({"name": "backup", "mountPath": "/backup"}, one["volumeMounts"])

    def test_a_changed_job_is_a_new_one(self):
        """The spec of a Job is immutable."""
        names = {self.job("postgres", {"jobs": {"reseal": {"args": args}}})["metadata"]["name"] for args in (["store", "reseal"], ["store", "reseal", "--check"])}
        self.assertEqual(len(names), 2)
        long = render("postgres", {"fullnameOverride": "x" * 50, "jobs": {"a" * 20: {"args": ["check"], "schedule": "@daily"}, "b" * 20: {"args": ["check"]}}})
        self.assertLessEqual(len(only(long, "CronJob")["metadata"]["name"]), 52)
        self.assertLessEqual(len(only(long, "Job")["metadata"]["name"]), 63)
