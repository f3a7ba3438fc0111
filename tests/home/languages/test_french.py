"""French: gender and number, contraction, elision, numbers, the date line, names as typed."""

from datetime import datetime
from pathlib import Path

import pytest

from hatrain.home.generate.wording import Wording
from hatrain.home.homes.home import alike
from hatrain.home.language.grammar import PLACEHOLDER, name_device, name_known_device, several
from hatrain.home.language.load import Language, find_language, load_language
from hatrain.home.language.values import Values


@pytest.fixture(scope="module")
def french() -> Language:
    return load_language(find_language("fr"))


def fill(french: Language, template: str, *things: str) -> str:
    """Fill `{device:form}` with things given as `noun @ room`, and finish the sentence."""
    references = []
    for thing in things:
        noun_name, _, room_name = thing.partition(" @ ")
        noun = next(noun for noun in french.nouns if noun.base == noun_name)
        room = next((room for room in french.rooms if room.base == room_name), None)
        references.append(name_device(french.grammar, noun, room, french.grammar.styles[0]).references[0])
    device = references[0] if len(references) == 1 else several(french.grammar, references)
    return french.grammar.rules.finish(PLACEHOLDER.sub(lambda slot: device[slot[2]], template))


@pytest.mark.parametrize(
    ("thing", "the", "of_the", "to_the"),
    [
        ("lampe @ salon", "la lampe du salon", "de la lampe du salon", "à la lampe du salon"),
        ("thermostat @ bureau", "le thermostat du bureau", "du thermostat du bureau", "au thermostat du bureau"),
        ("spots @ cuisine", "les spots de la cuisine", "des spots de la cuisine", "aux spots de la cuisine"),
        ("persiennes @ toilettes", "les persiennes des toilettes", "des persiennes des toilettes",
         "aux persiennes des toilettes"),
        ("aspirateur", "l'aspirateur", "de l'aspirateur", "à l'aspirateur"),
        ("enceinte @ entrée", "l'enceinte de l'entrée", "de l'enceinte de l'entrée", "à l'enceinte de l'entrée"),
        ("halogène @ studio", "l'halogène du studio", "de l'halogène du studio", "à l'halogène du studio"),
        ("hotte @ cuisine", "la hotte de la cuisine", "de la hotte de la cuisine", "à la hotte de la cuisine"),
        ("haut-parleur @ palier", "le haut-parleur du palier", "du haut-parleur du palier",
         "au haut-parleur du palier"),
    ],
)  # fmt: skip
def test_articles_contract_and_elide(french: Language, thing: str, the: str, of_the: str, to_the: str) -> None:
    forms = [fill(french, f"{{device:{form}}}", thing) for form in ("le", "du", "au")]
    assert forms == [the, of_the, to_the]


@pytest.mark.parametrize(
    ("thing", "sentence"),
    [
        ("plafonnier @ salon", "le plafonnier du salon n'est pas allumé, rallume-le s'il est éteint"),
        ("lampe @ salon", "la lampe du salon n'est pas allumée, rallume-la si elle est éteinte"),
        ("spots @ salon", "les spots du salon ne sont pas allumés, rallume-les s'ils sont éteints"),
        (
            "lumières @ salon",
            "les lumières du salon ne sont pas allumées, rallume-les si elles sont éteintes",
        ),
    ],
)
def test_participles_and_pronouns_agree(french: Language, thing: str, sentence: str) -> None:
    template = (
        "{device:le} {device:nest} pas allumé{device:e}, rallume-{device:pronom} "
        "si {device:il} {device:est} éteint{device:e}"
    )
    assert fill(french, template, thing) == sentence


def test_things_named_together_are_feminine_only_if_all_of_them_are(french: Language) -> None:
    template = "{device:le} {device:sera} fermé{device:e}"
    assert fill(french, template, "fenêtre @ salon", "baie vitrée @ salon") == (
        "la fenêtre du salon et la baie vitrée du salon seront fermées"
    )
    assert fill(french, template, "fenêtre @ salon", "persiennes @ bureau", "volet @ cuisine") == (
        "la fenêtre du salon, les persiennes du bureau et le volet de la cuisine seront fermés"
    )
    assert fill(french, "plus besoin {device:du}", "radio @ bureau", "aérateur @ cave") == (
        "plus besoin de la radio du bureau et de l'aérateur de la cave"
    )


@pytest.mark.parametrize(
    ("raw", "finished"),
    [
        ("mets-la à 20 %", "mets-la à 20\u00a0%"),
        ("je veux que elle chauffe", "je veux qu'elle chauffe"),
        ("il n'y a plus de œufs", "il n'y a plus d'œufs"),
        ("il n'y a plus de huile", "il n'y a plus d'huile"),
        ("un rappel de une heure", "un rappel d'une heure"),
        ("dans plus de onze minutes", "dans plus de onze minutes"),
        ("pense à le ouvrir ou à le fermer", "pense à l'ouvrir ou à le fermer"),
        ("il reste du lait, de le dire est inutile", "il reste du lait, de le dire est inutile"),
        ("c'est ouvert ?", "c'est ouvert\u00a0?"),
        ("raye « sortir les poubelles »", "raye «\u00a0sortir les poubelles\u00a0»"),
    ],
)
def test_sentences_are_elided_and_spaced(french: Language, raw: str, finished: str) -> None:
    assert french.grammar.rules.finish(raw) == finished
    assert french.grammar.rules.finish(finished) == finished


def wordings(values: Values, slot: str, value: object) -> set[str]:
    return {forms["base"] for forms in values.wordings(slot, value, "C")}


def test_numbers_have_a_decimal_comma_and_are_plural_from_two(french: Language) -> None:
    values = french.values
    assert "21,5 degrés" in wordings(values, "temperature", 21.5)
    assert "1,5 degré" in wordings(values, "temperature", 1.5)
    assert [french.grammar.rules.plural(number) for number in (0, 1, 1.9, 2)] == [
        "one",
        "one",
        "one",
        "other",
    ]
    assert wordings(values, "count", 1) == {"1 élément"}
    assert values.wordings("count", 3, "C")[0]["appareils"] == "3 appareils"


def test_common_durations_have_colloquial_wordings(french: Language) -> None:
    assert "une heure et demie" in wordings(french.values, "duration", "01:30:00")
    assert wordings(french.values, "duration", "01:20:00") == {"1 heure et 20 minutes"}
    assert wordings(french.values, "remaining", "02:01:01") == {"2 heures, 1 minute et 1 seconde"}


def test_things_on_lists_have_forms_with_and_without_an_article(french: Language) -> None:
    (oil,) = french.values.wordings("item", "huile d'olive", "C")
    assert oil == {"base": "huile d'olive", "du": "de l'huile d'olive", "le": "l'huile d'olive"}
    assert "huile d'olive" in french.values.choices("item", "C")


def test_the_date_line_is_written_as_in_france(french: Language) -> None:
    line = french.grammar.rules.date_line
    assert line(datetime(2025, 5, 1, 7, 5)) == "Nous sommes le jeudi 1er mai 2025, il est 7h05"
    assert line(datetime(2024, 8, 18, 22, 30)) == "Nous sommes le dimanche 18 août 2024, il est 22h30"


def test_names_are_typed_in_two_styles_with_the_ids_that_home_assistant_makes(french: Language) -> None:
    names = {name.friendly: name for name in french.names}
    for friendly, entity_id in (
        ("Éclairage de l'entrée", "light.eclairage_de_l_entree"),
        ("Éclairage entrée", "light.eclairage_entree"),
    ):
        assert names[friendly].entity_id == entity_id
        assert names[friendly].references[0]["du"] == "du éclairage de l'entrée"  # elided when the sentence is done
    assert "Porte d'entrée" in names


def test_a_question_in_lower_case_loses_its_mark_and_the_space_before_it(french: Language) -> None:
    wording = Wording(french)
    sentence, dictated, hasty = (
        wording.request(lambda: look, "tu peux ouvrir ?")  # noqa: B023 - used at once
        for look in (0.9, 0.1, 0.3)
    )
    assert sentence == "tu peux ouvrir\u00a0?"
    assert dictated == "Tu peux ouvrir\u00a0?"
    assert hasty == "tu peux ouvrir\u00a0?"


def test_plain_imperatives_say_tu_so_that_two_of_them_can_be_joined() -> None:
    folder: Path = find_language("french")
    plain = [
        line.removeprefix("& ").split()[0]
        for line in (folder / "requests.txt").read_text(encoding="utf-8").splitlines()
        if line.startswith("& ")
    ]
    assert len(plain) > 100
    assert not [verb for verb in plain if verb.endswith(("ez", "er", "ir"))]


def test_a_known_device_gets_the_article_of_its_noun_and_none_without_one(french: Language) -> None:
    lamp = name_known_device(french.grammar, "light.ikea", "Lampe Ikea", None, None, "f").references[0]
    echo = name_known_device(french.grammar, "media_player.e", "Écho", None, None, french.unknown_class).references[0]
    assert [lamp[form] for form in ("le", "du", "au")] == [
        "la Lampe Ikea",
        "de la Lampe Ikea",
        "à la Lampe Ikea",
    ]
    assert [echo["le"], french.grammar.rules.finish(echo["du"]), echo["il"]] == ["Écho", "d'Écho", "il"]


def test_two_styles_of_one_name_are_alike(french: Language) -> None:
    names = {name.friendly: name for name in french.names}
    assert alike(names["Lampe du salon"], names["Lampe salon"], french.alike)
    assert alike(names["Télé du salon"], names["Télévision salon"], french.alike)
    assert not alike(names["Lampe du salon"], names["Lampe cuisine"], french.alike)
    assert not alike(names["Lampe du salon"], names["Volet salon"], french.alike)
