"""The command `trimtab completion`: what a shell needs to complete the others."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")
_NAME = "trimtab"
_VARIABLE = "_TRIMTAB_COMPLETE"
"""What click looks for in a command of this name."""
_HELP = """Print a script by which a shell completes.

Commands, options, choices and file names, in bash 4.4 or newer, zsh and fish. New shells know it; the one that you are
in does after `source` of that file.

\b
Examples:
  mkdir -p ~/.local/share/bash-completion/completions
  trimtab completion bash > ~/.local/share/bash-completion/completions/trimtab
  trimtab completion zsh > "${fpath[1]}/_trimtab"  # any folder of fpath, before compinit
  trimtab completion fish > ~/.config/fish/completions/trimtab.fish
  eval "$(trimtab completion bash)"  # for this shell alone
"""


@click.command("completion", help=_HELP, epilog="Exit codes: 0 done; 2 wrong usage.")
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion_command(context: click.Context, *, shell: str) -> None:
    """Print click's script."""
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101  # click has had all three since 8.0
    click.echo(kind(context.find_root().command, {}, _NAME, _VARIABLE).source(), nl=False)
