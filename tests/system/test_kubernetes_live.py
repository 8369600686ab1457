"""The Kubernetes manifests, held against what they are to run: a real server, and Prometheus' own tool."""

from __future__ import annotations

import json
import os
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml

import trimtab
from tests.http_port import ask
from tests.secure import Certificates
from tests.system.manifests import KUBERNETES, Rendered, overlay
from tests.system.tools import run, said
from trimtab.cli.server_process import running_server


def test_the_autoscaler_s_metric_is_what_prometheus_records(tmp_path: Path) -> None:
    """By the name that the adapter gives it, a value for each pod: how long one in twenty waits, 0 where none does."""
    rendered = overlay("cpu")
    (rule,) = yaml.safe_load((KUBERNETES / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    (recorded,) = re.findall(r'__name__="([^"]+)"', rule["seriesQuery"])
    metric = rendered.the("HorizontalPodAutoscaler")["spec"]["metrics"][0]["pods"]["metric"]["name"]
    assert re.sub(rule["name"]["matches"], rule["name"]["as"], recorded) == metric
    query = rule["metricsQuery"].replace("<<.Series>>", recorded).replace("<<.GroupBy>>", "pod")
    query = query.replace("<<.LabelMatchers>>", 'namespace="trimtab",pod=~"busy|idle"')
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rendered.the("PrometheusRule")["spec"]))
    (tmp_path / "test.yaml").write_text(json.dumps(_case_of_waiting(query)))
    tested = run("promtool", "test", "rules", tmp_path / "test.yaml")
    assert tested.returncode == 0, said(tested)


def _case_of_waiting(query: str) -> dict[str, Any]:
    """For promtool: of two pods, one where every call waits for 0.1 to 0.25 s, 95 in a hundred for 0.2425 at most."""
    times = {"busy": {"0.1": "0x20", "0.25": "0+60x20", "+Inf": "0+60x20"}}
    times["idle"] = dict.fromkeys(times["busy"], "7x20")
    series = [
        {"series": f'trimtab_queue_wait_seconds_{name}{{namespace="trimtab",pod="{pod}"{le}}}', "values": values}
        for pod, buckets in times.items()
        for name, le, values in (
            *(("bucket", f',le="{bound}"', values) for bound, values in buckets.items()),
            ("count", "", buckets["+Inf"]),
        )
    ]
    expected = [{"labels": '{pod="busy"}', "value": 0.2425}, {"labels": '{pod="idle"}', "value": 0}]
    asked = {"expr": query, "eval_time": "10m", "exp_samples": expected}
    case = {"interval": "30s", "input_series": series, "promql_expr_test": [asked]}
    return {"rule_files": ["rules.yaml"], "evaluation_interval": "30s", "tests": [case]}


def _with_secrets(rendered: Rendered, folder: Path, certificates: Certificates) -> dict[str, str]:
    """The container's environment, with the files of its Secrets under a folder; their keys are cert-manager's."""
    contents = {
        ("trimtab-tls", "tls.crt"): (certificates.folder / "server.pem").read_bytes(),
        ("trimtab-tls", "tls.key"): (certificates.folder / "server.key").read_bytes(),
        ("trimtab-tls", "ca.crt"): certificates.trusted,
        ("trimtab-callers", "callers"): b"controller certificate *\n",
    }
    secrets = {mount: volume["secret"] for mount, volume in rendered.mounts.items() if "secret" in volume}
    environment = rendered.environment
    for (secret, key), content in contents.items():
        (mount,) = [mount for mount, each in secrets.items() if each["secretName"] == secret]
        path = Path(f"{folder}{mount}", key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        environment = {name: str(path) if value == f"{mount}/{key}" else value for name, value in environment.items()}
    assert all(each["defaultMode"] == 0o440 for each in secrets.values())
    return environment


def _statuses_of_probes(rendered: Rendered, address: str) -> list[int]:
    """What the server that listens for HTTP at this address answers to the probes of the container."""
    statuses = []
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = rendered.container[name]["httpGet"]
        assert rendered.ports[probe["port"]] == rendered.ports["http"]
        statuses.append(ask(address, probe["path"])[0])
    return statuses


def test_a_real_server_answers_the_probes_and_calls() -> None:
    """One with the settings of the overlay cpu, but on ports of this machine."""
    environment = {**os.environ, **overlay("cpu").environment}
    with running_server("--drain-pause=0", environment=environment) as server:
        assert _statuses_of_probes(overlay("cpu"), server.metrics) == [200, 200, 200]
        with trimtab.Client(server.listen) as client:
            assert client.pack([[4.0, 3.0, 2.0, 1.0]], 2).balancedness == 1


def test_a_real_server_under_mutual_tls_answers_the_probes(tmp_path: Path) -> None:
    """They show no certificate; callers need one, of a name that the callers file has."""
    certificates = Certificates(tmp_path)
    environment = {**os.environ, **_with_secrets(overlay("mtls"), tmp_path, certificates)}
    with running_server("--drain-pause=0", environment=environment) as server:
        assert _statuses_of_probes(overlay("mtls"), server.metrics) == [200, 200, 200]
        for name, is_let_in in (("controller", True), ("stranger", False)):
            with trimtab.Client(server.listen, ca=certificates.trusted, **certificates.for_client(name)) as client:
                with nullcontext() if is_let_in else pytest.raises(trimtab.UnauthenticatedError):
                    client.describe()
