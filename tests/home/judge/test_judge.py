"""The judge: strict by what would happen to the home and what is said; compatible by the community's counting."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatrain.evaluate.forms import accepted_forms, resolved_forms
from hatrain.home.calls.answer import Answer, read_answer
from hatrain.home.calls.compare import Call
from hatrain.home.calls.prompt import PromptContents
from hatrain.home.clients import CLIENTS
from hatrain.home.clients.assist_tools import READERS, TOOLS
from hatrain.home.clients.satellite_tools import SATELLITE_TOOLS
from hatrain.home.devices.entity import Entity
from hatrain.home.judge.asked import Asked
from hatrain.home.judge.judge import Case, Judgement, judge, knows_entities
from hatrain.home.judge.telling import in_words
from hatrain.home.simulation.house import House, differences
from hatrain.home.simulation.services import EFFECTS

HOME = (
    Entity("light.kitchen", "Kitchen Light", "off", area="Kitchen", floor="Ground"),
    Entity("light.counter", "Counter Light", "on", {"brightness": 102}, area="Kitchen", floor="Ground"),
    Entity("light.hall", "Hall Light", "on", {"brightness": 255, "rgb_color": [255, 0, 0]}, area="Hall"),
    Entity("fan.attic", "Attic Fan", "on", {"percentage": 40}, area="Attic"),
    Entity("cover.den", "Den Blind", "open", {"current_position": 60}, area="Den"),
    Entity("climate.den", "Den Heating", "heat", {"temperature": 21.2, "current_temperature": 19.5}, area="Den"),
    Entity("media_player.den", "Den Radio", "playing", {"volume_level": 0.4, "media_title": "Take Five"}, area="Den"),
    Entity("lock.door", "Front Door", "unlocked"),
    Entity("timer.eggs", "Egg Timer", "idle"),
    Entity("todo.shop", "Shopping", "3"),
    Entity("button.bell", "Bell", "unknown"),
    Entity("scene.movie", "Movie", "unknown"),
    Entity("scene.dinner", "Dinner", "unknown"),
)
KNOWN = PromptContents(HOME, frozenset({"light.turn_on"}))


def fence(*calls: dict | str, text: str = "Sure.") -> str:
    lines = [call if isinstance(call, str) else json.dumps(call) for call in calls]
    return "\n".join([text, "```homeassistant", *lines, "```"])


def do(service: str, target: object, **arguments: object) -> dict:
    return {"service": service, "target_device": target, **arguments}


def on(target: object = "light.kitchen", **arguments: object) -> dict:
    return do("light.turn_on", target, **arguments)


def off(target: object = "light.counter") -> dict:
    return do("light.turn_off", target)


def verdict(
    expected: str,
    said: str,
    *,
    ended: bool = True,
    known: PromptContents = KNOWN,
    client: str | None = None,
    language: str = "english",
    kind: str = "",
    asked: tuple[Asked, ...] = (),
    tools: bool = False,
) -> Judgement:
    forms = resolved_forms(accepted_forms(client, tools=tools))
    case = Case(read_answer(expected), known, client, language, kind, asked)
    return judge(case, read_answer(said, ended=ended, forms=forms))


TOOL = '<tool_call>{"name": "light.turn_on", "arguments": {"target_device": "light.kitchen"}}</tool_call>'
BOTH_ON = fence(on(), on("light.counter", brightness_pct=50))

RIGHT = {
    "the very answer": (fence(on()), fence(on())),
    "other words": (fence(on()), fence(on(), text="As you wish!")),
    "no words at all": (fence(on()), fence(on(), text="")),
    "another order of calls": (BOTH_ON, fence(on("light.counter", brightness_pct=50), on())),
    "another order of keys": (fence(on(brightness_pct=5)), fence(dict(reversed(on(brightness_pct=5).items())))),
    "one call for two lamps": (fence(off(), off("light.hall")), fence(off(["light.counter", "light.hall"]))),
    "two calls for a list": (fence(off("light.counter, light.hall")), fence(off(), off("light.hall"))),
    "two fences": (fence(on(), off()), fence(on()) + "\n" + fence(off())),
    "a colour by value": (fence(on(color_name="red")), fence(on(rgb_color=[255, 0, 0]))),
    "a colour by hue": (fence(on(color_name="red")), fence(on(hs_color=[0, 100]))),
    "a tool call in place of a fence": (fence(on()), TOOL),
    "words where words are due": ("It is off already.", "That one is off."),
    "toggle for turn on, of what is off": (fence(on()), fence(do("light.toggle", "light.kitchen"))),
    "turn off for toggle, of what is on": (fence(do("light.toggle", "light.counter")), fence(off())),
    "an area in place of its lamps": (fence(off()), fence({"service": "light.turn_off", "area_id": "kitchen"})),
    "a floor in place of its lamps": (fence(off()), fence({"service": "light.turn_off", "floor_id": "ground"})),
    "all of a domain in place of a list": (
        fence(off(["light.kitchen", "light.counter", "light.hall"])),
        fence(do("light.turn_off", "all")),
    ),
    "brightness in steps of 255": (fence(on(brightness_pct=40)), fence(on(brightness=102))),
    "brightness as a fraction": (fence(on(brightness_pct=40)), fence(on(brightness=0.4))),
    "brightness as text in percent": (fence(on(brightness_pct=40)), fence(on(brightness="40 %"))),
    "a harmless key": (fence(on(brightness_pct=40)), fence(on(brightness_pct=40, transition=2))),
    "a call that changes nothing": (fence(on()), fence(on(), on("light.counter"))),
    "the call twice": (fence(on()), fence(on(), on())),
    "a call for what is so already": ("It is on already.", fence(on("light.counter"))),
    "opening to 100 % for open": (
        fence(do("cover.open_cover", "cover.den")),
        fence(do("cover.set_cover_position", "cover.den", position=100)),
    ),
    "the volume that a step leads to": (
        fence(do("media_player.volume_up", "media_player.den")),
        fence(do("media_player.volume_set", "media_player.den", volume_level=0.5)),
    ),
    "homeassistant.turn_off": (fence(off()), fence(do("homeassistant.turn_off", "light.counter"))),
    "action for service": (fence(on()), fence({"action": "light.turn_on", "target": {"entity_id": "light.kitchen"}})),
    "action with data": (
        fence(on(brightness_pct=30)),
        fence({"action": "light.turn_on", "target": {"entity_id": "light.kitchen"}, "data": {"brightness_pct": 30}}),
    ),
    "lines that end with CRLF": (fence(on(), off()), fence(on(), off()).replace("\n", "\r\n")),
    "JSON over several lines": (fence(on()), f"Sure.\n```homeassistant\n{json.dumps(on(), indent=2)}\n```"),
    "an unclosed tool call": (fence(on()), TOOL.removesuffix("</tool_call>")),
    "a duration in parts": (
        fence(do("timer.start", "timer.eggs", duration="00:05:00")),
        fence(do("timer.start", "timer.eggs", minutes=5)),
    ),
    "items in another order": (
        fence(do("todo.add_item", "todo.shop", item="milk"), do("todo.add_item", "todo.shop", item="eggs")),
        fence(do("todo.add_item", "todo.shop", item="Eggs"), do("todo.add_item", "todo.shop", item="milk")),
    ),
    "thinking before words": ("It is off already.", f"<think>{fence(on())}</think>It is off."),
}

WRONG = {
    "another device": (fence(on()), fence(on("fan.attic")), "cannot be carried out"),
    "another lamp": (fence(off()), fence(off("light.hall")), "light.counter: state is on, should be off"),
    "another service": (fence(on()), fence({**on(), "service": "light.turn_off"}), "state is off, should be on"),
    "another value": (fence(on(brightness_pct=5)), fence(on(brightness_pct=50)), "brightness is 127.5"),
    "a value too many": (fence(on()), fence(on(brightness_pct=50)), "brightness"),
    "a value too few": (fence(on(brightness_pct=50)), fence(on()), "brightness is not set"),
    "another colour": (fence(on(color_name="red")), fence(on(color_name="blue")), "rgb_color"),
    "a call too many": (fence(on()), fence(on(), off()), "light.counter: state is off, should be on"),
    "a call too few": (fence(on(), off()), fence(on()), "light.counter: state is on, should be off"),
    "toggle of what is on, for on": (
        fence(on("light.counter", brightness_pct=80)),
        fence(do("light.toggle", "light.counter")),
        "state is off",
    ),
    "a wider area than was meant": (
        fence(off()),
        fence({"service": "light.turn_off", "area_id": ["kitchen", "hall"]}),
        "light.hall: state is off",
    ),
    "an entity that does not exist, beside the call": (
        fence(on()),
        fence(on(), on("light.cellar")),
        "light.cellar: not in this home",
    ),
    "a key that Home Assistant refuses": (fence(on()), fence(on(britness=3)), "britness is not one of its arguments"),
    "two colours at once": (
        fence(on(color_name="red")),
        fence(on(color_name="red", rgb_color=[0, 0, 255])),
        "accepted: one of them",
    ),
    "21 for 21.2 degrees": (
        fence(do("climate.set_temperature", "climate.den", temperature=22.2)),
        fence(do("climate.set_temperature", "climate.den", temperature=22)),
        "temperature is 22, should be 22.2",
    ),
    "words where a call is due": (fence(on()), "Sure.", "state is off, should be on"),
    "a call where words are due": ("It is off already.", fence(on()), "state is on, should be off"),
    "nothing where words are due": ("It is off already.", " \n", "is empty"),
    "nothing where a call is due": (fence(on()), "", "is empty"),
    "an empty fence where words are due": ("No.", "```homeassistant\n```", "has an empty block of calls"),
    "an empty fence where a call is due": (fence(on()), "```homeassistant\n```", "has an empty block of calls"),
    "an open fence": (fence(on()), fence(on()).removesuffix("```"), "open"),
    "an open fence alone": ("No.", "```homeassistant", "open"),
    "an open tool call that is not whole": ("No.", '<tool_call>{"name": "light.turn_on", "argu', "open"),
    "broken JSON": (fence(on()), fence("{'service': 'light.turn_on'}"), "not a call in valid JSON"),
    "broken JSON beside the call": (fence(on()), fence(on(), "{"), "not a call in valid JSON"),
    "JSON that is no call": (fence(on()), fence('{"target_device": "light.kitchen"}'), "not a call"),
    "NaN, which is no JSON": (
        fence(on(brightness_pct=5)),
        fence('{"service": "light.turn_on", "target_device": "light.kitchen", "brightness_pct": NaN}'),
        "not a call in valid JSON",
    ),
    "a call in a fence of another kind": ("No.", fence(on()).replace("homeassistant", "json"), "does not read"),
    "a call in a fence without a kind": ("No.", fence(on()).replace("homeassistant", ""), "does not read"),
    "a bare object with a service": ("No.", json.dumps(on()), "does not read"),
    "a bare object with a tool's name": ("No.", '{"name": "HassTurnOn", "arguments": {"name": "Bell"}}', "not read"),
    "a bare object among words": ("No.", f"Sure: {json.dumps(on())}", "does not read"),
    "a bare object where its call is due": (fence(on()), json.dumps(on()), "does not read"),
    "the call inside thinking alone": (fence(on()), f"<think>{fence(on())}</think>Sure.", "should be on"),
    "thinking that never ends": ("No.", "<think>The light is off, so", "is empty"),
    "a button pressed twice": (
        fence(do("button.press", "button.bell")),
        fence(do("button.press", "button.bell"), do("button.press", "button.bell")),
        "not expected: button.bell press",
    ),
    "scenes in another order": (
        fence(do("scene.turn_on", "scene.movie"), do("scene.turn_on", "scene.dinner")),
        fence(do("scene.turn_on", "scene.dinner"), do("scene.turn_on", "scene.movie")),
        "another order",
    ),
    "another item": (
        fence(do("todo.add_item", "todo.shop", item="milk")),
        fence(do("todo.add_item", "todo.shop", item="silk")),
        "missing: todo.shop add item (item milk)",
    ),
    "a timer that runs for another time": (
        fence(do("timer.start", "timer.eggs", duration="00:05:00")),
        fence(do("timer.start", "timer.eggs", duration="00:50:00")),
        "remaining is 3000, should be 300",
    ),
}


@pytest.mark.parametrize("case", RIGHT)
def test_what_does_what_was_due_is_right(case):
    judged = verdict(*RIGHT[case])
    assert judged.strict, judged.problems


@pytest.mark.parametrize("case", WRONG)
def test_what_does_anything_else_is_wrong_and_says_why(case):
    expected, said, reason = WRONG[case]
    judged = verdict(expected, said)
    assert not judged.strict
    assert any(reason in problem for problem in judged.problems), judged.problems
    assert all("\n" not in problem for problem in judged.problems)


@pytest.mark.parametrize("expected", [fence(on()), "It is off already."])
@pytest.mark.parametrize("said", [fence(on()), "It is off already.", "la la la la", ""])
def test_an_answer_that_does_not_end_gets_its_zero(expected, said):
    assert "does not end" in verdict(expected, said, ended=False).problems


def test_the_earlier_strict_measure_is_kept_beside_the_new_one():
    judged = verdict(fence(on()), fence(do("light.toggle", "light.kitchen")))
    assert (judged.strict, judged.same_calls) == (True, False)
    judged = verdict("There is no such lamp.", "Done!", kind="missing")
    assert (judged.strict, judged.same_calls) == (False, True)
    assert verdict(fence(on(), off()), fence(off(), on())).same_calls


# --- clients ------------------------------------------------------------------------------------------------

LEGACY = "home-llm-legacy"
SINGLE = fence(on()) + "\n" + fence(off(), text="")


@pytest.mark.parametrize(
    ("client", "said", "right"),
    [
        (LEGACY, SINGLE, True),
        (LEGACY, fence(on(), off()), False),  # it reads one call of a fence
        (LEGACY, SINGLE.removesuffix("```"), True),  # and does not need its end
        (LEGACY, SINGLE.replace("service", "action"), False),
        (LEGACY, f"<tool_call>{json.dumps(on())}</tool_call><tool_call>{json.dumps(off())}</tool_call>", False),
        ("guide", fence(on(), off()), True),
        ("guide", fence(on(), off()).removesuffix("```"), False),
    ],
)
def test_only_the_forms_that_the_client_reads_are_calls(client, said, right):
    assert verdict(fence(on(), off()), said, client=client).strict is right


@pytest.mark.parametrize(
    ("client", "arguments", "right"),
    [
        (LEGACY, {"brightness": 102}, True),
        (LEGACY, {"brightness": 0.4}, True),
        (LEGACY, {"brightness_pct": 40}, False),
        ("guide", {"brightness_pct": 40}, True),
        (None, {"brightness_pct": 40}, True),
    ],
)
def test_only_the_keys_that_the_client_takes_do_anything(client, arguments, right):
    expected = fence(on(brightness=102))
    judged = verdict(expected, fence(on(**arguments)), client=client)
    assert judged.strict is right
    assert judged.executed_calls == int(right)


TURN_ON = '<tool_call>{"name": "HassTurnOn", "arguments": %s}</tool_call>'


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        ('{"name": "Kitchen Light"}', True),
        ('{"name": "kitchen light", "domain": ["light"]}', True),
        ('{"area": "Kitchen", "domain": ["light"]}', True),  # the other lamp there is on already
        ('{"floor": "Ground", "domain": "light"}', True),
        ('{"name": "Counter Light"}', False),
        ('{"area": "Den", "domain": ["light"]}', False),
        ('{"name": "Kitchen Light", "colour": "red"}', False),
    ],
)
def test_a_tool_call_is_judged_by_the_entities_that_the_client_would_find(arguments, right):
    expected = TURN_ON % '{"name": "Kitchen Light"}'
    assert verdict(expected, TURN_ON % arguments, client="assist").strict is right


TOOL_CALL = '<tool_call>{"name": "%s", "arguments": %s}</tool_call>'


def tool(called: str, /, **arguments: object) -> str:
    return TOOL_CALL % (called, json.dumps(arguments))


SAME_EVENT = [
    (tool("HassStartTimer", minutes=90), tool("HassStartTimer", hours=1, minutes=30)),
    (tool("HassStartTimer", minutes=1), tool("HassStartTimer", seconds="60")),
    (tool("HassStartTimer", minutes=5, name="Pizza"), tool("HassStartTimer", name="pizza", seconds=300)),
    (tool("HassStartTimer", minutes=5, name="pizza "), tool("HassStartTimer", minutes=5, name="pizza", hours=0)),
    (
        tool("HassStartTimer", minutes=5, conversation_command="turn off the fan"),
        tool("HassStartTimer", minutes=5, conversation_command="Turn off the fan."),
    ),
    (tool("HassCancelTimer", start_minutes=10), tool("HassCancelTimer", start_seconds=600)),
    (tool("HassPauseTimer", area="Kitchen"), tool("HassPauseTimer", area="kitchen")),
    (tool("HassBroadcast", message="Dinner is ready"), tool("HassBroadcast", message="dinner is  ready!")),
    (tool("HassTimerStatus", name="Tea"), tool("HassTimerStatus", name="tea")),
    (tool("HassTimerStatus", name="Tea"), tool("HassTimerStatus")),
    (tool("HassTimerStatus"), tool("HassTimerStatus") + tool("HassTimerStatus", name="tea")),
    (
        tool("HassStartTimer", minutes=5, name="a") + tool("HassStartTimer", minutes=6, name="b"),
        tool("HassStartTimer", minutes=6, name="b") + tool("HassStartTimer", minutes=5, name="a"),
    ),
]
OTHER_EVENT = [
    (tool("HassStartTimer", minutes=5), tool("HassStartTimer", minutes=6), "not expected: start timer (duration 360)"),
    (tool("HassStartTimer", minutes=5), tool("HassStartTimer", hours=5), "missing: start timer (duration 300)"),
    (tool("HassStartTimer", minutes=5), tool("HassStartTimer", minutes=5) * 2, "not expected: start timer"),
    (tool("HassStartTimer", minutes=5), tool("HassStartTimer", minutes=5, name="egg"), "duration 300, name egg"),
    (tool("HassStartTimer", minutes=5, name="egg"), tool("HassStartTimer", minutes=5, name="tea"), "name tea"),
    (
        tool("HassStartTimer", minutes=5, conversation_command="turn off the fan"),
        tool("HassStartTimer", minutes=5, conversation_command="turn on the fan"),
        "conversation_command turn on the fan",
    ),
    (tool("HassStartTimer", minutes=5), "I've started it.", "missing: start timer"),
    (tool("HassCancelTimer", name="egg"), tool("HassCancelAllTimers"), "not expected: cancel all timers"),
    (tool("HassPauseTimer"), tool("HassUnpauseTimer"), "not expected: unpause timer"),
    (tool("HassIncreaseTimer", minutes=5), tool("HassDecreaseTimer", minutes=5), "missing: increase timer"),
    (tool("HassIncreaseTimer", minutes=5), tool("HassStartTimer", minutes=5), "missing: increase timer"),
    (tool("HassCancelTimer", start_minutes=10), tool("HassCancelTimer", start_hours=10), "started with 600"),
    (tool("HassBroadcast", message="Dinner is ready"), tool("HassBroadcast", message="Dinner is cold"), "is cold"),
    (tool("HassTimerStatus"), "Five minutes.", "missing: a look at timers"),
    (tool("HassTimerStatus", name="tea"), tool("HassTimerStatus", name="egg"), "missing: a look at timers (name tea)"),
    (tool("HassTimerStatus"), tool("HassTimerStatus", name="egg"), "missing: a look at timers"),
    ("There is none.", tool("HassStartTimer", minutes=5), "not expected: start timer"),
    (tool("HassStartTimer", minutes=5), tool("HassStartTimer", name="tea"), "cannot be carried out"),
]


@pytest.mark.parametrize("client", ["assist", "home-llm", None])
@pytest.mark.parametrize(("expected", "said"), SAME_EVENT)
def test_the_same_timer_or_message_in_other_words_is_right(client, expected, said):
    assert verdict(expected, said, client=client).problems == ()


@pytest.mark.parametrize("client", ["assist", "home-llm"])
@pytest.mark.parametrize(("expected", "said", "reason"), OTHER_EVENT)
def test_another_timer_or_message_is_wrong_and_says_why(client, expected, said, reason):
    judged = verdict(expected, said, client=client)
    assert not judged.strict
    assert reason in " ".join(judged.problems)


def test_a_timer_counts_as_carried_out_and_its_name_is_no_device():
    said = tool("HassStartTimer", minutes=5, name="pizza")
    judged = verdict(said, said, client="assist")
    assert (judged.calls, judged.executed_calls, judged.targeted_calls) == (1, 1, 0)
    assert judged.same_calls


def test_a_timer_beside_a_lamp_is_judged_with_it():
    both = tool("HassTurnOn", name="Kitchen Light") + tool("HassStartTimer", minutes=5)
    assert verdict(both, both, client="assist").strict
    lamp = verdict(both, tool("HassTurnOn", name="Kitchen Light"), client="assist")
    assert lamp.problems == ("missing: start timer (duration 300)",)


@pytest.mark.parametrize("client", ["guide", LEGACY])
def test_a_client_without_satellites_has_no_broadcast(client):
    judged = verdict("No.", tool("HassBroadcast", message="Hi"), client=client)
    assert judged.executed_calls == 0 and not judged.strict


def test_a_bare_object_is_a_call_where_the_models_own_template_writes_it_so():
    said = '{"name": "HassTurnOn", "parameters": {"name": "Kitchen Light"}}'
    assert verdict(said, said, client="assist").strict
    assert verdict(said, said, tools=True).strict
    assert not verdict(said, said).strict
    assert not verdict(said, said, client=LEGACY).strict


def test_an_answer_that_should_look_first_and_guesses_is_wrong():
    look = '<tool_call>{"name": "GetLiveContext", "arguments": {"name": "Front Door"}}</tool_call>'
    asked = (Asked("lock.door", "state", "unlocked"),)
    assert verdict(look, look, client="assist", asked=asked).strict
    wrong = verdict(look, "It is unlocked.", client="assist", asked=asked)
    assert wrong.problems == ("missing: a look at lock.door",)


def test_every_client_judges_its_own_noise_without_an_error():
    for client in CLIENTS:
        for said in (
            "",
            "{",
            '<tool_call>{"name": "HassTurnOn", "arguments": {"name": 3}}</tool_call>',
            fence(on([1])),
        ):
            assert not verdict(fence(on()), said, client=client).strict


# --- homes that a prompt does not list -----------------------------------------------------------------------


def test_without_devices_the_calls_themselves_say_which_entities_there_are():
    known = PromptContents()
    assert verdict(fence(on("light.a")), fence(on("light.a")), known=known).strict
    assert not verdict(fence(on("light.a")), fence(on("light.b")), known=known).strict
    assert not verdict(fence(do("light.toggle", "light.a")), fence(on("light.a")), known=known).strict


@pytest.mark.parametrize("known", [KNOWN, PromptContents()])
def test_services_that_the_simulated_home_does_not_know_are_compared_as_written(known):
    popup = {"service": "browser_mod.popup", "title": "Hi"}
    assert verdict(fence(popup), fence(popup), known=known).strict
    judged = verdict(fence(popup), fence({**popup, "title": "Ho"}), known=known)
    assert [problem.partition(":")[0] for problem in judged.problems] == ["missing", "cannot be carried out"]


# --- words ---------------------------------------------------------------------------------------------------

NO_LAMP = "I can't find the cellar lamp."


@pytest.mark.parametrize("kind", ["missing", "already", ""])
@pytest.mark.parametrize(
    "said", ["Done.", "Turning on the cellar lamp.", "I've turned it on.", "Okay, all set!", "It has been turned on."]
)
def test_a_refusal_that_says_done_is_wrong(kind, said):
    judged = verdict(NO_LAMP, said, kind=kind)
    assert judged.problems == ("says that it is done, and nothing was done",)


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("de", "Erledigt."),
        ("german", "Ich schalte die Lampe im Keller an."),
        ("fr", "C'est fait."),
        ("es", "Enciendo la lámpara del sótano."),
        ("pl", "Włączam lampę w piwnicy."),
    ],
)
def test_a_false_claim_is_known_in_every_language(language, said):
    assert not verdict("Hm.", said, kind="missing", language=language).strict


@pytest.mark.parametrize(
    "said", ["There is no cellar lamp here.", "Sorry, I don't know that lamp.", "I can't do that, nothing was done."]
)
def test_a_refusal_in_other_words_is_right(said):
    assert verdict(NO_LAMP, said, kind="missing").strict


def test_words_that_go_with_a_call_are_no_false_claim():
    assert verdict("It is on already.", fence(on("light.counter"), text="Turning it on."), kind="already").strict


def test_words_in_a_language_without_a_folder_are_not_judged():
    assert verdict(NO_LAMP, "Done.", kind="missing", language="unnamed").strict


def test_a_question_is_answered_by_its_value_and_by_no_call():
    asked = (Asked("light.hall", "state", "on"),)
    assert verdict("It is on.", "The hall light is on.", asked=asked, kind="status").answered == 1
    lie = verdict("It is on.", "The hall light is off.", asked=asked, kind="status")
    assert (lie.strict, lie.questions, lie.answered) == (False, 1, 0)
    assert lie.problems == ('light.hall: state is "on", the answer says off',)
    called = verdict("It is on.", fence(off("light.hall"), text="It is on."), asked=asked, kind="status")
    assert called.problems == ("light.hall: state is off, should be on",)


COMPATIBLE = [
    # expected, said, points, possible points, colour mismatches
    (fence(on()), fence(on()), 1, 1, 0),
    (fence(on(), on("light.hall")), fence(on("light.hall")), 1, 2, 0),
    (fence(on()), fence(on(), on("light.hall"), on("light.den")), 1, 1, 0),
    (fence(on()), fence("{", on()), 1, 1, 0),
    (fence(on()), "Sure.", 0, 1, 0),
    ("No.", "No, sorry.", 1, 1, 0),
    ("No.", fence(on()), 0, 1, 0),
    ("No.", "", 0, 1, 0),
    ("No.", "```homeassistant\n```", 0, 1, 0),
    (fence(on(rgb_color=[1, 2, 3])), fence(on(rgb_color=[9, 9, 9])), 1, 1, 1),
    (fence(on(color_name="red")), fence(on(color_name="blue")), 1, 1, 1),
    (fence(on(color_name="red", brightness_pct=5)), fence(on(color_name="red", brightness_pct=6)), 0, 1, 0),
    (fence(on(color_name="red")), fence(on()), 0, 1, 0),
    (fence(on(rgb_color=[1, 2, 3])), fence(on(rgb_color=[4, 4, 4]), on(rgb_color=[5, 5, 5])), 1, 1, 1),
    # Compared key by key, not by meaning: the published figures are made so.
    (fence(on(brightness_pct=40)), fence(on(brightness_pct=40.0)), 1, 1, 0),
    (fence(on(brightness_pct=40)), fence(on(brightness_pct="40")), 0, 1, 0),
    (fence(on("light.a"), on("light.b")), fence(on(["light.a", "light.b"])), 0, 2, 0),
]


@pytest.mark.parametrize(("expected", "said", "points", "possible", "mismatches"), COMPATIBLE)
def test_compatible_points_are_counted_as_published_figures_count_them(expected, said, points, possible, mismatches):
    judged = verdict(expected, said)
    assert (judged.points, judged.possible_points, judged.color_mismatches) == (points, possible, mismatches)


def test_endless_words_are_no_silence_but_a_call_among_them_keeps_its_point():
    assert verdict("No.", "no no no", ended=False).points == 0
    assert verdict(fence(on()), fence(on()) + " no no", ended=False).points == 1


def test_rates_count_lines_entities_and_services():
    judged = verdict(
        fence(on()),
        fence(on(), on("light.nowhere"), {"service": "light.explode", "target_device": "fan.attic"}, "{"),
    )
    assert (judged.lines, judged.valid_lines) == (4, 3)
    assert (judged.targeted_calls, judged.known_targets) == (3, 2)
    assert (judged.called_services, judged.known_services) == (3, 2)
    assert (judged.calls, judged.executed_calls) == (3, 1)


def test_where_a_prompt_lists_nothing_nothing_counts_as_unknown():
    judged = verdict(fence(on()), fence(on()), known=PromptContents())
    assert (judged.targeted_calls, judged.called_services) == (0, 0)
    assert judged.strict


def test_a_tool_may_name_a_device_by_its_id_or_by_its_name_in_any_case():
    expected = Answer("", (Call("HassTurnOn", {"name": "Kitchen Light"}),), blocks=1)
    for name, right in {"light.kitchen": True, "kitchen light": True, "Den Radio": False, "cellar": False}.items():
        said = Answer("", (Call("HassTurnOn", {"name": name}),), blocks=1)
        judged = judge(Case(expected, KNOWN), said)
        assert judged.strict is judged.same_calls is right
        assert knows_entities(said.calls[0], KNOWN) is (name != "cellar")


def test_a_call_reads_as_a_person_would_say_it():
    assert in_words(Call("light.turn_on", {"target_device": "light.kitchen", "brightness_pct": 40}), KNOWN) == (
        "turn on Kitchen Light (light.kitchen): brightness_pct 40"
    )
    assert in_words(Call("HassGetState", {}), KNOWN) == "HassGetState"


SETTINGS = st.one_of(
    *(
        st.builds(lambda value, key=key, entity=entity, service=service: do(service, entity, **{key: value}), values)
        for service, entity, key, values in [
            ("light.turn_on", "light.kitchen", "brightness_pct", st.integers(1, 100)),
            ("light.turn_on", "light.hall", "color_name", st.sampled_from(["red", "blue", "lime"])),
            ("fan.set_percentage", "fan.attic", "percentage", st.integers(1, 100)),
            ("cover.set_cover_position", "cover.den", "position", st.integers(0, 100)),
            ("climate.set_temperature", "climate.den", "temperature", st.integers(16, 26)),
            ("media_player.volume_set", "media_player.den", "volume_level", st.sampled_from([0.1, 0.25, 0.9])),
            ("todo.add_item", "todo.shop", "item", st.sampled_from(["milk", "eggs"])),
        ]
    )
)
ONE_EACH = st.lists(SETTINGS, min_size=1, max_size=5, unique_by=lambda call: call["target_device"])


@given(ONE_EACH, st.randoms(use_true_random=False))
def test_the_order_of_calls_for_different_entities_never_matters(calls, random):
    judged = verdict(fence(*calls), fence(*random.sample(calls, len(calls))))
    assert judged.strict and judged.same_calls
    assert judged.points == judged.possible_points == len(calls)


@given(ONE_EACH, ONE_EACH)
def test_what_is_right_goes_both_ways_and_the_same_calls_are_always_right(one, other):
    forth, back = verdict(fence(*one), fence(*other)), verdict(fence(*other), fence(*one))
    assert forth.strict == back.strict
    assert forth.strict or not forth.same_calls


@given(ONE_EACH)
def test_an_answer_without_a_call_is_right_only_where_the_calls_change_nothing(calls):
    house = House(HOME)
    assert (
        house.apply_all(Call(call["service"], {k: v for k, v in call.items() if k != "service"}) for call in calls)
        == []
    )
    changed = bool(differences(House(HOME).end(), house.end()))
    assert verdict(fence(*calls), "Sure.", language="").strict is not changed


FRAGMENTS = [
    "```homeassistant\n",
    "```",
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "{",
    "}",
    "\n",
    fence(on()),
]
NOISE = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5)).map("".join)


@given(NOISE, st.booleans())
def test_whatever_a_model_says_is_judged_without_an_error(said, ended):
    for expected in (fence(on()), "No."):
        judged = verdict(expected, said, ended=ended)
        assert judged.strict == (not judged.problems)
        assert 0 <= judged.points <= judged.possible_points
        assert judged.valid_lines <= judged.lines


@pytest.mark.parametrize("noise", ["[" * 100_000, "{" * 50_000, '{"a":' * 5_000, "9" * 10_000])
def test_noise_of_any_depth_is_judged(noise):
    assert not verdict(fence(on()), fence(noise)).strict
    assert not verdict(fence(on()), f"<tool_call>{noise}</tool_call>").strict


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 300) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
SERVICE = st.sampled_from(sorted([*EFFECTS, *TOOLS, *SATELLITE_TOOLS, *READERS])) | st.text(max_size=8)
KEY = st.sampled_from(
    [
        *("name", "area", "floor", "domain", "device_class", "entity_id", "target_device", "target", "area_id"),
        *("brightness", "rgb_color", "color", "temperature", "position", "volume_step", "search_query", "item"),
        *("duration", "hours", "percentage", "is_volume_muted", "hvac_mode", "data"),
        *("start_minutes", "message", "conversation_command", "mode", "humidity"),
    ]
)
NAMED = st.sampled_from([entity.entity_id for entity in HOME] + ["Kitchen Light", "all", "Kitchen"])
ANY_CALL = st.builds(Call, SERVICE, st.dictionaries(KEY, JSON | NAMED, max_size=4))


@pytest.mark.parametrize("client", [*CLIENTS, None])
@given(st.lists(ANY_CALL, max_size=3), st.lists(ANY_CALL, max_size=2))
def test_every_client_judges_any_call_without_an_error(client, made, due):
    case = Case(Answer("", tuple(due), blocks=1), KNOWN, client, "english")
    judged = judge(case, Answer("", tuple(made), blocks=1))
    assert judged.executed_calls <= judged.calls == len(made)
    assert all("\n" not in problem for problem in judged.problems if "{" not in problem)
