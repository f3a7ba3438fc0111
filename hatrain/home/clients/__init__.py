"""Clients: what each program that uses a model in Home Assistant sends, and what it understands."""

from collections.abc import Mapping

from hatrain.errors import BadInput, nearest
from hatrain.home.clients.assist import Assist
from hatrain.home.clients.client import Client, Understood
from hatrain.home.clients.guide import Guide
from hatrain.home.clients.home_llm import HomeLlm
from hatrain.home.clients.home_llm_legacy import HomeLlmLegacy

__all__ = ["CLIENTS", "Client", "Understood", "find_client"]

CLIENTS: Mapping[str, Client] = {client.name: client for client in (Assist(), HomeLlm(), HomeLlmLegacy(), Guide())}
"""The default first."""


def find_client(name: str, where: str = "--client") -> Client:
    """Return a client by its name. Raises BadInput for an unknown one; `where` is who asked."""
    if name in CLIENTS:
        return CLIENTS[name]
    raise BadInput(f"{where}: found {name}; accepted: {', '.join(CLIENTS)}{nearest(name, CLIENTS)}")
