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
    files = {path.stem: path for path in sorted(Path("jobs").glob("*.yaml"))}
    return files | {path.stem: path for path in sorted(jobs().glob("*.yaml")) if path.stem not in files}
