"""What the record says about the code of an attempt."""

from importlib import metadata

import hatrain
from hatrain.runtime import provenance


def test_the_version_is_that_of_the_code_that_runs_even_where_it_is_not_installed(monkeypatch):
    def not_installed(package):
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "version", not_installed)
    found = provenance.versions()
    assert found.keys() == {"python", "hatrain"}
    assert found["hatrain"] == hatrain.__version__
