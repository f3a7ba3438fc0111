"""The digest of a dataset is that of the rows that were tokenized."""

from hatrain.contract.run import Exit
from hatrain.train import rows
from tests.train.conftest import house_rows, write_rows


def test_data_that_changes_while_it_is_read_is_noticed(workplace, monkeypatch):
    own = workplace.folder / "own.jsonl"
    write_rows(own, house_rows(20, 1))
    original = rows.tokenize_dataset

    def slow(*args, **settings):
        tokenized = original(*args, **settings)
        write_rows(own, house_rows(20, 2))
        return tokenized

    monkeypatch.setattr(rows, "tokenize_dataset", slow)
    tried = workplace.attempt(workplace.plan(data__train=str(own)))
    assert (tried.code, tried.reason) == (
        Exit.FATAL,
        f"{own}: changed while it was read; start the run again once it is whole",
    )
