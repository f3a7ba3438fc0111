"""A chat template's switches, such as `enable_thinking`, written into the template: the saved model then renders as it
was trained wherever it is served, and evaluation needs no switches of its own."""

import re
from collections.abc import Mapping
from typing import Any

import jinja2
from jinja2 import meta
from transformers import PreTrainedTokenizerBase
from transformers.utils import chat_template_utils

from hatrain.errors import BadInput, nearest

OFF_BY_DEFAULT = ("enable_thinking", "thinking")
"""Switches that a template may have and that are false unless the job sets them: our rows hold no thoughts."""
_NOT_SWITCHES = {"messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token", "pad_token"}
_WRITTEN = re.compile(r"(?:\{%- if \w+ is not defined %\}\{%- set \w+ = .*? %\}\{%- endif %\})+\n?")


def set_switches(tokenizer: PreTrainedTokenizerBase, switches: Mapping[str, Any]) -> None:
    """Give the switches of a tokenizer's chat template these values, and false to those OFF_BY_DEFAULT. A template that
    a run saved keeps its own values unless `switches` are given.

    A caller of `apply_chat_template` can still choose another value. Raises BadInput for a switch that the template
    does not have.
    """
    template = tokenizer.chat_template
    if isinstance(template, dict):
        known = set().union(*map(_switches, template.values()))
        _check(switches, known)
        tokenizer.chat_template = {name: _with(source, switches) for name, source in template.items()}
    elif template is not None:
        _check(switches, _switches(template))
        tokenizer.chat_template = _with(template, switches)


def _with(source: str, switches: Mapping[str, Any]) -> str:
    own = _WRITTEN.match(source)
    if own and not switches:
        return source
    source = source[own.end() :] if own else source
    known = _switches(source)
    values = {**dict.fromkeys(OFF_BY_DEFAULT, False), **switches}
    written = [
        f"{{%- if {name} is not defined %}}{{%- set {name} = {value!r} %}}{{%- endif %}}"
        for name, value in values.items()
        if name in known
    ]
    return "".join(written) + source


def _switches(source: str) -> set[str]:
    """Return the variables that a template reads and does not set."""
    try:
        environment = chat_template_utils._compile_jinja_template(source).environment
        names = meta.find_undeclared_variables(environment.parse(source))
    except jinja2.TemplateError:
        return set()  # rendering says what is wrong with it
    return {name for name in names if name not in _NOT_SWITCHES and name not in environment.globals}


def _check(switches: Mapping[str, Any], known: set[str]) -> None:
    for name in switches:
        if name not in known:
            accepted = ", ".join(sorted(known)) or "none, for the template has no switch"
            raise BadInput(f"chat_template_kwargs: found {name}; accepted: {accepted}{nearest(name, sorted(known))}")
