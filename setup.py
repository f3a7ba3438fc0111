"""Puts the jobs into a wheel. In a checkout they are beside the package, where it is installed they are inside it."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithJobs(build_py):
    """Copies jobs/ into the package, unless the package stays in its checkout (`pip install -e`)."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        inside = Path(self.build_lib, "hatrain", "jobs")
        inside.mkdir(parents=True, exist_ok=True)
        for file in sorted(Path("jobs").iterdir()):
            if file.suffix in (".yaml", ".json", ".jinja"):
                self.copy_file(str(file), str(inside / file.name))


setup(cmdclass={"build_py": WithJobs})
