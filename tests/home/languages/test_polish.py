"""Polish: cases, genders, plural classes, `ze` and `we`, dates, decimal commas."""

import re
from datetime import datetime

import pytest

from hatrain.home.language.grammar import Name, Reference, name_known_device, several
from hatrain.home.language.load import Language, find_language, load_language

CASES = ("gen", "dat", "acc", "ins", "loc")


@pytest.fixture(scope="module")
def polish() -> Language:
    return load_language(find_language("pl"))


def device(language: Language, friendly: str) -> Name:
    return next(name for name in language.names if name.friendly == friendly)


def filled(language: Language, text: str, reference: Reference) -> str:
    """Fill a phrase and finish the sentence."""
    ready = re.sub(r"\{device:(\w+)\}", r"{device[\1]}", text).replace("{device}", "{device[base]}")
    return language.grammar.rules.finish(ready.format_map({"device": reference}))


DECLINED = {
    "Lampa stojąca w salonie": (
        "lampy stojącej w salonie", "lampie stojącej w salonie", "lampę stojącą w salonie",
        "lampą stojącą w salonie", "lampie stojącej w salonie",
    ),
    "Robot sprzątający": (
        "robota sprzątającego", "robotowi sprzątającemu", "robota sprzątającego", "robotem sprzątającym",
        "robocie sprzątającym",
    ),
    "Drzwi wejściowe": (
        "drzwi wejściowych", "drzwiom wejściowym", "drzwi wejściowe", "drzwiami wejściowymi",
        "drzwiach wejściowych",
    ),
    "Lewa brama garażowa": (
        "lewej bramy garażowej", "lewej bramie garażowej", "lewą bramę garażową", "lewą bramą garażową",
        "lewej bramie garażowej",
    ),
    "Światła w ogrodzie": (
        "świateł w ogrodzie", "światłom w ogrodzie", "światła w ogrodzie", "światłami w ogrodzie",
        "światłach w ogrodzie",
    ),
    "Lampki choinkowe na tarasie": (
        "lampek choinkowych na tarasie", "lampkom choinkowym na tarasie", "lampki choinkowe na tarasie",
        "lampkami choinkowymi na tarasie", "lampkach choinkowych na tarasie",
    ),
    "Grzejnik łazienkowy": (
        "grzejnika łazienkowego", "grzejnikowi łazienkowemu", "grzejnik łazienkowy", "grzejnikiem łazienkowym",
        "grzejniku łazienkowym",
    ),
    "Rolety kuchenne": (
        "rolet kuchennych", "roletom kuchennym", "rolety kuchenne", "roletami kuchennymi", "roletach kuchennych",
    ),
}  # fmt: skip


@pytest.mark.parametrize("friendly", DECLINED)
def test_a_device_is_declined_with_its_adjectives(polish: Language, friendly: str) -> None:
    reference = device(polish, friendly).references[0]
    assert tuple(reference[case] for case in CASES) == DECLINED[friendly]


def test_every_device_has_every_case_and_adjectives_agree_in_each(polish: Language) -> None:
    # Endings of an adjective by gender; a noun's own adjectives end as the grammar's words do.
    endings = {
        "m": ("y", "ego", "emu", "y", "ym", "ym"),
        "ma": ("y", "ego", "emu", "ego", "ym", "ym"),
        "f": ("a", "ej", "ej", "ą", "ą", "ej"),
        "n": ("e", "ego", "emu", "e", "ym", "ym"),
        "pl": ("e", "ych", "ym", "e", "ymi", "ych"),
    }
    with_adjective = 0
    for noun in polish.nouns:
        assert set(CASES) <= set(noun.forms)
        words = [noun.forms[case].split() for case in ("base", *CASES)]
        assert len({len(found) for found in words}) == 1, noun.forms
        columns = [list(column) for column in zip(*words, strict=True)]  # each word of the noun in all cases
        if noun.domain != "person" and len(columns) == 2 and all(len(set(column)) > 1 for column in columns):
            assert any(column == [f"{column[0][:-1]}{end}" for end in endings[noun.cls]] for column in columns), (
                noun.forms
            )
            with_adjective += 1
    assert with_adjective > 30


AGREEING = {
    "Lampa w kuchni": "czy lampa w kuchni jest włączona? wyłącz ją, nie potrzebuję jej",
    "Wentylator w sypialni": "czy wentylator w sypialni jest włączony? wyłącz go, nie potrzebuję go",
    "Radio w kuchni": "czy radio w kuchni jest włączone? wyłącz je, nie potrzebuję go",
    "Głośniki w salonie": "czy głośniki w salonie są włączone? wyłącz je, nie potrzebuję ich",
    "Robot sprzątający": "czy robot sprzątający jest włączony? wyłącz go, nie potrzebuję go",
}


@pytest.mark.parametrize("friendly", AGREEING)
def test_participles_verbs_and_pronouns_agree(polish: Language, friendly: str) -> None:
    question = "czy {device} {device:jest} włączon{device:y}? wyłącz {device:go}, nie potrzebuję {device:jego}"
    assert filled(polish, question, device(polish, friendly).references[0]) == AGREEING[friendly]


def test_things_named_together_are_plural(polish: Language) -> None:
    both = several(polish.grammar, [device(polish, name).references[0] for name in ("Lampa w kuchni", "Okap w kuchni")])
    text = "{device} {device:został} włączon{device:y}, co z {device:ins}?"
    assert filled(polish, text, both) == (
        "lampa w kuchni i okap w kuchni zostały włączone, co z lampą w kuchni i okapem w kuchni?"
    )


CLUSTERS = {
    "co z światłem": "co ze światłem",
    "co z zraszaczami": "co ze zraszaczami",
    "co z zmywarką": "co ze zmywarką",
    "co z sprężarką": "co ze sprężarką",
    "co z szafką": "co z szafką",
    "co z sejfem": "co z sejfem",
    "co z lampą": "co z lampą",
    "w wzmacniaczu": "we wzmacniaczu",
    "w wiatrołapie": "w wiatrołapie",
    "w warsztacie": "w warsztacie",
    "bez światła, przez szyby": "bez światła, przez szyby",
}


@pytest.mark.parametrize("text", CLUSTERS)
def test_a_preposition_takes_a_vowel_before_a_cluster(polish: Language, text: str) -> None:
    assert polish.grammar.rules.finish(text) == CLUSTERS[text]


def test_numbers_have_four_plural_classes(polish: Language) -> None:
    plural = polish.grammar.rules.plural
    by_class = {
        "one": (1,),
        "few": (2, 3, 4, 22, 33, 104),
        "many": (0, 5, 11, 12, 13, 14, 21, 25, 100, 112),
        "other": (0.5, 1.5, 21.5),
    }
    for category, numbers in by_class.items():
        assert {plural(number) for number in numbers} == {category}


MINUTES = {
    "00:04:00": ("4 minuty", "4 minuty", "4 minut", "4 minutach"),
    "00:12:00": ("12 minut", "12 minut", "12 minut", "12 minutach"),
    "00:22:00": ("22 minuty", "22 minuty", "22 minut", "22 minutach"),
    "00:25:00": ("25 minut", "25 minut", "25 minut", "25 minutach"),
    "00:01:00": ("1 minuta", "1 minutę", "1 minuty", "1 minucie"),
    "01:45:00": (
        "1 godzina i 45 minut", "1 godzinę i 45 minut", "1 godziny i 45 minut", "1 godzinie i 45 minutach",
    ),
    "00:02:30": (
        "2 minuty i 30 sekund", "2 minuty i 30 sekund", "2 minut i 30 sekund", "2 minutach i 30 sekundach",
    ),
}  # fmt: skip


@pytest.mark.parametrize("value", MINUTES)
def test_a_duration_is_counted_and_declined(polish: Language, value: str) -> None:
    forms = polish.values.wordings("duration", value, "C")[0]
    assert tuple(forms[form] for form in ("base", "acc", "gen", "loc")) == MINUTES[value]


def test_a_half_has_a_comma_and_the_genitive(polish: Language) -> None:
    assert polish.values.wordings("temperature", 21.5, "C")[0]["base"] == "21,5 stopnia"
    assert polish.values.wordings("temperature", 22, "C")[0]["base"] == "22 stopnie"
    assert polish.values.wordings("temperature", 22, "C")[0]["gen"] == "22 stopni"
    assert polish.values.wordings("temperature", 25, "C")[0]["base"] == "25 stopni"


def test_the_number_of_things_on_a_list_agrees_with_its_verb(polish: Language) -> None:
    texts = [polish.values.wordings("count", count, "C")[0]["are"] for count in (0, 1, 3, 5, 12)]
    assert texts == ["jest 0 pozycji", "jest 1 pozycja", "są 3 pozycje", "jest 5 pozycji", "jest 12 pozycji"]


def test_things_on_lists_are_declined(polish: Language) -> None:
    coffee = polish.values.wordings("item", "kawa", "C")[0]
    assert (coffee["acc"], coffee["gen"]) == ("kawę", "kawy")


def test_the_date_line_is_polish(polish: Language) -> None:
    line = polish.grammar.rules.date_line(datetime(2025, 5, 9, 7, 5))
    assert line == "Aktualna data i godzina: piątek, 9 maja 2025 r., 7:05"


def test_entity_ids_are_ascii(polish: Language) -> None:
    assert device(polish, "Światło w łazience").entity_id == "light.swiatlo_w_lazience"
    assert all(re.fullmatch(r"[a-z_]+\.[a-z0-9_]+", name.entity_id) for name in polish.names)


def test_a_known_noun_in_a_users_own_name_is_declined(polish: Language) -> None:
    lamp = next(noun for noun in polish.nouns if noun.base == "lampa stojąca")
    name = name_known_device(polish.grammar, "light.ani", "Lampa stojąca Ani", lamp, None, lamp.cls)
    text = "włącz {device:acc}, nie widzę {device:gen}, {device} {device:jest} włączon{device:y}"
    assert filled(polish, text, name.references[0]) == (
        "włącz lampę stojącą Ani, nie widzę lampy stojącej Ani, Lampa stojąca Ani jest włączona"
    )


def test_a_name_without_a_known_noun_is_referred_to_as_a_device(polish: Language) -> None:
    name = name_known_device(polish.grammar, "light.hue", "Hue Go", None, None, polish.unknown_class)
    text = "włącz {device:acc}, nie widzę {device:gen}, {device} {device:jest} włączon{device:y}"
    assert filled(polish, text, name.references[0]) == (
        "włącz urządzenie Hue Go, nie widzę urządzenia Hue Go, urządzenie Hue Go jest włączone"
    )
