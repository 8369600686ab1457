"""The Kubernetes manifests: taken by Kubernetes, of one mind with each other and with the server's settings."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import trimtab
from tests.kept_venv import ROOT
from tests.system.manifests import KUBERNETES, OVERLAYS, TOGETHER, Rendered, overlay
from tests.system.operator_schemas import SCHEMAS
from tests.system.tools import TOOLS_VENV, run, said
from trimtab_server.server import _SENDING_SECONDS

KUBERNETES_VERSIONS = (("-k", "1.27"), ("-k", "1.32"), ())
"""The oldest that the manifests are for, one between, and the newest that the tool knows."""
SLACK_SECONDS = 5


@pytest.fixture(params=OVERLAYS)
def rendered(request: pytest.FixtureRequest) -> Rendered:
    """One overlay after the other."""
    return overlay(request.param)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """The overlays as files."""
    for name in OVERLAYS:
        (tmp_path / f"{name}.yaml").write_text(overlay(name).text)
    return sorted(tmp_path.glob("*.yaml"))


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS, ids=lambda version: "".join(version) or "newest")
def test_kubernetes_takes_every_object(version: tuple[str, ...], files: list[Path]) -> None:
    """No field that it does not know, none of the wrong type; only the operator's objects are unknown to it."""
    checked = run("kubernetes-validate", *version, "--strict", *files)
    said_of = re.findall(
        r"^(INFO|WARN|ERROR) \S+ (?:passed|Couldn't find schema for kind (\w+))", said(checked), re.MULTILINE
    )
    assert checked.returncode == 0, said(checked)
    assert {kind for level, kind in said_of if level == "WARN"} == set(SCHEMAS), said(checked)
    assert len(said_of) == sum(len(list(yaml.safe_load_all(path.read_text()))) for path in files)


def test_kubernetes_would_find_an_unknown_field(files: list[Path]) -> None:
    """What the test above relies on: a field that Kubernetes does not know is not passed over."""
    files[0].write_text(files[0].read_text().replace("minReadySeconds:", "minimumReadySeconds:"))
    assert run("kubernetes-validate", "--strict", files[0]).returncode != 0


_VALIDATE = """
import json, sys, jsonschema
schema, *manifests = json.load(sys.stdin)
print(*(jsonschema.Draft202012Validator(schema).is_valid(each) for each in manifests))
"""


def _are_valid(kind: str, *manifests: Any) -> str:
    """Whether the schema of this kind takes them, one by one, by the tools' own jsonschema."""
    command, given = [f"{TOOLS_VENV}/bin/python", "-c", _VALIDATE], json.dumps([SCHEMAS[kind], *manifests])
    checked = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, said(checked)
    return checked.stdout


@pytest.mark.parametrize("kind", SCHEMAS)
def test_the_operator_s_objects_are_what_it_takes(kind: str) -> None:
    """By a schema of our own of what we use of it; which does notice a field that it lacks, or one too many."""
    found = overlay(TOGETHER).the(kind)
    lacking, surprising = {**found, "spec": {}}, {**found, "spec": {**found["spec"], "surprise": 1}}
    assert _are_valid(kind, found, lacking, surprising).split() == ["True", "False", "False"]


def test_the_operator_s_rules_are_those_of_prometheus(rendered: Rendered) -> None:
    """The same groups as deploy/prometheus has: deploy/kubernetes/prometheus_rule.py makes them so."""
    source = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yaml").read_text())
    assert rendered.the("PrometheusRule")["spec"] == source


def test_checkov_finds_nothing_but_what_is_excused(files: list[Path]) -> None:
    """All its checks but those of checkov.yaml; of a container that may do anything, it finds a lot."""
    spec = {"containers": [{"name": "any", "image": "any", "securityContext": {"privileged": True}}]}
    careless = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "careless"}, "spec": spec}
    (files[0].parent / "careless.yaml").write_text(yaml.safe_dump(careless))
    options = ("--framework", "kubernetes", "--skip-download", "--compact", "--output", "json")
    config = KUBERNETES / "checkov.yaml"
    checked = run("checkov", *options, "--config-file", config, "--directory", files[0].parent)
    results = json.loads(checked.stdout)["results"]
    failed = [(Path(each["file_path"]).name, each["check_id"]) for each in results["failed_checks"]]
    assert {"careless.yaml"} == {name for name, _ in failed}, failed
    assert {Path(each["file_path"]).name for each in results["passed_checks"]} >= {path.name for path in files}


@cache
def _checked_settings(rendered: Rendered) -> dict[str, Any]:
    """What the server makes of an overlay's variables."""
    command, variables = [sys.executable, "-m", "trimtab_server", "--check-config"], rendered.environment
    checked = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, said(checked)
    settings: dict[str, Any] = json.loads(checked.stdout)
    return settings


def test_every_variable_is_a_setting_that_the_server_takes(rendered: Rendered) -> None:
    """Under its name, with its value; and Kubernetes adds none of its own that begin the same way."""
    settings = _checked_settings(rendered)
    given = {name.removeprefix("TRIMTAB_").lower(): value for name, value in rendered.environment.items()}
    assert all(name.startswith("TRIMTAB_") for name in rendered.environment)
    taken = {name: settings.get(name, "no such setting") for name in given}
    as_told = {name: type(taken[name])(yaml.safe_load(value)) for name, value in given.items()}
    assert taken == as_told
    assert rendered.pod["spec"]["enableServiceLinks"] is False


def test_the_drain_ends_before_kubernetes_kills(rendered: Rendered) -> None:
    """Pause, grace, and what it takes to send the last answers, fit with some seconds to spare; no hook takes any."""
    settings = _checked_settings(rendered)
    longest = settings["drain_pause"] + settings["drain_grace"] + 2 * _SENDING_SECONDS
    assert "lifecycle" not in rendered.container
    assert settings["drain_pause"] > 0
    assert longest + SLACK_SECONDS <= rendered.pod["spec"]["terminationGracePeriodSeconds"]


def test_ports_are_those_that_the_server_listens_on(rendered: Rendered) -> None:
    """On every address, under the names that Services, probes and policies use."""
    listens = [rendered.environment[name] for name in ("TRIMTAB_LISTEN", "TRIMTAB_METRICS_LISTEN")]
    assert listens == [f"0.0.0.0:{rendered.ports[name]}" for name in ("grpc", "http")]
    assert len(rendered.ports) == 2


def test_services_lead_to_the_ready_pods(rendered: Rendered) -> None:
    """Both of them; the headless one is every pod's address, and the protocol told is the one spoken."""
    services = {service["metadata"]["name"]: service["spec"] for service in rendered.all_of("Service")}
    assert set(services) == {"trimtab", "trimtab-headless"}
    assert services["trimtab-headless"]["clusterIP"] == "None"
    assert "clusterIP" not in services["trimtab"]
    spoken = "https" if "TRIMTAB_TLS_CERT" in rendered.environment else "kubernetes.io/h2c"
    for spec in services.values():
        assert rendered.is_selected(spec["selector"])
        assert not spec.get("publishNotReadyAddresses", False)
        assert all(port["port"] == rendered.ports[port["targetPort"]] for port in spec["ports"])
        assert [port["appProtocol"] for port in spec["ports"] if port["name"] == "grpc"] == [spoken]


def test_prometheus_finds_each_pod_once(rendered: Rendered) -> None:
    """The ServiceMonitor's labels and port are those of one Service, under the job that the rules are about."""
    spec = rendered.the("ServiceMonitor")["spec"]
    (endpoint,) = spec["endpoints"]
    labels = spec["selector"]["matchLabels"].items()
    selected = [each for each in rendered.all_of("Service") if labels <= each["metadata"]["labels"].items()]
    ports = [(each, port) for each in selected for port in each["spec"]["ports"] if port["name"] == endpoint["port"]]
    ((service, port),) = ports
    assert port["targetPort"] == "http"
    assert service["metadata"]["labels"][spec["jobLabel"]] == "trimtab"


def test_policies_let_in_whom_they_name(rendered: Rendered) -> None:
    """Each port from somewhere in particular; nothing goes out but to name servers and the collector of traces."""
    policies = [policy["spec"] for policy in rendered.all_of("NetworkPolicy")]
    assert all(rendered.is_selected(policy["podSelector"]["matchLabels"]) for policy in policies)
    assert {kind for policy in policies for kind in policy["policyTypes"]} == {"Ingress", "Egress"}
    ingress = [rule for policy in policies for rule in policy.get("ingress", ())]
    assert sorted(port["port"] for rule in ingress for port in rule["ports"]) == sorted(rendered.ports)
    assert all(peer["namespaceSelector"]["matchLabels"] for rule in ingress for peer in rule["from"])
    egress = [rule for policy in policies for rule in policy.get("egress", ())]
    assert all(peer["podSelector"]["matchLabels"] for rule in egress for peer in rule["to"])
    outward = {port["port"] for rule in egress for port in rule["ports"]}
    collector = rendered.environment.get("TRIMTAB_OTLP_ENDPOINT")
    assert outward == ({53, int(collector.rpartition(":")[2])} if collector else set())


def test_some_pod_always_serves(rendered: Rendered) -> None:
    """While pods are replaced or evicted; and the number of them is the autoscaler's alone to say."""
    deployment, scaler = rendered.the("Deployment"), rendered.the("HorizontalPodAutoscaler")["spec"]
    budget = rendered.the("PodDisruptionBudget")["spec"]
    target = {"apiVersion": deployment["apiVersion"], "kind": "Deployment", "name": deployment["metadata"]["name"]}
    assert scaler["scaleTargetRef"] == target
    assert "replicas" not in deployment["spec"]
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert rendered.is_selected(deployment["spec"]["selector"]["matchLabels"])
    assert rendered.is_selected(budget["selector"]["matchLabels"])
    assert 1 <= scaler["minReplicas"] - budget["maxUnavailable"] < scaler["maxReplicas"]
    spread = rendered.pod["spec"]["topologySpreadConstraints"]
    assert all(rendered.is_selected(each["labelSelector"]["matchLabels"]) for each in spread)
    assert {each["topologyKey"] for each in spread} == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}


def test_solver_threads_fit_the_cpus(rendered: Rendered) -> None:
    """As many as are asked for, and one CPU more within the limit, for the event loop."""
    threads, resources = int(rendered.environment["TRIMTAB_SOLVER_THREADS"]), rendered.container["resources"]
    assert threads == int(resources["requests"]["cpu"])
    assert threads + 1 == int(resources["limits"]["cpu"])


def test_a_gpu_is_asked_for_where_one_is_used(rendered: Rendered) -> None:
    """With the image, the limit and the toleration that go with it; the version is this one."""
    uses = rendered.environment["TRIMTAB_DEVICE"] == "cuda"
    tag = rendered.container["image"].rpartition(":")[2]
    tolerated = [each["key"] for each in rendered.pod["spec"].get("tolerations", ())]
    assert tag == trimtab.__version__ + ("-cuda" if uses else "")
    assert rendered.container["resources"]["limits"].get("nvidia.com/gpu") == (1 if uses else None)
    assert tolerated == (["nvidia.com/gpu"] if uses else [])


def test_all_objects_are_in_the_namespace(rendered: Rendered) -> None:
    """In the one that is made with them, under its Pod security standard."""
    namespace = rendered.the("Namespace")["metadata"]
    others = {each["metadata"]["namespace"] for each in rendered.objects if each["kind"] != "Namespace"}
    assert others == {namespace["name"]}
    assert namespace["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
