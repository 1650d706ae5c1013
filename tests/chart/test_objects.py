"""The objects that the chart renders."""

import base64
import unittest

from rendering import CHART, MODES, Refused, config_map, container, has, only, pod, render


class EveryMode(unittest.TestCase):
    def each(self):
        for mode in MODES:
            with self.subTest(mode):
                yield render(mode)

    def test_both_versions_of_helm_render_the_same(self):
        for mode in MODES:
            with self.subTest(mode):
                self.assertEqual(render(mode), render(mode, binary="helm4"))

    def test_pods_are_restricted_and_have_no_token(self):
        for objects in self.each():
            specs = [pod(objects)] + [one["spec"] for (kind, _), one in objects.items() if kind == "Pod"]
            self.assertEqual(len(specs), 3)
            for spec in specs:
                self.assertIs(spec["automountServiceAccountToken"], False)
                # Otherwise, a Service named "gateway" would set GATEWAY_PORT, which the gateway would read as a setting.
                self.assertIs(spec["enableServiceLinks"], False)
                self.assertTrue(spec["securityContext"]["runAsNonRoot"])
                self.assertEqual(spec["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
                for one in spec["containers"]:
                    context = one["securityContext"]
                    self.assertIs(context["allowPrivilegeEscalation"], False)
                    self.assertIs(context["readOnlyRootFilesystem"], True)
                    self.assertEqual(context["capabilities"], {"drop": ["ALL"]})
                    self.assertLessEqual({"cpu", "memory"}, set(one["resources"]["limits"]))

    def test_secrets_are_environment_variables_only_on_request(self):
        for mode in MODES:
            with self.subTest(mode):
                objects = render(mode)
                names = {one["name"] for one in container(objects)["env"]}
                asked = {"ENV_TENANT_TOKEN", "ENV_TENANT_CALLBACKS"} if mode == "everything" else set()
                self.assertEqual(names, {"GATEWAY_CONFIG"} | asked)

    def test_the_grace_period_is_longer_than_the_drain(self):
        expected = {"everything": 10 + 60 + 10, "sqlite-watched": 25 + 5}
        for mode in MODES:
            with self.subTest(mode):
                self.assertEqual(pod(render(mode))["terminationGracePeriodSeconds"], expected.get(mode, 5 + 25 + 5))

    def test_the_admin_port_is_not_routed(self):
        for objects in self.each():
            for (kind, name), one in objects.items():
                if kind == "Service" and name.endswith("-admin"):
                    self.assertEqual(one["spec"]["type"], "ClusterIP")
                elif kind == "Service":
                    self.assertEqual([port["targetPort"] for port in one["spec"]["ports"]], ["http"])
                elif kind == "Ingress":
                    for rule in one["spec"]["rules"]:
                        for path in rule["http"]["paths"]:
                            self.assertEqual(path["backend"]["service"]["port"], {"name": "http"})
                            self.assertNotIn("-admin", path["backend"]["service"]["name"])
                elif kind == "HTTPRoute":
                    for backend in one["spec"]["rules"][0]["backendRefs"]:
                        self.assertFalse(backend["name"].endswith("-admin"))

    def test_services_select_only_gateway_pods(self):
        for objects in self.each():
            labels = only(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
            for (kind, _), one in objects.items():
                if kind == "Service":
                    self.assertLessEqual(one["spec"]["selector"].items(), labels.items())
                if kind == "Pod":
                    self.assertNotEqual(one["metadata"]["labels"]["app.kubernetes.io/component"], "gateway")

    def test_secrets_are_mounted_as_files_that_can_change(self):
        for objects in self.each():
            for mount in container(objects)["volumeMounts"]:
                self.assertNotIn("subPath", mount)
            toml = config_map(objects)["data"]["gateway.toml"]
            files = next((one for one in pod(objects)["volumes"] if one["name"] == "files"), None)
            for source in files["projected"]["sources"]:
                (item,) = (source.get("secret") or source["configMap"])["items"]
                self.assertIn(f"/run/secrets/alovoice-gateway/{item['path']}", toml.replace("%2F", "/"))


class Modes(unittest.TestCase):
    def test_sqlite_is_one_pod_with_a_volume(self):
        objects = render("sqlite")
        deployment = only(objects, "Deployment")["spec"]
        self.assertEqual((deployment["replicas"], deployment["strategy"]), (1, {"type": "Recreate"}))
        claim = only(objects, "PersistentVolumeClaim")
        self.assertEqual(claim["metadata"]["annotations"], {"helm.sh/resource-policy": "keep"})
        self.assertIn({"name": "data", "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}, pod(objects)["volumes"])
        for kind in ("PodDisruptionBudget", "HorizontalPodAutoscaler"):
            self.assertFalse(has(objects, kind), kind)
        self.assertIn('url = "sqlite:///data/alovoice-gateway.db"', config_map(objects)["data"]["gateway.toml"])

    def test_an_existing_claim_is_used(self):
        objects = render("sqlite-watched")
        self.assertFalse(has(objects, "PersistentVolumeClaim"))
        self.assertIn({"name": "data", "persistentVolumeClaim": {"claimName": "calls-of-last-year"}}, pod(objects)["volumes"])
        volume = only(objects, "PrometheusRule")["spec"]["groups"][-1]
        self.assertEqual(volume["name"], "alovoice-gateway-volume")
        self.assertIn('persistentvolumeclaim="calls-of-last-year"', volume["rules"][0]["expr"])

    def test_postgres_is_replaced_pod_by_pod(self):
        objects = render("postgres")
        deployment = only(objects, "Deployment")["spec"]
        self.assertEqual(deployment["replicas"], 3)
        self.assertEqual(deployment["strategy"]["rollingUpdate"], {"maxUnavailable": 0, "maxSurge": 1})
        self.assertEqual(only(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"], 1)
        keys = [one["topologyKey"] for one in pod(objects)["topologySpreadConstraints"]]
        self.assertEqual(keys, ["topology.kubernetes.io/zone", "kubernetes.io/hostname"])
        self.assertEqual(container(objects)["lifecycle"], {"preStop": {"sleep": {"seconds": 5}}})
        self.assertFalse(has(objects, "PersistentVolumeClaim") or has(objects, "Secret"))

    def test_postgres_has_two_pods_by_default(self):
        self.assertEqual(only(render("external-secrets"), "Deployment")["spec"]["replicas"], 2)

    def test_a_single_pod_has_no_disruption_budget(self):
        self.assertFalse(has(render("postgres", {"replicaCount": 1}), "PodDisruptionBudget"))

    def test_only_the_autoscaler_sets_the_number_of_pods(self):
        objects = render("everything")
        self.assertNotIn("replicas", only(objects, "Deployment")["spec"])
        scaler = only(objects, "HorizontalPodAutoscaler")["spec"]
        self.assertEqual((scaler["minReplicas"], scaler["maxReplicas"]), (3, 10))
        names = [one["type"] for one in scaler["metrics"]]
        self.assertEqual(names, ["ContainerResource", "ContainerResource", "Pods"])

    def test_an_image_is_pinned_by_its_digest(self):
        image = container(render("everything"))["image"]
        self.assertRegex(image, r"^registry\.example\.uz/alovoice-gateway@sha256:[0-9a-f]{64}$")

    def test_ports_follow_the_settings(self):
        objects = render("everything")
        ports = {one["name"]: one["containerPort"] for one in container(objects)["ports"]}
        self.assertEqual(ports, {"http": 8443, "admin": 9191})
        ingress = only(objects, "NetworkPolicy")["spec"]["ingress"]
        self.assertEqual([rule["ports"][0]["port"] for rule in ingress], [8443, 9191])

    def test_probes(self):
        one = container(render("sqlite"))
        paths = {name: one[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
        self.assertEqual(paths["readiness"], {"path": "/readyz", "port": "admin"})
        self.assertEqual(paths["startup"], paths["liveness"])
        self.assertEqual(paths["liveness"], {"path": "/livez", "port": "admin"})

    def test_a_rollout_waits_longer_than_the_slowest_start(self):
        for mode in MODES:
            with self.subTest(mode):
                objects = render(mode)
                startup = container(objects)["startupProbe"]
                deadline = only(objects, "Deployment")["spec"]["progressDeadlineSeconds"]
                self.assertGreater(deadline, startup["periodSeconds"] * startup["failureThreshold"])

    def test_inline_contents_become_a_secret(self):
        secret = only(render("sqlite"), "Secret")["data"]
        self.assertEqual(base64.b64decode(secret["tenants.acme.vendor_token_file"]), b"not-a-real-token")
        self.assertNotIn("not-a-real-token", config_map(render("sqlite"))["data"]["gateway.toml"])

    def test_changed_settings_replace_pods_and_changed_secrets_do_not(self):
        def checksum(values):
            objects = render("sqlite", values)
            return only(objects, "Deployment")["spec"]["template"]["metadata"]["annotations"]["checksum/settings"]

        secret = {"config": {"tenants": {"acme": {"vendor_token_file": {"value": "another"}}}}}
        self.assertEqual(checksum({}), checksum(secret))
        self.assertNotEqual(checksum({}), checksum({"config": {"log": {"filter": "debug"}}}))

    def test_the_first_host_is_the_public_url(self):
        self.assertIn('public_url = "https://calls.example.uz"', config_map(render("postgres"))["data"]["gateway.toml"])

    def test_an_ingress_does_not_cut_streams_and_waits(self):
        annotations = only(render("postgres"), "Ingress")["metadata"]["annotations"]
        self.assertEqual(annotations["nginx.ingress.kubernetes.io/proxy-buffering"], "off")
        self.assertGreater(int(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"]), 60)
        route = only(render("external-secrets"), "HTTPRoute")["spec"]["rules"][0]
        self.assertEqual(route["timeouts"], {"request": "0s", "backendRequest": "0s"})

    def test_the_network_policy_blocks_private_networks(self):
        policy = only(render("postgres"), "NetworkPolicy")["spec"]
        web = next(rule for rule in policy["egress"] if rule["ports"][0]["port"] == 443)
        except_ = [network for peer in web["to"] for network in peer["ipBlock"]["except"]]
        for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10"):
            self.assertIn(network, except_)
        admin = next(rule for rule in policy["ingress"] if rule["ports"][0]["port"] == 9090)
        self.assertTrue(admin["from"])
        self.assertFalse(has(render("sqlite-watched"), "NetworkPolicy"))

    def test_the_content_of_an_issuer_keeps_its_name_when_another_is_put_first(self):
        """Running pods read their files again, but not their settings: a name that changed its meaning would give them the secret of another issuer."""
        def issuers(*names):
            return [{"issuer": f"https://{name}.example", "audiences": ["a"], "algorithms": ["HS256"], "hmac_secret_file": {"value": name * 32}} for name in names]

        def contents(*names):
            data = only(render("sqlite", {"config": {"auth": {"issuers": issuers(*names)}}}), "Secret")["data"]
            return {key: base64.b64decode(value).decode() for key, value in data.items() if "issuers" in key}

        before, after = contents("b"), contents("a", "b")
        self.assertEqual(len(after), 2)
        self.assertLessEqual(before.items(), after.items())

    def test_the_network_policy_allows_networks_of_the_settings(self):
        policy = only(render("everything"), "NetworkPolicy")["spec"]
        web = next(rule for rule in policy["egress"] if {"port": 443, "protocol": "TCP"} in rule["ports"])
        self.assertIn({"port": 80, "protocol": "TCP"}, web["ports"])
        self.assertIn({"ipBlock": {"cidr": "10.20.0.0/16"}}, web["to"])
        self.assertIn({"port": 6432, "protocol": "TCP"}, [rule["ports"][0] for rule in policy["egress"]])

    def test_external_secret_stores(self):
        objects = render("external-secrets")
        external = objects[("ExternalSecret", "alovoice-acme")]["spec"]
        self.assertEqual(external["target"], {"name": "alovoice-acme", "creationPolicy": "Owner"})
        driver = next(one["csi"] for one in pod(objects)["volumes"] if one["name"] == "secrets-store")
        self.assertEqual(driver["volumeAttributes"], {"secretProviderClass": "alovoice"})
        self.assertFalse(has(objects, "Secret"))

    def test_the_monitor_finds_the_admin_service(self):
        objects = render("external-secrets")
        monitor = only(objects, "ServiceMonitor")["spec"]
        services = [one for (kind, _), one in objects.items() if kind == "Service"]
        wanted = monitor["selector"]["matchLabels"].items()
        (service,) = [one for one in services if wanted <= one["metadata"]["labels"].items()]
        self.assertEqual([port["name"] for port in service["spec"]["ports"]], [monitor["endpoints"][0]["port"]])
        self.assertTrue(service["spec"]["publishNotReadyAddresses"], "pods that are not ready must be scraped too")

    def test_extra_objects_can_be_templates(self):
        objects = render("everything")
        self.assertIn(("ConfigMap", "calls-extra"), objects)
        self.assertIn(("ConfigMap", "gw-text"), objects)


class Refusals(unittest.TestCase):
    def refuses(self, saying, mode="sqlite", values=None, sets=()):
        with self.assertRaisesRegex(Refused, saying):
            render(mode, values, sets=sets)

    def test_impossible_combinations_are_refused(self):
        cases = [
            ("config.auth.issuers is empty", "sqlite", {"config": {"auth": {"issuers": []}}}),
            ("config.tenants is empty", None, {"config": {"auth": {"issuers": [{"issuer": "i", "audiences": ["a"], "algorithms": ["RS256"], "jwks_url": "https://i"}]}}}),
            ("replicaCount must be 1", "sqlite", {"replicaCount": 2}),
            ("needs database.kind postgres", "sqlite", {"autoscaling": {"enabled": True}}),
            ("database.postgres.host is empty", "postgres", {"database": {"postgres": {"host": ""}}}),
            ("ingress.hosts is empty", "postgres", {"ingress": {"hosts": []}}),
            ("httpRoute.parentRefs is empty", "postgres", {"httpRoute": {"enabled": True}}),
            ("there is no alert Typo", "sqlite-watched", {"monitoring": {"prometheusRule": {"disabled": ["Typo"]}}}),
            ("strategy.type must be Recreate", "sqlite", {"strategy": {"type": "RollingUpdate"}}),
            ("enable one of them", "sqlite-watched", {"monitoring": {"podMonitor": {"enabled": True}}}),
            ("loadBalancerClass needs service.type LoadBalancer", "postgres", {"service": {"loadBalancerClass": "example.uz/lb"}}),
            ("loadBalancerSourceRanges needs", "postgres", {"service": {"type": "NodePort", "loadBalancerSourceRanges": ["10.0.0.0/8"]}}),
            ("externalTrafficPolicy needs", "postgres", {"service": {"externalTrafficPolicy": "Local"}}),
        ]
        for saying, mode, values in cases:
            with self.subTest(saying):
                self.refuses(saying, mode, values)

    def test_listeners_that_cannot_be_reached_are_refused(self):
        """The kubelet and the Service connect to the address of the pod."""
        for host in ("127.0.0.1", "127.1.2.3", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]"):
            self.refuses("no probe can reach it", values={"config": {"server": {"admin_listen": f"{host}:9090"}}})
            self.refuses("no Service can reach it", values={"config": {"server": {"listen": f"{host}:8080"}}})
        families = {"service": {"ipFamilies": ["IPv4", "IPv6"]}}
        self.refuses("config.server.admin_listen must be an IPv6 address", values=families)
        render("sqlite", families | {"config": {"server": {"listen": "[::]:8080", "admin_listen": "[::]:9090"}}})
        self.refuses("must name a port", values={"config": {"server": {"listen": "0.0.0.0:0"}}})
        self.refuses("must have different ports", values={"config": {"server": {"admin_listen": "0.0.0.0:8080"}}})
        self.refuses("must have different ports", values={"config": {"server": {"listen": "10.0.0.1:7000", "admin_listen": "[::]:7000"}}})
        for name, key in (("GATEWAY_SERVER__LISTEN", "config.server.listen"), ("GATEWAY_STORE__URL", "database"), ("GATEWAY_CONFIG", "config")):
            self.refuses(f"extraEnv must not set this variable.*set the value {key}", values={"extraEnv": [{"name": name, "value": "x"}]})

    def test_servers_that_the_network_policy_blocks_are_refused(self):
        """The network drops a connection that no rule allows, so the gateway would only see timeouts."""
        issuer = {"issuer": "https://i.example.uz", "audiences": ["a"], "algorithms": ["RS256"], "jwks_url": "https://i.example.uz:8443/keys"}
        cases = [
            ("config.auth.issuers.0.jwks_url uses port 8443", {"auth": {"issuers": [issuer]}}),
            ("config.vendor.base_url uses port 8080", {"vendor": {"base_url": "http://stand-in:8080"}}),
            ("config.vendor.base_url uses port 80,", {"vendor": {"base_url": "http://stand-in"}}),
            ("config.traces.otlp_endpoint uses port 4318", {"traces": {"otlp_endpoint": "http://[fd00::1]:4318"}}),
            ("config.network.https_proxy uses port 3128", {"network": {"https_proxy": "http://user:1234@proxy:3128"}, "vendor": {"base_url": "https://v:99"}}),
            ("config.store.listen_url uses port 6432", {"store": {"listen_url": "postgres://gateway@direct:6432/gateway"}}),
        ]
        for saying, config in cases:
            with self.subTest(saying):
                values = {"config": config}
                self.refuses(saying, "postgres", values)
                render("postgres", values | {"networkPolicy": {"enabled": False}})
                port = int(saying.rstrip(",").split()[-1])
                for allowed in ({"web": {"ports": [443, port]}}, {"extra": [{"ports": [{"port": port}]}]}, {"extra": [{"to": [{"podSelector": {}}]}]},
                                {"extra": [{"ports": [{"port": port - 1, "endPort": port + 1}]}]}):
                    render("postgres", values | {"networkPolicy": {"egress": allowed}})
                self.refuses(saying, "postgres", values | {"networkPolicy": {"egress": {"extra": [{"ports": [{"port": port + 1}]}]}}})
        render("postgres", {"config": {"vendor": {"base_url": "http://stand-in", "allow_http": True}, "callbacks": {"allow_http": True}}})

    def test_only_requests_through_a_proxy_need_no_rule_of_their_own(self):
        issuer = {"issuer": "https://i", "audiences": ["a"], "algorithms": ["RS256"], "jwks_url": "https://keys.sso.example.uz:8443/keys"}
        rule = {"networkPolicy": {"egress": {"extra": [{"ports": [{"port": 3128}]}]}}}
        saying, url = "config.auth.issuers.0.jwks_url uses port 8443", "http://proxy.corp.example:3128"

        def values(network, **others):
            return rule | others | {"config": {"auth": {"issuers": [issuer]}, "network": network}}

        for no_proxy in ([], ["example.com", "o.example.uz"], ["sso.example.uz:443"], ["10.0.0.0/8"], [".", " "]):
            render("postgres", values({"https_proxy": url, "no_proxy": no_proxy}))
        for no_proxy in (["*"], ["*:8443"], [".Example.uz"], ["*.sso.example.uz"], ["keys.sso.example.uz"], ["x", "sso.example.uz:8443"],
                         [" sso.example.uz. "], ["sso.example.uz.:8443"]):
            self.refuses(saying, "postgres", values({"https_proxy": url, "no_proxy": no_proxy}))
        self.refuses(saying, "postgres", values({"http_proxy": url}))
        # The URL of a proxy with a password comes from a Secret.
        for name in ("GATEWAY_NETWORK__HTTPS_PROXY", "HTTPS_PROXY", "all_proxy"):
            secret = {"name": name, "valueFrom": {"secretKeyRef": {"name": "proxy", "key": "url"}}}
            render("postgres", values({}, extraEnv=[secret]))
            self.refuses(saying, "postgres", values({"no_proxy": ["sso.example.uz"]}, extraEnv=[secret]))
        self.refuses(saying, "postgres", values({}, extraEnv=[{"name": "HTTP_PROXY", "value": url}]))
        # Connections to the database never go through the proxy.
        variable = {"name": "ALL_PROXY", "value": url}
        config = {"store": {"listen_url": "postgres://gateway@direct:6432/gateway"}}
        self.refuses("config.store.listen_url uses port 6432", "postgres", rule | {"config": config, "extraEnv": [variable]})

    def test_misspelt_and_invalid_values_are_refused(self):
        acme = {"vendor_token_file": {"secret": "alovoice-acme", "key": "token"}}
        cases = [
            {"replicas": 2},
            {"image": {"repo": "x"}},
            {"config": {"sever": {}}},
            {"config": {"server": {"shutdown_grase": "25s"}}},
            {"config": {"server": {"shutdown_grace": "25 seconds"}}},
            {"config": {"server": {"max_body_bytes": "4MB"}}},
            {"config": {"store": {"url": "sqlite://elsewhere"}}},
            {"config": {"tenants": {"acme": acme | {"calback_secret_file": "x"}}}},
            {"config": {"tenants": {"acme": {"vendor_token_file": {"secret": "alovoice-acme"}}}}},
            {"config": {"tenants": {"acme": {"vendor_token_file": {"secret": "alovoice-acme", "key": "k", "value": "v"}}}}},
            {"config": {"auth": {"issuers": [{"issuer": "i", "audiences": ["a"], "algorithms": ["none"], "jwks_url": "https://i"}]}}},
            {"config": {"auth": {"issuers": [{"issuer": "i", "audiences": ["a"], "algorithms": ["RS256"]}]}}},
            {"database": {"kind": "mysql"}},
            {"database": {"postgres": {"sslMode": "verify"}}},
            {"service": {"type": "ExternalName"}},
            {"service": {"ipFamilies": ["IPv5"]}},
            {"replicaCount": -1},
            {"jobs": {"reseal": {"schedule": "@daily"}}},
            {"jobs": {"Reseal": {"args": ["store", "reseal"]}}},
            {"monitoring": {"prometheusRule": {"runbookUrl": "wiki/alovoice"}}},
            {"networkPolicy": {"egress": {"web": {"ports": ["https"]}}}},
            {"monitoring": {"prometheusRule": {"overrides": {"AlovoiceGatewayDown": {"fro": "1m"}}}}},
        ]
        for values in cases:
            with self.subTest(str(values)):
                self.refuses("values don't meet the specifications of the schema", values=values)


class Files(unittest.TestCase):
    def test_the_schema_and_the_default_values_have_the_same_keys(self):
        import json

        import yaml

        schema = json.loads((CHART / "values.schema.json").read_text())["properties"]
        values = yaml.safe_load((CHART / "values.yaml").read_text())
        # replicaCount has no default, since database.kind decides. Helm passes `global` to subcharts.
        self.assertEqual(set(schema) - {"replicaCount", "global"}, set(values))
