"""What people say that is about no device, as talk and timers, and what they ask about many devices."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """The placeholders that a request must use, and those that an answer may use."""

    asked: tuple[str, ...] = ()
    said: tuple[str, ...] = ()


TALK: dict[str, Topic] = {
    "hello": Topic(),
    "thanks": Topic(),
    "who": Topic(),
    "help": Topic(),
    "nevermind": Topic(),
    "time": Topic(said=("time",)),
    "date": Topic(said=("date",)),
    "broadcast": Topic(("message",), said=("message",)),
    "later": Topic(("request", "duration"), said=("duration",)),
    "when": Topic(("request",)),
    "if above": Topic(("request", "temperature", "room"), said=("temperature", "room")),
    "if below": Topic(("request", "temperature", "room"), said=("temperature", "room")),
}
"""Topics of talk.txt. `later`: a request with a delay; `when`: one that waits for something, which no client does;
`if …`: one with a condition that can be checked now, answered where it does not hold."""

TIMERS: dict[str, Topic] = {
    "start": Topic(("duration",), said=("duration",)),
    "start named": Topic(("duration", "label"), said=("duration", "label")),
    "pause": Topic(("timer",), said=("timer",)),
    "resume": Topic(("timer",), said=("timer",)),
    "cancel": Topic(("timer",), said=("timer",)),
    "increase": Topic(("timer", "duration"), said=("timer", "duration")),
    "decrease": Topic(("timer", "duration"), said=("timer", "duration")),
    "status": Topic(("timer",), said=("timer", "remaining")),
    "cancel all": Topic(),
    "cancel all room": Topic(("room",), said=("room",)),
}
"""Topics of timers.txt: the timers of a voice satellite, which are no entities."""

TOPICS: dict[str, dict[str, Topic]] = {"talk.txt": TALK, "timers.txt": TIMERS}

GROUP_QUESTIONS: dict[str, tuple[str, ...]] = {
    "any": ("yes", "no"),
    "all": ("yes", "no"),
    "which": ("some", "none"),
    "count": ("some", "none"),
    "there": (),
}
"""Questions about several things, and their answers. `there` ("is there smoke?") has those of `any`."""

GROUP_ANSWERS: tuple[str, ...] = tuple(f"{key} {kind}" for key, kinds in GROUP_QUESTIONS.items() for kind in kinds)
