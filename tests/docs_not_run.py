"""The commands and code of the documentation that no test runs: each with the reason, and held in some other way.

A command is known by its page and how it begins, any other block by its first line.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from importlib.util import find_spec
from itertools import pairwise

import click

from tests.docs_blocks import Command
from tests.kept_venv import ROOT
from trimtab.cli.commands import trimtab as group
from trimtab_server.settings import Settings

_MINUTES = "takes minutes, and sets up an environment"
_INSTALLS = "installs, from the network, into the environment of whoever reads it"
_CLUSTER = "needs a cluster"
_DOCKER = "needs a Docker engine and an image"
_ENGINE = "needs the engine, and its GPUs"
_RECIPE = f"{_ENGINE}; test_engine_recipes runs it beside a recorder that writes what the engine does"
NOT_RUN: dict[tuple[str, str], str] = {
    ("README.md", "make demo"): f"{_MINUTES}; test_demo runs what it runs",
    ("README.md", "pip install '.[server,cli]'"): _INSTALLS,
    ("CONTRIBUTING.md", "make test"): "takes minutes, and this is one of its tests",
    ("docs/start.md", "pip install '.[server,cli]'"): _INSTALLS,
    ("docs/releasing.md", "python -m twine upload"): "publishes",
    ("docs/releasing.md", "make tools"): _MINUTES,
    ("docs/releasing.md", ".tools/node_modules/.bin/buf build"): "writes into the checkout; test_contract runs buf",
    ("docs/operations.md", "docker run"): _DOCKER,
    ("docs/engines/sglang.md", "SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR="): _ENGINE,
    ("docs/engines/sglang.md", "export SGLANG_EXPERT"): "belongs to the next command",
    ("docs/engines/sglang.md", "deploy/engines/sglang.sh"): _RECIPE,
    ("docs/engines/sglang.md", "TRIMTAB_SGLANG_TARGET="): _ENGINE,
    ("docs/engines/vllm.md", "export TRIMTAB_VLLM"): "belongs to the next command",
    ("docs/engines/vllm.md", "vllm serve"): _ENGINE,
    ("docs/engines/tensorrt-llm.md", "export EXPERT_STATISTIC"): "belongs to the next command",
    ("docs/engines/tensorrt-llm.md", "trtllm-llmapi-launch"): _ENGINE,
    ("docs/engines/tensorrt-llm.md", "deploy/engines/tensorrt_llm.sh"): _RECIPE,
    ("docs/engines/vllm-ascend.md", "vllm serve"): _ENGINE,
    ("deploy/kubernetes/README.md", "cd deploy/kubernetes/overlays/cpu"): "belongs to the next command",
    ("deploy/kubernetes/README.md", "kustomize edit set image"): _CLUSTER,
    ("deploy/kubernetes/README.md", "kubectl"): _CLUSTER,
}


RUNNABLE = {"cat", "cmp", "curl", "echo", "head", "jq", "python", "rm", "tail", "trimtab", "trimtab-server", "umask"}
"""The programs that pages may start here: what another one does to the machine, nobody has thought about yet."""


def strangers(command: Command) -> set[str]:
    """The programs of a command that must not be started here."""
    line = command.text.replace("\\\n", " ").partition("\n")[0]
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&")
    lexer.whitespace_split = True
    words = ["&&", *lexer]
    programs = {word for before, word in pairwise(words) if before in {"|", ";", "&", "&&", "||"}}
    return programs - RUNNABLE


def why_not(page: str, beginning: str) -> tuple[str, str] | None:
    """The entry of the table for a command or a block's first line; None where it is to run."""
    return next((key for key in NOT_RUN if key[0] == page and beginning.startswith(key[1])), None)


def check_otherwise(command: Command) -> None:
    """What can be seen without running it: it is bash; what it names of ours is there."""
    subprocess.run(["bash", "-n", "-c", command.text], check=True, timeout=10)
    words = shlex.split(command.text, comments=True)
    if words[0] == "make":
        targets = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
        assert set(targets) <= make_targets(), f"make has no {targets}"
    if words[:2] == ["pip", "install"]:
        wanted = {
            extra.strip() for word in words for found in re.findall(r"\[(.*)\]", word) for extra in found.split(",")
        }
        assert wanted <= extras(), f"there are no extras {wanted - extras()}"
    if words[:2] == ["python", "-m"] and words[2].partition(".")[0] in {"benchmarks", "deploy", "docs", "tests"}:
        assert find_spec(words[2]), f"there is no module {words[2]}"
    if words[0] == "cd":
        assert (ROOT / words[1]).is_dir(), f"there is no folder {words[1]}"
    if words[0] in {"trimtab", "trimtab-server"}:
        flags = {word.partition("=")[0] for word in words if word.startswith("--")}
        known = client_flags() if words[0] == "trimtab" else server_flags()
        assert flags <= known, f"{words[0]} has no {flags - known}"


def make_targets() -> set[str]:
    """What can be made."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def extras() -> set[str]:
    """What can stand in brackets after the package's name."""
    (section,) = re.findall(
        r"^\[project\.optional-dependencies\]\n(.*?)^\[",
        (ROOT / "pyproject.toml").read_text(),
        re.DOTALL | re.MULTILINE,
    )
    return set(re.findall(r"^(\w+) = ", section, re.MULTILINE))


def client_flags() -> set[str]:
    """Every flag of every command of `trimtab`."""
    context = click.Context(group)
    below = [group.get_command(context, name) for name in group.list_commands(context)]
    commands = [group, *(each for each in below if each)]
    own = {
        flag for each in commands for parameter in each.params for flag in (*parameter.opts, *parameter.secondary_opts)
    }
    return {flag for flag in own if flag.startswith("--")} | {"--help", "--version"}


def server_flags() -> set[str]:
    """Every flag of `trimtab-server`."""
    names = [name.replace("_", "-") for name in Settings.model_fields]
    return {f"--{name}" for name in names} | {f"--no-{name}" for name in names} | {"--help", "--version"}
