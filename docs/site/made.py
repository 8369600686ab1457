"""The references that are made of the code when the site is built, by the names that pages call them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from docs.site import api, commands, contract, server

MAKERS: Mapping[str, Callable[[], str]] = {
    "clients": api.clients,
    "answers": api.answers,
    "errors": api.errors,
    "commands": commands.commands,
    "contract": contract.contract,
    "settings": server.settings,
    "exit-codes": server.exit_codes,
    "metrics": server.metrics,
}
