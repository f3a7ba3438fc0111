"""Spanish: articles and participles that agree, del and al, e before i, numbers and dates."""

import re
from datetime import datetime

import pytest

from hatrain.home.language.grammar import Name, name_known_device, several
from hatrain.home.language.load import Language, find_language, load_language


@pytest.fixture(scope="module")
def spanish() -> Language:
    return load_language(find_language("es"))


def device(language: Language, friendly: str) -> Name:
    return next(name for name in language.names if name.friendly == friendly)


def fill(language: Language, template: str, friendly: str) -> str:
    """Fill a template with the usual reference to a device, and finish the sentence."""
    reference = device(language, friendly).references[0]
    filled = re.sub(r"\{device:?(\w*)\}", lambda match: reference[match[1] or "base"], template)
    return language.grammar.rules.finish(filled)


@pytest.mark.parametrize(
    ("friendly", "on"),
    [
        ("Aplique del pasillo", "el aplique del pasillo está encendido"),
        ("Luz del salón", "la luz del salón está encendida"),
        ("Focos de la cocina", "los focos de la cocina están encendidos"),
        ("Luces del jardín", "las luces del jardín están encendidas"),
    ],
)
def test_article_verb_and_participle_agree_with_the_device(spanish: Language, friendly: str, on: str) -> None:
    assert fill(spanish, "{device:el} está{device:n} encendid{device:o}", friendly) == on


@pytest.mark.parametrize(
    ("friendly", "expected"),
    [
        ("Estor del despacho", "ábrelo"),
        ("Persiana del despacho", "ábrela"),
        ("Estores del despacho", "ábrelos"),
        ("Cortinas del despacho", "ábrelas"),
    ],
)
def test_pronouns_hang_on_the_imperative(spanish: Language, friendly: str, expected: str) -> None:
    assert fill(spanish, "ábre{device:lo}", friendly) == expected


@pytest.mark.parametrize(
    ("template", "friendly", "expected"),
    [
        ("el brillo de {device:el}", "Flexo del estudio", "el brillo del flexo del estudio"),
        ("el brillo de {device:el}", "Lámpara del estudio", "el brillo de la lámpara del estudio"),
        ("dale a {device:el}", "Farol del porche", "dale al farol del porche"),
        ("dale a {device:el}", "Farolillos del porche", "dale a los farolillos del porche"),
        ("A {device:el} le queda poco", "Robot aspirador", "Al robot aspirador le queda poco"),
        ("no hay {device:ningún}", "Toldo de la azotea", "no hay ningún toldo de la azotea"),
        ("no hay {device:ningún}", "Verja de la entrada", "no hay ninguna verja de la entrada"),
        ("no hay {device:ningún}", "Visillos del salón", "no hay visillos del salón"),
    ],
)
def test_prepositions_and_articles_are_contracted(
    spanish: Language, template: str, friendly: str, expected: str
) -> None:
    assert fill(spanish, template, friendly) == expected


def test_only_the_article_is_contracted_and_only_before_i_does_y_change(spanish: Language) -> None:
    finish = spanish.grammar.rules.finish
    assert finish("para el robot y envía a él, ya el jueves, de electrónica") == (
        "para el robot y envía a él, ya el jueves, de electrónica"
    )
    assert finish("apaga la luz y inicia el minutero") == "apaga la luz e inicia el minutero"
    assert finish("pon Y viva España y hierbas y hilo") == "pon Y viva España y hierbas e hilo"


def test_a_device_is_named_with_its_room_in_two_styles(spanish: Language) -> None:
    assert device(spanish, "Tele del cuarto de los niños").entity_id == "media_player.tele_del_cuarto_de_los_ninos"
    assert device(spanish, "Lámpara de pie salón").references[0]["el"] == "la lámpara de pie del salón"
    assert device(spanish, "Luz terraza").references[1]["el"] == "la luz en la terraza"


def test_several_devices_are_masculine_unless_all_are_feminine(spanish: Language) -> None:
    def together(*friendly: str) -> str:
        reference = several(spanish.grammar, [device(spanish, name).references[0] for name in friendly])
        return f"{reference['el']}: apagad{reference['o']}"

    assert together("Luz del baño", "Lámpara del salón") == "la luz del baño y la lámpara del salón: apagadas"
    assert together("Luz del baño", "Flexo del estudio") == "la luz del baño y el flexo del estudio: apagados"


def test_a_name_of_unknown_gender_gets_no_article(spanish: Language) -> None:
    grammar = spanish.grammar
    unknown = name_known_device(grammar, "light.nave", "Nave 3", None, None, spanish.unknown_class).references[0]
    assert unknown["el"] == "Nave 3"
    lamp = device(spanish, "Luz del salón").noun
    known = name_known_device(grammar, "light.mia", "Luz mía", lamp, None, "f").references[0]
    assert (known["el"], known["o"]) == ("la Luz mía", "a")


@pytest.mark.parametrize(
    ("slot", "value", "wordings"),
    [
        ("temperature", 21.5, ("21,5 grados", "21,5 °C", "21,5°")),
        ("temperature", 19, ("19 grados", "19 °C", "19°")),
        ("brightness", 40, ("40 %", "40%", "40 por ciento")),
        ("duration", "01:00:00", ("1 hora", "una hora")),
        ("duration", "01:30:00", ("1 hora y 30 minutos", "una hora y media", "hora y media")),
        ("duration", "00:01:00", ("1 minuto", "un minuto")),
        ("remaining", "03:01:22", ("3 horas, 1 minuto y 22 segundos",)),
        ("count", 1, ("1 cosa",)),
        ("count", 7, ("7 cosas",)),
    ],
)
def test_values_have_a_decimal_comma_and_plurals(
    spanish: Language, slot: str, value: object, wordings: tuple[str, ...]
) -> None:
    said = [forms["base"] for forms in spanish.values.wordings(slot, value, "C")]
    assert set(wordings) <= set(said), said
    assert value != 21.5 or not any("21.5" in text for text in said)


def test_colours_agree_with_light(spanish: Language) -> None:
    colors = {color: spanish.values.wordings("color", color, "C")[0] for color in ("red", "yellow", "blue", "pink")}
    assert [f"luz {forms['luz']}" for forms in colors.values()] == [
        "luz roja",
        "luz amarilla",
        "luz azul",
        "luz rosa",
    ]
    assert colors["red"]["base"] == "rojo"


@pytest.mark.parametrize(
    ("moment", "line"),
    [
        (datetime(2025, 5, 9, 23, 4), "Son las 23:04 del viernes, 9 de mayo de 2025"),
        (datetime(2026, 1, 1, 1, 30), "Es la 1:30 del jueves, 1 de enero de 2026"),
        (datetime(2026, 9, 16, 0, 0), "Son las 0:00 del miércoles, 16 de septiembre de 2026"),
    ],
)
def test_the_date_line_has_24_hours_and_lower_case_names(spanish: Language, moment: datetime, line: str) -> None:
    assert spanish.grammar.rules.date_line(moment) == line


def test_questions_open_with_their_mark(spanish: Language) -> None:
    phrases = [template.phrase for section in spanish.sections for template in section.templates]
    assert [phrase.where for phrase in phrases if phrase.text.count("?") != phrase.text.count("¿")] == []
    assert [phrase.where for phrase in phrases if phrase.text.count("!") != phrase.text.count("¡")] == []


def test_no_phrase_repeats_a_preposition_of_its_placeholder(spanish: Language) -> None:
    doubled = re.compile(r"\b(?:en|de|del) \{room\[(?:en|de)\]\}|\b(?:el|la|los|las|del|al) \{device\[el\]\}")
    texts = [template.text for section in spanish.sections for template in section.templates]
    assert [text for text in texts if doubled.search(text)] == []
