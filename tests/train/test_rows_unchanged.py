"""The digest of a dataset is that of the bytes that were tokenized."""

import hashlib

import pytest

from hatrain.contract.run import Exit
from hatrain.errors import BadInput
from hatrain.train import flow, rows
from hatrain.train.rows import check_same_everywhere
from tests.train.conftest import house_rows, write_rows


def test_a_file_that_changes_after_it_was_read_is_refused_by_the_next_attempt(workplace, monkeypatch):
    own = workplace.folder / "own.jsonl"
    write_rows(own, house_rows(20, 1))
    read = hashlib.sha256(own.read_bytes()).hexdigest()
    original = rows.tokenize_dataset

    def changed_behind_it(*args, **settings):
        tokenized = original(*args, **settings)
        write_rows(own, house_rows(20, 2))
        return tokenized

    plan = workplace.plan(data__train=str(own), checkpoints__save_steps=1)
    with monkeypatch.context() as patch:
        patch.setattr(rows, "tokenize_dataset", changed_behind_it)
        tried = workplace.attempt(plan, stop_at=1)
    assert tried.code is Exit.REQUEUE
    assert rows.seal.facts(tried.run.checkpoints / "checkpoint-1")["data"][str(own)] == read
    tried = workplace.attempt(plan)
    assert tried.code is Exit.FATAL
    assert tried.reason.startswith(f"{own}: has changed since checkpoint-1 was trained on it")


def test_ranks_that_read_different_rows_do_not_train(workplace):
    check_same_everywhere([{"a": "1", "b": "2"}, {"a": "1", "b": "2"}])
    with pytest.raises(BadInput, match=r"^b: rank 1 read other rows than rank 0"):
        check_same_everywhere([{"a": "1", "b": "2"}, {"a": "1", "b": "3"}])

    plan = workplace.plan()
    (path,) = [file.path for file in plan.job.data.train]
    with workplace.monkeypatch.context() as patch:
        patch.setattr(flow, "from_all_ranks", lambda files: [files, {**files, path: "another"}])
        tried = workplace.attempt(plan)
    assert tried.code is Exit.FATAL
    assert tried.reason.startswith(f"{path}: rank 1 read other rows than rank 0")
