"""The forms in which a call of an answer is carried out: those of the row's client, or every known one."""

from collections.abc import Iterable

from hatrain.home.calls.answer import KNOWN_FORMS, OBJECT, TEMPLATE_FORMS
from hatrain.home.clients import CLIENTS
from hatrain.home.clients.client import TEMPLATE


def accepted_forms(client: str | None, *, tools: bool) -> frozenset[str]:
    """Return the forms of a row's calls. `TEMPLATE` stands for the forms of the model's chat template."""
    if client is not None:
        return CLIENTS[client].forms
    return KNOWN_FORMS | {OBJECT} if tools else KNOWN_FORMS


def resolved_forms(forms: frozenset[str], written: Iterable[str] = ()) -> frozenset[str]:
    """Put the forms that a chat template was seen to write in the place of `TEMPLATE`; every one, if none was seen."""
    if TEMPLATE not in forms:
        return forms
    return forms - {TEMPLATE} | ((frozenset(written) & TEMPLATE_FORMS) or TEMPLATE_FORMS)
