"""A real Prometheus with the project's own configuration, and what can be asked of it."""

from __future__ import annotations

import json
import math
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kept_venv import ROOT
from tests.system.tools import free_port, tool
from trimtab.cli.server_process import end

CONFIGURATION = ROOT / "deploy" / "prometheus" / "prometheus.yaml"
RULES = CONFIGURATION.with_name("rules.yaml")
JOB = "trimtab"
_WAIT_SECONDS = 40.0
_NAME = re.compile(r"\b(?:trimtab_|grpc_server_|process_|job:|job_method:|instance:)\w+(?::\w+)*")


def metrics_in(expression: str) -> set[str]:
    """The metrics of a query, recorded ones among them."""
    return set(_NAME.findall(expression))


def rules(kind: str) -> list[dict[str, Any]]:
    """The rules of a kind: `alert` or `record`."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


class Prometheus:
    """A running one; make it with `running_prometheus`."""

    def __init__(self, address: str, log: Path) -> None:
        self.address = address
        self._log = log

    def get(self, path: str, **parameters: str) -> Any:
        """What its API answers."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return json.load(response)["data"]

    def values(self, expression: str) -> dict[str, float]:
        """The values of an instant query, by their labels' values; what is not a number is left out."""
        found = self.get("query", query=expression)["result"]
        named = {",".join(each["metric"].values()): float(each["value"][1]) for each in found}
        return {labels: value for labels, value in named.items() if not math.isnan(value)}

    def wait_for(self, expression: str, seconds: float = _WAIT_SECONDS) -> dict[str, float]:
        """The values of a query, once it has any."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if found := self.values(expression):
                    return found
            except (urllib.error.URLError, ConnectionError) as error:
                if isinstance(error, urllib.error.HTTPError) and error.code == 400:
                    pytest.fail(f"{expression}: {error.read().decode()}")
            time.sleep(0.1)
        last = "\n".join(self._log.read_text().splitlines()[-3:])
        pytest.fail(f"nothing within {seconds:g} s for {expression}; the last that Prometheus said:\n{last}")


@contextmanager
def running_prometheus(folder: Path, target: str) -> Iterator[Prometheus]:
    """A Prometheus that scrapes a target, and follows the rules, every half second; it has scraped it once."""
    config = yaml.safe_load(CONFIGURATION.read_text())
    config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
    config["rule_files"] = [str(CONFIGURATION.parent / name) for name in config["rule_files"]]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address, log = f"127.0.0.1:{free_port()}", folder / "prometheus.log"
    flags = (f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [tool("prometheus"), *flags, f"--web.listen-address={address}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        prometheus = Prometheus(address, log)
        prometheus.wait_for(f'up{{job="{JOB}"}} == 1')
        yield prometheus
    finally:
        end(process)
