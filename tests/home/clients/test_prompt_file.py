"""`--prompt FILE`: the template that a person copies from an integration's settings."""

from datetime import datetime
from pathlib import Path

import pytest

from hatrain.errors import BadInput
from hatrain.home.clients import CLIENTS
from hatrain.home.clients.prompt_file import LONGEST, PromptFile
from hatrain.home.homes.scene import Device, Scene
from hatrain.home.language.grammar import Name


def device(entity_id: str, friendly: str, state: str, attributes: dict, area: str | None = None) -> Device:
    name = Name(entity_id.partition(".")[0], None, None, friendly, entity_id, "sg", ())
    text = CLIENTS["home-llm"].device_text(name.domain, {"state": state, "attributes": attributes}, "C")
    return Device(name, {"state": state, "attributes": attributes, "text": text}, area)


SCENE = Scene(
    "You run the house.",
    datetime(2026, 3, 4, 15, 7),
    [
        device("light.kitchen", "Kitchen Light", "on", {"brightness": 77, "rgb_color": (220, 20, 60)}, "Kitchen"),
        device("lock.front", "Front Door", "locked", {}),
    ],
    "en",
    {"devices": "Devices:"},
    lambda moment: "now",
)


def written(tmp_path: Path, template: str, client: str = "home-llm") -> str:
    path = tmp_path / "prompt.jinja"
    path.write_text(template, encoding="utf-8")
    return PromptFile.read(path, CLIENTS[client]).write(SCENE)


def test_it_sees_the_devices_as_the_integration_gives_them(tmp_path: Path) -> None:
    fields = "|".join(f"{{{{ d.{key} }}}}" for key in ("entity_id", "name", "state", "attributes", "area_name"))
    template = f"{{% for d in devices %}}{fields};{{% endfor %}}"
    assert written(tmp_path, template) == (
        "light.kitchen|Kitchen Light|on|['crimson (220, 20, 60)', '30%']|Kitchen;lock.front|Front Door|locked|[]|None;"
    )


def test_lines_of_devices_are_ready_made_for_the_legacy_layout(tmp_path: Path) -> None:
    assert written(tmp_path, "{{ formatted_devices }}end", "home-llm-legacy") == (
        "light.kitchen 'Kitchen Light' = on;crimson (220, 20, 60);30%\nlock.front 'Front Door' = locked\nend"
    )


def test_areas_can_be_grouped_and_devices_without_one_selected(tmp_path: Path) -> None:
    template = (
        "{% for d in devices | selectattr('area_id', 'none'): %}{{ d.name }}{% endfor %}/"
        "{% for a in devices | rejectattr('area_id', 'none') | groupby('area_name') %}{{ a.grouper }}{% endfor %}"
    )
    assert written(tmp_path, template) == "Front Door/Kitchen"


def test_the_date_is_that_of_the_row_and_space_at_the_ends_goes(tmp_path: Path) -> None:
    template = '  {{ (as_timestamp(now()) | timestamp_custom("%I:%M %p", True, "")) }} {{ now().weekday() }}\n\n'
    assert written(tmp_path, template) == "03:07 PM 2"


def test_for_assist_it_is_the_instructions_and_the_list_of_devices_follows(tmp_path: Path) -> None:
    prompt = written(tmp_path, "Be brief at {{ ha_name }}.", "assist")
    assert prompt.startswith("Be brief at Home.\nUse the tools")
    assert prompt.endswith(
        "- names: Front Door\n  domain: lock\n- names: Kitchen Light\n  domain: light\n  areas: Kitchen\n"
    )


def test_for_assist_a_template_that_lists_the_devices_is_the_whole_prompt(tmp_path: Path) -> None:
    prompt = written(tmp_path, "Here is all:\n{{ devices }}", "assist")
    assert prompt.startswith("Here is all:\n- names: Front Door") and "Use the tools" not in prompt


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("ok\n{% for d in %}", r"prompt.jinja:2: not a Jinja template"),
        (
            "ok\n{{ states('light.kitchen') }}",
            r"prompt.jinja:2: cannot render: 'states' is undefined; it may use: .*dev",
        ),
        ("{{ tools }}", r"'tools' is undefined"),
        ("{{ ''.__class__.__mro__ }}", r"prompt.jinja:1: cannot render: access to attribute '__class__'"),
        ("{{ devices[0].area_name.nothing }}", r"cannot render"),
        ("{{ 1 / 0 }}", r"cannot render: division by zero"),
        ("{% for i in range(99999) %}{{ 'x' * 99 }}{% endfor %}", rf"longer than {LONGEST:,} characters"),
        ("{{ range(10 ** 9) | list }}", r"cannot render"),
        (
            "{% for i in range(9999) %}" * 3 + "{% endfor %}" * 3,
            r"has not rendered after 2 s of processor time: it loops",
        ),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", r"cannot render"),
    ],
)
def test_what_cannot_be_rendered_is_refused_in_one_line(tmp_path: Path, template: str, expected: str) -> None:
    with pytest.raises(BadInput, match=expected) as refused:
        written(tmp_path, template)
    assert "\n" not in str(refused.value)


def test_the_guide_has_its_own_layout(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="client guide has no template; accepted with: assist, home-llm"):
        written(tmp_path, "x", "guide")
