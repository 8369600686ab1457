"""`trimtab completion`: scripts that shells take, and what the command answers them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.command import failed, ok, run
from trimtab.cli.commands import trimtab

FOLDER = Path(sys.executable).parent
"""Where the executable lies that pip made."""


def asked(*words: str) -> dict[str, str]:
    """What bash sets to ask for the last of these words."""
    return {"_TRIMTAB_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("trimtab", "do"), "plain,doctor"),
        (("trimtab", "rebalance", "--min-g"), "plain,--min-gain"),
        (("trimtab", "rebalance", "--hierarchy", "hier"), "plain,hierarchical"),
        (("trimtab", "completion", "z"), "plain,zsh"),
        (("trimtab", "pack", "loads"), "file,loads"),
        (("trimtab", "doctor", "--target", "127.0.0.1", ":", "50051", "--ca", "c"), "file,c"),
    ],
)
def test_commands_options_choices_and_files_are_completed(words: tuple[str, ...], answer: str) -> None:
    """As bash asks for them; an address is three words to bash."""
    result = CliRunner().invoke(trimtab, [], env=asked(*words))
    assert (result.exit_code, result.output) == (0, f"{answer}\n")


def test_the_installed_command_completes_every_command() -> None:
    """None is left out, and nothing else is said."""
    environment = {**os.environ, **asked("trimtab", "")}
    command = [FOLDER / "trimtab"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert result.stderr == ""
    assert result.stdout.splitlines() == [f"plain,{name}" for name in trimtab.list_commands(click.Context(trimtab))]


def test_bash_takes_the_script(tmp_path: Path) -> None:
    """It is sourced, and its function asked as bash does when Tab is pressed; files are left to bash itself."""
    script = tmp_path / "completion.bash"
    script.write_text(ok("completion", "bash"))
    press = """
        source "$1"
        complete -p trimtab
        compopt() { echo "compopt $1 $2"; }  # bash has it while Tab is pressed alone
        COMP_WORDS=(trimtab rebalance --hierarchy glo) COMP_CWORD=3 && _trimtab_completion trimtab
        echo "${COMPREPLY[@]}"
        COMP_WORDS=(trimtab pack lo) COMP_CWORD=2 && _trimtab_completion trimtab
    """
    result = subprocess.run(
        ["bash", "-ec", press, "bash", script],
        env={**os.environ, "PATH": f"{FOLDER}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    asked, choice, file = result.stdout.splitlines()
    assert asked.endswith("-F _trimtab_completion trimtab")
    assert (choice, file) == ("global", "compopt -o default")


@pytest.mark.parametrize(
    ("shell", "words"), [("zsh", "#compdef trimtab\n"), ("fish", "complete --no-files --command trimtab ")]
)
def test_the_other_shells_get_theirs(shell: str, words: str) -> None:
    """Each asks the command in its own way."""
    script = ok("completion", shell)
    assert words in script
    assert f"_TRIMTAB_COMPLETE={shell}_complete" in script


def test_other_shells_are_refused() -> None:
    """With the names of those that there are."""
    assert "'bash', 'zsh', 'fish'" in failed(run("completion", "ksh"), 2)
