"""Drafts follow the expected answer, then what stood after the same tokens before, in this answer or in others."""

from hatrain.evaluate.drafts import FIRST, LEAST, MOST, Common, Drafts

PROMPT, REPLY = [1, 2, 3, 4, 5], [10, 11, 12, 13, 14, 15, 16]


def new(prompt: list[int] = PROMPT, reply: list[int] = REPLY, common: Common | None = None) -> Drafts:
    return Drafts(prompt, reply, common or Common())


def test_a_draft_begins_with_the_expected_answer():
    assert new().first(3) == [10, 11, 12]


def test_nothing_is_drafted_after_tokens_that_were_never_seen():
    drafts = new()
    drafts.written([99], 0)
    assert drafts.next(8) == []


def test_an_answer_that_comes_back_to_the_expected_one_follows_it_again():
    drafts = new()
    drafts.written([99], 0)
    for token in (11, 12, 13):
        drafts.written([token], 0)
    assert drafts.next(8) == [14, 15, 16, 99][:FIRST]
    assert drafts.next(2) == [14, 15]


def test_what_repeats_itself_is_drafted_without_end():
    drafts = new()
    drafts.written([7, 8, 7, 8, 7], 0)
    for length in (FIRST, 2 * FIRST, 4 * FIRST, MOST, MOST):
        drafted = drafts.next(100)
        assert drafted == [(8, 7)[number % 2] for number in range(length)]
        drafts.written([*drafted, (8, 7)[length % 2]], len(drafted))
        if length % 2 == 0:
            drafts.written([7], 0)


def test_drafts_that_fail_become_shorter_and_those_that_are_right_longer():
    drafts = new([1, 2, 3] * 4, [])
    drafts.written([1, 2, 3], 0)
    lengths = [len(drafts.next(99))]
    for tokens in ([1], [2, 3], [1, 2, 3, 1, 2], [3, 1, 2, 3, 1]):
        drafts.written(tokens, drafted=len(drafts.next(99)))
        lengths.append(len(drafts.next(99)))
    assert lengths == [FIRST, LEAST, LEAST, 2 * LEAST, 4 * LEAST]


def test_what_others_have_answered_is_a_draft_and_their_expected_answers_are():
    common = Common()
    common.read(PROMPT, REPLY)
    drafts, other = new([6, 7, 8], [], common), new([1, 7, 8], [], common)
    drafts.written([13], 0)
    assert drafts.next(3) == [14, 15, 16]
    other.written([50, 51, 52, 53], 0)
    drafts.written([99, 51], 0)
    assert drafts.next(3) == [52, 53]


def test_the_longest_match_is_followed_and_an_answers_own_text_first():
    common = Common()
    drafts, other = new(common=common), new([8, 8, 8], [], common)
    other.written([11, 12, 13, 70, 12, 13, 71], 0)
    drafts.written([60, 12], 0)
    assert drafts.next(1) == [13]
    drafts.written([13], 0)
    assert drafts.next(1) == [71]
    drafts.written([11, 12, 13], 0)
    assert drafts.next(1) == [14]
