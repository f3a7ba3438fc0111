"""Files: the same seed gives the same bytes, the two sides share nothing, and no file is left unfinished."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatrain.errors import BadInput
from hatrain.home.generate.audit import audit
from hatrain.home.generate.dataset import FILES, Chunks, Recipe, generate, shuffled
from hatrain.home.language.load import find_language, load_language
from hatrain.home.language.phrase_groups import may_be_shared, phrase_key
from hatrain.home.language.split import TEST_SHARE, phrases_of_test_side, split_names
from tests.home.conftest import LANGUAGES

HOME = """
areas:
  Kitchen: {light.kitchen: Kitchen Light, switch.coffee: Coffee Maker, fan.hood: Hood}
  Bedroom: {light.bedroom: Bedroom Light, cover.bedroom: Bedroom Blinds, climate.bedroom: Thermostat}
  Lounge: {media_player.tv: Living Room TV, light.lounge_1: Arc Lamp, light.lounge_2: Reading Corner}
devices: {lock.front: Front Door, vacuum.robbie: Robbie, timer.egg: Egg Timer, todo.shopping: Shopping List}
"""


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_shuffling_keeps_every_number_once(count: int, key: int) -> None:
    assert sorted(shuffled(count, key)) == list(range(count))


def test_the_order_depends_on_the_key_alone() -> None:
    assert shuffled(8, 1) == [0, 3, 5, 4, 6, 2, 7, 1]
    assert shuffled(1000, 1) == shuffled(1000, 1) != shuffled(1000, 2)


def test_three_workers_write_the_bytes_that_one_writes(tmp_path: Path) -> None:
    recipe = Recipe(tuple(LANGUAGES[:2]), requests_per_home=2)
    one = generate(recipe, ["test"], tmp_path / "one")["test"].read_bytes()
    three = generate(recipe, ["test"], tmp_path / "three", workers=3)["test"].read_bytes()
    assert one == three
    assert one.count(b"\n") == 2500 * len(LANGUAGES[:2])
    assert sorted(path.name for path in (tmp_path / "three").iterdir()) == [FILES["test"]]


def test_another_seed_makes_another_file_and_other_sizes_hold_the_same_rows() -> None:
    def lines(recipe: Recipe) -> list[str]:
        return Chunks(recipe, "train").chunk(0)[0].splitlines()

    assert lines(Recipe()) == lines(Recipe())
    assert lines(Recipe()) != lines(Recipe(seed=43))
    # Row i is a function of the seed, the language and i: a larger set has all rows of a smaller one.
    small, large = Chunks(Recipe(), "train"), Chunks(Recipe(size="xl"), "train")
    assert [small._sources[0].lines(i).__next__() for i in range(50)] == [
        large._sources[0].lines(i).__next__() for i in range(50)
    ]


def assert_nothing_shared(train: Path, test: Path) -> None:
    found = audit(train, test)
    assert [overlap.shared for overlap in found.overlaps] == [(), (), ()], list(found.lines())
    assert all(overlap.distinct > 200 for overlap in found.overlaps)


def first_rows(recipe: Recipe, folder: Path) -> list[Path]:
    """Write the first rows of a training set and a whole test set."""
    paths = []
    for part, homes in (("train", 5_120), ("test", 2_560)):
        chunks = Chunks(recipe, part)
        paths.append(folder / f"{part}.jsonl")
        paths[-1].write_text("".join(chunks.chunk(start)[0] for start in range(0, homes, 256)))
    return paths


def test_train_and_test_share_no_request_no_device_name_and_no_answer(tmp_path: Path, language_name: str) -> None:
    assert_nothing_shared(*first_rows(Recipe((language_name,)), tmp_path))


def test_names_and_phrases_of_several_languages_have_one_side() -> None:
    sides: dict[str, str] = {}
    for name in LANGUAGES:
        language = load_language(find_language(name))
        for side in ("train", "test"):
            for device in split_names(language.names, side):
                assert sides.setdefault(device.friendly.casefold(), side) == side, device
        test_side = phrases_of_test_side(language)
        for section in language.sections:
            for template in section.templates:
                key = phrase_key(section, template)
                if may_be_shared(key):
                    assert key not in test_side, template


@pytest.mark.long
def test_whole_sets_share_nothing(tmp_path: Path, language_name: str) -> None:
    paths = generate(Recipe((language_name,), size="xl"), ["train", "test"], tmp_path)
    assert_nothing_shared(paths["train"], paths["test"])


@pytest.mark.long
def test_whole_sets_of_all_languages_together_share_nothing(tmp_path: Path) -> None:
    paths = generate(Recipe(tuple(LANGUAGES)), ["train", "test"], tmp_path, workers=2)
    assert_nothing_shared(paths["train"], paths["test"])


def test_for_a_real_home_no_request_and_no_answer_is_shared(tmp_path: Path) -> None:
    home = tmp_path / "home.yaml"
    home.write_text(HOME)
    requests, names, answers = audit(*first_rows(Recipe(home=home), tmp_path)).overlaps
    assert requests.shared == () and answers.shared == ()
    assert len(names.shared) == names.distinct == 13


def test_both_sides_have_names_in_every_domain(language_name: str) -> None:
    language = load_language(find_language(language_name))
    train, test = (split_names(language.names, side) for side in ("train", "test"))
    assert {name.domain for name in train} == {name.domain for name in test}
    assert not {name.friendly.casefold() for name in train} & {name.friendly.casefold() for name in test}
    # Of names in several styles, some are left out of both sides.
    assert 0.8 * len(language.names) < len(train) + len(test) <= len(language.names)
    assert TEST_SHARE / 2 < len(test) / len(language.names) < TEST_SHARE * 2


def test_a_file_that_is_interrupted_is_removed(tmp_path: Path) -> None:
    def stop(part: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(Recipe(), ["sample"], tmp_path, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_every_row(tmp_path: Path) -> None:
    calls = []
    generate(Recipe(), ["sample"], tmp_path, progress=lambda *counts: calls.append(counts))
    assert calls == [("sample", 100, 100)]


def test_an_unknown_language_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"found englisch, accepted: .*english.*did you mean english"):
        generate(Recipe(("englisch",)), ["sample"], tmp_path)
