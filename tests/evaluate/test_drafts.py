"""Drafts follow the expected answer, then what stood after the same tokens before."""

from hatrain.evaluate.drafts import FIRST, MOST, Drafts

PROMPT, REPLY = [1, 2, 3, 4, 5], [10, 11, 12, 13, 14, 15, 16]


def test_a_draft_begins_with_the_expected_answer():
    assert Drafts(PROMPT, REPLY).first(3) == [10, 11, 12]


def test_nothing_is_drafted_after_tokens_that_were_never_together():
    drafts = Drafts(PROMPT, REPLY)
    drafts.written([99], 0)
    assert drafts.next(8) == []


def test_an_answer_that_comes_back_to_the_expected_one_follows_it_again():
    drafts = Drafts(PROMPT, REPLY)
    drafts.written([99], 0)
    drafts.written([11], 0)
    drafts.written([12], 0)
    assert drafts.next(8) == [13, 14, 15, 16][:FIRST]
    assert drafts.next(2) == [13, 14]


def test_what_repeats_itself_is_drafted_without_end():
    drafts = Drafts(PROMPT, REPLY)
    drafts.written([7, 8, 7, 8, 7], 0)
    for length in (FIRST, 2 * FIRST, 4 * FIRST, MOST, MOST):
        drafted = drafts.next(100)
        assert drafted == [(8, 7)[number % 2] for number in range(length)]
        drafts.written([*drafted, (8, 7)[length % 2]], len(drafted))
        if length % 2 == 0:
            drafts.written([7], 0)


def test_drafts_that_fail_become_shorter_until_one_would_have_been_right():
    drafts = Drafts([1, 2, 3] * 4, [])
    drafts.written([1, 2], 0)
    lengths = [len(drafts.next(9))]
    for token in (3, 1, 2):
        drafts.written([token], drafted=1)  # and none of the draft
        lengths.append(len(drafts.next(9)))
    assert lengths == [4, 2, 1, 0]
    drafts.written([3], 0)
    assert len(drafts.next(9)) == 2
