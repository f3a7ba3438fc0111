"""Tells a user what a call would do in a home, and why it cannot be done."""

from hatrain.home.calls.compare import TARGET_KEYS, Call
from hatrain.home.calls.prompt import PromptContents
from hatrain.home.judge.effects import Understand, effects


def execution_problems(call: Call, known: PromptContents, understand: Understand) -> list[str]:
    """Return why the client cannot carry out a call in the home of a prompt, one line each."""
    return [problem for _, problem in effects([call], known.devices, understand).failed]


def in_words(call: Call, known: PromptContents) -> str:
    """Describe a call for users: `turn on Kitchen Light (light.kitchen): brightness_pct 40`."""
    action = call.service.partition(".")[2] or call.service
    friendly = known.entities
    names = [f"{friendly[entity]} ({entity})" if entity in friendly else entity for entity in call.targets()]
    settings = ", ".join(f"{key} {value}" for key, value in call.arguments.items() if key not in TARGET_KEYS)
    description = f"{action.replace('_', ' ')} {' and '.join(names)}".strip()
    return f"{description}: {settings}" if settings else description
