"""The manifests of deploy/kubernetes as kustomize renders them, and what stands in them."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.kept_venv import ROOT
from tests.system.tools import run, said

KUBERNETES = ROOT / "deploy" / "kubernetes"
TOGETHER = "gpu-mtls-tracing"
"""The one that the README there puts together."""
OVERLAYS = ("cpu", "gpu", "mtls", TOGETHER)


@dataclass(frozen=True)
class Rendered:
    """All objects of an overlay."""

    text: str

    @property
    def objects(self) -> list[Any]:
        return list(yaml.safe_load_all(self.text))

    def all_of(self, kind: str) -> list[Any]:
        return [each for each in self.objects if each["kind"] == kind]

    def the(self, kind: str) -> Any:
        """The one object of this kind."""
        (found,) = self.all_of(kind)
        return found

    @property
    def pod(self) -> Any:
        """What the Deployment makes: metadata and spec."""
        return self.the("Deployment")["spec"]["template"]

    @property
    def container(self) -> Any:
        (found,) = self.pod["spec"]["containers"]
        return found

    @property
    def ports(self) -> dict[str, int]:
        """The container's ports by name."""
        return {port["name"]: port["containerPort"] for port in self.container["ports"]}

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the container starts with."""
        (source,) = self.container["envFrom"]
        settings = self.the("ConfigMap")
        assert source == {"configMapRef": {"name": settings["metadata"]["name"]}}
        assert "env" not in self.container
        return dict(settings["data"])

    @property
    def mounts(self) -> dict[str, Any]:
        """The container's volumes by the path where they are mounted."""
        volumes = {volume["name"]: volume for volume in self.pod["spec"]["volumes"]}
        return {mount["mountPath"]: volumes[mount["name"]] for mount in self.container["volumeMounts"]}

    def is_selected(self, match_labels: dict[str, str]) -> bool:
        """Whether the pods have these labels; no labels at all would select every pod there is."""
        return bool(match_labels) and match_labels.items() <= self.pod["metadata"]["labels"].items()


def _render(folder: Path) -> Rendered:
    built = run("kustomize", "build", folder)
    assert built.returncode == 0, said(built)
    return Rendered(built.stdout)


def _render_together() -> Rendered:
    """The overlay that the README shows, elsewhere."""
    (shown,) = re.findall(r"```yaml\n(.*?)```", (KUBERNETES / "README.md").read_text(), re.DOTALL)
    kustomization = yaml.safe_load(shown)
    with tempfile.TemporaryDirectory() as elsewhere:
        for what in ("resources", "components"):
            paths = [os.path.normpath(KUBERNETES / "overlays" / "yours" / path) for path in kustomization[what]]
            kustomization[what] = [os.path.relpath(path, elsewhere) for path in paths]
        Path(elsewhere, "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return _render(Path(elsewhere))


@cache
def overlay(name: str) -> Rendered:
    """One of OVERLAYS, rendered; each only once."""
    return _render_together() if name == TOGETHER else _render(KUBERNETES / "overlays" / name)
