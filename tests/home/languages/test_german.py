"""German: cases, genders, compounds, contractions, numbers and dates."""

from datetime import datetime

import pytest

from hatrain.home.generate.dataset import Chunks, Recipe
from hatrain.home.language.grammar import Name, Reference, name_known_device, several
from hatrain.home.language.load import Language, find_language, load_language
from hatrain.home.language.split import split_names

GERMAN = load_language(find_language("german"))


def named(friendly: str) -> Name:
    return next(name for name in GERMAN.names if name.friendly == friendly)


def fill(template: str, *names: str, **values: object) -> str:
    """Fill a template with the usual reference to each device, and finish the sentence."""
    references = [named(name).references[0] for name in names]
    device = references[0] if len(references) == 1 else several(GERMAN.grammar, references)
    return GERMAN.grammar.rules.finish(template.format_map({"device": device, **values}))


@pytest.mark.parametrize(
    ("name", "forms"),
    {
        "Deckenlampe Küche": {
            "base": "Deckenlampe in der Küche",
            "nom": "die Deckenlampe in der Küche",
            "acc": "die Deckenlampe in der Küche",
            "dat": "der Deckenlampe in der Küche",
            "gen": "der Deckenlampe in der Küche",
            "keinen": "keine Deckenlampe in der Küche",
        },
        "Wasserkocher Büro": {
            "nom": "der Wasserkocher im Büro",
            "acc": "den Wasserkocher im Büro",
            "dat": "dem Wasserkocher im Büro",
            "gen": "des Wasserkochers im Büro",
            "keinen": "keinen Wasserkocher im Büro",
        },
        "Kaffeevollautomat Küche": {
            "nom": "der Kaffeevollautomat in der Küche",
            "acc": "den Kaffeevollautomaten in der Küche",
            "dat": "dem Kaffeevollautomaten in der Küche",
            "gen": "des Kaffeevollautomaten in der Küche",
        },
        "Vorhänge Büro": {
            "nom": "die Vorhänge im Büro",
            "dat": "den Vorhängen im Büro",
            "gen": "der Vorhänge im Büro",
            "keinen": "keine Vorhänge im Büro",
        },
        "Garagentor links": {
            "nom": "das Garagentor links",
            "dat": "dem Garagentor links",
            "gen": "des Garagentors links",
        },
        "Terrassenlampe": {
            "base": "Terrassenlampe",
            "dat": "der Terrassenlampe",
            "gen": "der Terrassenlampe",
        },
        "Wohnzimmerfernseher": {"acc": "den Wohnzimmerfernseher", "gen": "des Wohnzimmerfernsehers"},
        "Bibliotheksrollos": {"nom": "die Bibliotheksrollos", "dat": "den Bibliotheksrollos"},
    }.items(),
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_a_device_is_declined(name: str, forms: dict[str, str]) -> None:
    forms = named(name).references[0]
    assert {form: forms[form] for form in forms} == forms


def test_masculine_and_neuter_nouns_have_a_genitive_of_their_own() -> None:
    for noun in GERMAN.nouns:
        if noun.proper:
            continue  # "von Lukas"
        if noun.cls in ("m", "n"):
            assert noun.forms["gen"] != noun.base and noun.forms["gen"].split()[0].endswith(("s", "n")), noun
        else:
            assert noun.forms["gen"] == noun.base, noun


def test_plurals_have_a_dative_in_n_or_s() -> None:
    plurals = [noun for noun in GERMAN.nouns if noun.cls == "pl"]
    assert len(plurals) >= 10
    assert all(noun.forms["dat"].endswith(("n", "s")) for noun in plurals)


def test_a_compound_is_referred_to_as_one_word_or_by_its_room() -> None:
    usual, other = named("Küchenlampe").references
    assert usual["dat"] == "der Küchenlampe"
    assert other["dat"] == "der Lampe in der Küche"
    assert named("Küchenlampe").entity_id == "light.kuchenlampe"


def test_one_thing_in_one_room_is_on_one_side_under_all_its_names() -> None:
    sides = {
        side: {
            (name.domain, name.noun.base, name.room.base)
            for name in split_names(GERMAN.names, side)
            if name.noun and name.room
        }
        for side in ("train", "test")
    }
    assert len(sides["test"]) > 300
    assert not set(sides["train"]) & set(sides["test"])


@pytest.mark.parametrize(
    ("template", "name", "expected"),
    [
        ("von {device[dat]}", "Wohnzimmerfernseher", "vom Wohnzimmerfernseher"),
        ("Von {device[dat]}", "Wohnzimmerfernseher", "Vom Wohnzimmerfernseher"),
        ("bei {device[dat]}", "Küchenthermostat", "beim Küchenthermostat"),
        ("zu {device[dat]} hinzu", "Einkaufsliste", "zur Einkaufsliste hinzu"),
        ("zu {device[dat]} hinzu", "Einkaufszettel", "zum Einkaufszettel hinzu"),
        ("an {device[dat]}", "Küchenheizkörper", "am Küchenheizkörper"),
        ("von {device[dat]}", "Küchenlampe", "von der Küchenlampe"),
        ("mach mit {device[dat]} das Gegenteil von dem, was ist", "Küchenlampe",
         "mach mit der Küchenlampe das Gegenteil von dem, was ist"),
    ],
)  # fmt: skip
def test_prepositions_and_articles_are_contracted(template: str, name: str, expected: str) -> None:
    assert fill(template, name) == expected


@pytest.mark.parametrize(
    ("template", "singular", "plural"),
    [
        ("{device[nom]} {device[ist]} an", "die Küchenlampe ist an", "die Küchenlampen sind an"),
        ("{device[nom]} leuchte{device[et]}", "die Küchenlampe leuchtet", "die Küchenlampen leuchten"),
        ("{device[nom]} brenn{device[t]}", "die Küchenlampe brennt", "die Küchenlampen brennen"),
        ("mach {device[ihn]} aus", "mach sie aus", "mach sie aus"),
    ],
)
def test_verbs_agree_in_number(template: str, singular: str, plural: str) -> None:
    assert fill(template, "Küchenlampe") == singular
    assert fill(template, "Küchenlampen") == plural


def test_pronouns_agree_in_gender() -> None:
    assert [
        fill("schalt {device[ihn]} ab", name) for name in ("Wohnzimmerfernseher", "Küchenlampe", "Küchenlicht")
    ] == ["schalt ihn ab", "schalt sie ab", "schalt es ab"]


def test_devices_named_together_are_each_declined() -> None:
    assert (
        fill("die Helligkeit von {device[dat]}", "Küchenlampe", "Deckenfluter Büro", "Vorhänge Büro")
        == "die Helligkeit von der Küchenlampe, dem Deckenfluter im Büro und den Vorhängen im Büro"
    )
    assert fill("{device[nom]} {device[ist]} an", "Küchenlampe", "Küchenlicht").endswith("sind an")


@pytest.mark.parametrize(
    ("slot", "value", "expected"),
    [
        ("temperature", 21.5, "21,5 Grad"),
        ("temperature", 20, "20 °C"),
        ("brightness", 40, "40 %"),
        ("brightness", 40, "40 Prozent"),
        ("count", 1, "1 Sache"),
        ("count", 3, "3 Sachen"),
        ("duration", "00:01:00", "1 Minute"),
        ("duration", "00:22:00", "22 Minuten"),
        ("duration", "01:45:00", "1 Stunde und 45 Minuten"),
        ("duration", "00:00:15", "15 Sekunden"),
        ("duration", "00:15:00", "eine Viertelstunde"),
    ],
)
def test_values_have_decimal_commas_and_plurals(slot: str, value: object, expected: str) -> None:
    assert expected in [forms["base"] for forms in GERMAN.values.wordings(slot, value, "C")]


def test_durations_have_a_dative() -> None:
    datives = {forms["base"]: forms["dat"] for forms in GERMAN.values.wordings("duration", "00:30:00", "C")}
    assert datives["eine halbe Stunde"] == "einer halben Stunde"
    assert all(" dat" not in text for text in datives.values())


def test_colours_have_a_form_for_a_state_and_for_a_change() -> None:
    red, teal = (GERMAN.values.wordings("color", color, "C")[0] for color in ("red", "teal"))
    assert (red["base"], red["noun"], red["light"]) == ("rot", "Rot", "rotes Licht")
    assert teal["noun"] == "Petrol" and teal["light"] == "petrolfarbenes Licht"


def test_a_bare_number_stands_only_where_its_unit_may_be_left_out() -> None:
    for slot, value in (("brightness", 40), ("volume", 40), ("temperature", 21)):
        wordings = GERMAN.values.wordings(slot, value, "C")
        assert str(value) in [forms["auf"] for forms in wordings]
        assert not [forms["base"] for forms in wordings if forms["base"].isdecimal()]
    assert "Maximum" in [forms["auf"] for forms in GERMAN.values.wordings("position", 100, "C")]


def test_a_room_has_a_case_for_each_preposition() -> None:
    rooms = {room.base: room.forms for room in GERMAN.rooms}
    assert [rooms["Küche"][form] for form in ("in", "von", "acc")] == ["in der Küche", "von der Küche", "die Küche"]
    assert [rooms["Flur"][form] for form in ("in", "von", "acc")] == ["im Flur", "vom Flur", "den Flur"]
    for base, forms in rooms.items():
        article = forms["acc"].removesuffix(f" {base}")
        assert article in ("den", "die", "das")
        feminine = any(forms["in"].startswith(start) for start in ("in der ", "auf der "))
        assert feminine == (article == "die") == forms["von"].startswith("von der "), base


def test_something_of_a_group_has_its_article() -> None:
    assert [GERMAN.groups[key].reference["ein"] for key in ("cover.window", "lock", "fan")] == [
        "ein Fenster", "eine Tür", "ein Ventilator",
    ]  # fmt: skip


def test_a_state_of_the_same_thing_has_the_same_two_words() -> None:
    for one, other in (("cover.window", "binary_sensor.window"), ("cover.garage", "binary_sensor.garage_door")):
        states = [[dict(GERMAN.groups[one].state(key)), dict(GERMAN.groups[other].state(sensed))]
                  for key, sensed in (("open", "on"), ("closed", "off"))]  # fmt: skip
        assert all(covered == sensed for covered, sensed in states), one


def test_persons_take_no_article() -> None:
    assert fill("wo ist {device[nom]}?", "Lukas") == "wo ist Lukas?"
    assert fill("{device[nom]} {device[ist]} zu Hause", "Oma") == "Oma ist zu Hause"


def test_times_of_day_and_dates_are_said_as_in_germany() -> None:
    moment = datetime(2028, 3, 1, 7, 5)
    assert GERMAN.grammar.rules.clock(moment) == "7:05 Uhr"
    assert GERMAN.grammar.rules.day(moment) == "Mittwoch, der 1. März 2028"


def test_date_and_time_are_written_as_in_germany() -> None:
    line = GERMAN.grammar.rules.date_line(datetime(2028, 3, 1, 7, 5))
    assert line == "Aktuelles Datum und Uhrzeit: Mittwoch, 1. März 2028, 07:05 Uhr"


def known(language: Language, friendly: str, noun: str | None) -> Reference:
    found = next((known for known in language.nouns if known.base == noun), None)
    cls = found.cls if found else language.unknown_class
    return name_known_device(language.grammar, "light.x", friendly, found, None, cls).references[0]


def test_no_timer_lasts_in_the_wrong_case() -> None:
    datives = ("mit", "von", "nach", "in", "seit")
    for section in GERMAN.sections:
        for template in section.templates:
            for preposition in datives:
                for slot in ("duration", "remaining"):
                    assert f" {preposition} {{{slot}[base]}}" not in f" {template.text}", template.phrase


def test_a_device_of_a_real_home_gets_an_article_only_where_its_noun_is_known() -> None:
    lamp = known(GERMAN, "Lampe am Sofa", "Lampe")
    assert (lamp["acc"], lamp["dat"]) == ("die Lampe am Sofa", "der Lampe am Sofa")
    thing = known(GERMAN, "Shelly 1PM", None)
    assert (thing["nom"], thing["dat"]) == ("Shelly 1PM", "Shelly 1PM")
    assert GERMAN.grammar.rules.finish(f"die Helligkeit {thing['gen']}") == "die Helligkeit von Shelly 1PM"
    assert thing["keinen"] == "kein Gerät namens Shelly 1PM"


def test_plain_imperatives_say_du_so_that_two_may_be_joined() -> None:
    plain = [
        template.text
        for section in GERMAN.sections
        for template in section.templates
        if template.plain and section.file == "requests.txt"
    ]
    assert len(plain) > 150
    assert not [text for text in plain if " Sie " in f" {text} " or text.endswith("?")]


def test_no_article_stands_in_the_wrong_case_after_a_preposition() -> None:
    rows = Chunks(Recipe(("german",), seed=11), "train").chunk(0)[0]
    for wrong in (
        " von die ",
        " von das ",
        " bei die ",
        " mit den Lampe",
        " zu das ",
        " auf der auf ",
        " von dem F",
    ):
        assert wrong not in rows, wrong
