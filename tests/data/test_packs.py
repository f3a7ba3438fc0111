"""Sequences as a pack: every sequence can be read back, at its positions, and attends to itself alone."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hatrain.data.labels import Example
from hatrain.data.packs import GRAIN, Pack, labels_of, make_pack, sort_key


def sequences():
    """Sequences that were grown from each other, so that they begin alike to many depths; some are equal, and some go
    on from others."""
    step = st.tuples(st.integers(0, 9), st.floats(0, 1), st.integers(1, 4 * GRAIN), st.booleans())

    def grown(steps):
        rows = []
        for source, share, length, is_own in steps:
            earlier = rows[source % len(rows)] if rows else np.zeros(0, dtype=np.int32)
            kept = earlier[: round(share * len(earlier))]
            own = np.full(length, 100 + len(rows), dtype=np.int32)
            rows.append(np.concatenate([kept, own]) if is_own or not len(kept) else kept)
        return rows

    return st.lists(step, min_size=1, max_size=12).map(grown)


def in_units(rows, size):
    return [tuple(rows[start : start + size]) for start in range(0, len(rows), size)]


def sees(pack: Pack) -> np.ndarray:
    """[tokens, tokens], whether a token attends to another, from the segments as attention reads them."""
    mask = np.zeros((len(pack.input_ids),) * 2, dtype=bool)
    for segment in pack.segments:
        own = slice(segment.start, segment.end)
        mask[own, own] = np.tri(segment.end - segment.start, dtype=bool)
        mask[segment.end : segment.reach, own] = True
    return mask


@given(sequences(), st.booleans(), st.booleans(), st.integers(1, 2))
def test_every_sequence_can_be_read_back_and_sees_itself_alone(rows, share, is_sorted, size):
    if is_sorted:
        rows = sorted(rows, key=sort_key)
    pack = make_pack(in_units(rows, size), share=share)
    mask = sees(pack)
    assert len(pack.paths) == len(rows)
    for number, ids in enumerate(rows):
        tokens = pack.tokens_of(number)
        np.testing.assert_array_equal(pack.input_ids[tokens], ids)
        np.testing.assert_array_equal(pack.position_ids[tokens], np.arange(len(ids)))
        for place, token in enumerate(tokens):
            np.testing.assert_array_equal(np.flatnonzero(mask[token]), tokens[: place + 1])
    assert sorted(set(np.concatenate([pack.tokens_of(number) for number in range(len(rows))]))) == list(
        range(len(pack.input_ids))
    ), "every token belongs to a sequence"


@given(sequences())
def test_segments_follow_each_other_and_their_descendants_follow_them(rows):
    pack = make_pack(in_units(rows, 1))
    assert [segment.start for segment in pack.segments[1:]] == [segment.end for segment in pack.segments[:-1]]
    for number, segment in enumerate(pack.segments):
        assert segment.start < segment.end <= segment.reach
        if segment.parent >= 0:
            parent = pack.segments[segment.parent]
            assert segment.parent < number
            assert segment.reach <= parent.reach
            assert segment.position == parent.position + parent.end - parent.start


@given(sequences())
def test_sorted_sequences_share_all_that_they_begin_with_but_for_short_ends(rows):
    """Each sequence repeats fewer than GRAIN tokens of what a trie would share."""
    distinct = {tuple(ids[:end]) for ids in rows for end in range(1, len(ids) + 1)}
    pack = make_pack(in_units(sorted(rows, key=sort_key), 1))
    assert len(distinct) <= len(pack.input_ids) < len(distinct) + GRAIN * len(rows)


@given(sequences())
def test_without_sharing_each_sequence_is_a_segment(rows):
    pack = make_pack(in_units(rows, 1), share=False)
    assert not pack.is_shared
    assert [segment.end - segment.start for segment in pack.segments] == [len(ids) for ids in rows]


def test_a_shared_prefix_stands_once():
    prefix = np.arange(50, dtype=np.int32)
    rows = [np.concatenate([prefix, np.array([number] * 5, dtype=np.int32)]) for number in (7, 8, 9)]
    pack = make_pack(in_units(rows, 1))
    assert pack.is_shared
    assert [(segment.start, segment.end, segment.reach, segment.position) for segment in pack.segments] == [
        (0, 50, 65, 0),
        (50, 55, 55, 50),
        (55, 60, 60, 50),
        (60, 65, 65, 50),
    ]


def examples(rows) -> list[Example]:
    """Every sequence is trained on its first tokens, and on its last ones."""
    return [Example(number, ids, ((0, len(ids) // 3), (len(ids) // 2, len(ids)))) for number, ids in enumerate(rows)]


@given(sequences(), st.booleans())
def test_labels_are_those_of_each_sequence_and_weights_count_them(rows, share):
    pack = make_pack(in_units(rows, 1), share=share)
    labelled = examples(rows)
    labels = labels_of(labelled, [pack.tokens_of(number) for number in range(len(rows))])
    for number, example in enumerate(labelled):
        wanted = [place for start, end in example.replies for place in range(max(start, 1), end)]
        own = labels.of_sequences[number]
        np.testing.assert_array_equal(labels.targets[own], example.input_ids[wanted])
        np.testing.assert_array_equal(labels.positions[own], pack.tokens_of(number)[np.array(wanted, dtype=int) - 1])
    assert labels.weights.sum() == sum(map(len, labels.of_sequences))
    assert (labels.weights > 0).all()
    assert len({*zip(labels.positions.tolist(), labels.targets.tolist(), strict=True)}) == len(labels.positions)


def test_the_end_of_a_prefix_predicts_each_way_on_and_a_shared_label_counts_for_each_row():
    prefix = np.arange(30, dtype=np.int32)
    rows = [np.concatenate([prefix, np.array(end, dtype=np.int32)]) for end in ([7, 1], [8, 1], [8, 1])]
    labelled = [Example(number, ids, ((20, 32),)) for number, ids in enumerate(rows)]
    pack = make_pack([(ids,) for ids in rows])
    labels = labels_of(labelled, [pack.tokens_of(number) for number in range(3)])
    at = {
        (position, target): weight
        for position, target, weight in zip(labels.positions, labels.targets, labels.weights, strict=True)
    }
    assert at[29, 7] == 1
    assert at[29, 8] == 2
    assert all(at[position, position + 1] == 3 for position in range(19, 29))
    assert sum(at.values()) == 36
