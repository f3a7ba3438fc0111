"""The jobs that come with hatrain, which can be given by name in any folder."""

from pathlib import Path

import hatrain

_PACKAGE = Path(hatrain.__file__).parent


def jobs() -> Path:
    """Return their folder: inside the package where a wheel was installed, beside it in a checkout. A copy of the
    package alone has none."""
    installed = _PACKAGE / "jobs"
    return installed if installed.is_dir() else _PACKAGE.parent / "jobs"


def find_jobs() -> dict[str, Path]:
    """Return every job that can be given by name, the user's own in ./jobs first; they take precedence."""
    own, others = (
        {path.stem: path for path in sorted(folder.glob("*.yaml"), key=lambda path: path.stem)}
        for folder in (Path("jobs"), jobs())
    )
    return own | {name: path for name, path in others.items() if name not in own}
