"""A reader who does all that a page says, in a folder of their own, with a real server."""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.docs_blocks import Block, Command
from tests.secure import Certificates
from trimtab.cli.server_process import ServerProcess, running_server

_ADDRESS = re.compile(r"\b(?:127\.0\.0\.1|localhost|placement):(\d+)\b")
_GRPC_PORT, _HTTP_PORT = 50051, 9095
_ASKING = {"--help", "--version", "--check-config", "--new-token", "--probe"}
"""Flags with which `trimtab-server` answers and ends."""
_SECONDS = 60
_COMMAND = """#!{python}
import sys
import trimtab.channel
trimtab.channel.DEFAULT_TARGET = {target!r}
from trimtab.cli import main
sys.argv[0] = "trimtab"
main()
"""
_DATA: dict[str, Callable[[str], Any]] = {"json": json.loads, "yaml": lambda text: list(yaml.safe_load_all(text))}


class Session:
    """The commands and the Python of a page, in order; what one makes is there for the next."""

    def __init__(self, folder: Path, server: ServerProcess, elsewhere: Path) -> None:
        """A server at its default addresses, and in the folder what an authority makes; commands lie elsewhere."""
        self.names: dict[str, Any] = {}
        """What Python's blocks have defined."""
        self._folder = folder
        self._usual = {_GRPC_PORT: server.listen, _HTTP_PORT: server.metrics}
        self._addresses = dict(self._usual)
        self._section = ""
        self._servers = contextlib.ExitStack()
        self._printed = ""
        (folder / "ca.pem").write_bytes(Certificates(folder).trusted)
        command = elsewhere / "trimtab"
        command.write_text(_COMMAND.format(python=sys.executable, target=server.listen))
        command.chmod(0o755)
        path = os.pathsep.join([str(elsewhere), str(Path(sys.executable).parent), os.environ["PATH"]])
        self._environment = {**os.environ, "PATH": path, "COLUMNS": "100", "TRIMTAB_METRICS_LISTEN": server.metrics}

    def run(self, block: Block, left_out: Callable[[Block, Command], bool]) -> None:
        """Do what a block says, but for the commands left out; anything that is not as it says fails the test."""
        if block.section != self._section:
            self.close()
            self._section = block.section
        if block.language == "console":
            for command in block.commands:
                if not left_out(block, command):
                    self._do(command, block.place)
        elif block.language == "python":
            self._printed = self._execute(block)
        elif block.language == "text":
            assert "\n$ " not in f"\n{block.text}", f"{block.place}: commands belong into a block of a console"
            if block.follows and self._printed:
                self._compare(block.text, self._printed, block.place)
        else:
            assert block.language in _DATA, f"{block.place}: no language that is checked: {block.language!r}"
            _DATA[block.language](block.text)
        if block.language != "python":
            self._printed = ""

    def close(self) -> None:
        """End the servers that the section started: at its end, as readers do."""
        self._servers.close()
        self._addresses = dict(self._usual)

    def _execute(self, block: Block) -> str:
        said = io.StringIO()
        code = compile("\n" * block.line + self._here(block.text), str(block.page), "exec")
        with contextlib.redirect_stdout(said):
            exec(code, self.names)  # noqa: S102  # our own pages
        return said.getvalue()

    def _do(self, command: Command, place: str) -> None:
        words = shlex.split(command.text, comments=True)
        if words[0] == "trimtab-server" and not _ASKING & set(words):
            self._serve(words[1:])
            return
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {self._here(command.text)}\n"],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        at = f"{place}: {command.words}"
        assert done.returncode == 0 or command.shown, f"{at}\nended with {done.returncode}:\n{done.stdout}"
        if command.shown:
            self._compare(command.shown + "\n", done.stdout, at)

    def _serve(self, flags: list[str]) -> None:
        """The one that is there, where nothing is asked of it; else one on free ports, until the section ends."""
        if not flags:
            return
        ports = {}
        for name, usual in (("--listen", _GRPC_PORT), ("--metrics-listen", _HTTP_PORT)):
            ports[name] = usual
            if name in flags:
                at = flags.index(name)
                ports[name] = int(flags[at + 1].rpartition(":")[2])
                flags = flags[:at] + flags[at + 2 :]
        with self._in_folder():
            server = self._servers.enter_context(running_server(*flags))
        self._addresses |= {ports["--listen"]: server.listen, ports["--metrics-listen"]: server.metrics}

    @contextlib.contextmanager
    def _in_folder(self) -> Iterator[None]:
        before = Path.cwd()
        os.chdir(self._folder)
        try:
            yield
        finally:
            os.chdir(before)

    def _here(self, text: str) -> str:
        return _ADDRESS.sub(lambda found: self._addresses.get(int(found[1]), found[0]), text)

    def _compare(self, shown: str, said: str, place: str) -> None:
        for port, address in self._addresses.items():
            said = said.replace(address, f"127.0.0.1:{port}")
        said = "\n".join(line.rstrip() for line in said.splitlines()) + "\n"
        same = doctest.OutputChecker().check_output(shown, said, doctest.ELLIPSIS | doctest.DONT_ACCEPT_BLANKLINE)
        assert same, f"{place}\nshows:\n{shown}\nbut says:\n{said}"
