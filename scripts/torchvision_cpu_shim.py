"""Let ``import torchvision`` work beside a CPU build of torch.

The torchvision wheel that pip installs by default is a CUDA build. Next to a CPU build of torch its native library does
not load, and ``import torchvision`` stops at ``operator torchvision::nms does not exist``: torchvision describes the
shapes of operators that its missing library was to declare. Declaring them first is enough: nothing here calls them.

``python scripts/torchvision_cpu_shim.py`` looks whether the interpreter that runs it has that fault, and only then
copies this file and a ``.pth`` line that loads it into that interpreter's site-packages. It is for the development
environment alone: users of the package bring a torch and a torchvision that fit each other.
"""

import sys
from importlib.abc import MetaPathFinder

NAME = "_torchvision_cpu_shim"
OPERATORS = ("nms", "qnms")
SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class OperatorDeclarer(MetaPathFinder):
    """Finds no module itself: declares torchvision's operators when torchvision is first looked for."""

    done = False

    def find_spec(self, fullname, path=None, target=None):
        """Return None always, so that the ordinary finders go on to find ``fullname``."""
        if fullname == "torchvision" and not self.done:
            self.done = True
            import torch  # not at the top: this file is read at every start of the interpreter

            if torch.version.cuda is None:
                for operator in OPERATORS:
                    torch.library.define(f"torchvision::{operator}", SCHEMA)
        return None


def register() -> None:
    """Put the finder before the ordinary ones; what the ``.pth`` line calls, more than once in some environments."""
    if not any(isinstance(finder, OperatorDeclarer) for finder in sys.meta_path):
        sys.meta_path.insert(0, OperatorDeclarer())


def install() -> str:
    """Install the shim into the running interpreter's site-packages where torchvision needs it.

    Returns:
        One line that says what was done.

    Raises:
        SystemExit: torchvision fails to import for a reason that the shim does not mend.
    """
    import subprocess
    import sysconfig
    from pathlib import Path

    def failure() -> str:
        result = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, text=True)
        return result.stderr if result.returncode else ""

    if not (problem := failure()):
        return "torchvision imports: no shim needed"
    if "operator torchvision::nms does not exist" not in problem:
        raise SystemExit(f"torchvision does not import, and not for lack of the shim:\n{problem}")
    site = Path(sysconfig.get_path("purelib"))
    (site / f"{NAME}.py").write_text(Path(__file__).read_text())
    (site / f"{NAME}.pth").write_text(f"import {NAME}; {NAME}.register()\n")
    if problem := failure():
        raise SystemExit(f"torchvision does not import even with the shim:\n{problem}")
    return f"torchvision shim for CPU torch installed in {site}"


if __name__ == "__main__":
    print(install())
