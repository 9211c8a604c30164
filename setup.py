"""The build: a wheel also has the experiments of the checkout, in `fgen/experiment/tomls/`."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithExperiments(build_py):
    """Copy `experiments/*.toml` into the package; an editable install finds them in the checkout."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "fgen", "experiment", "tomls")
            self.mkpath(str(target))
            for file in sorted(Path("experiments").glob("*.toml")):
                self.copy_file(str(file), str(target))


setup(cmdclass={"build_py": BuildWithExperiments})
