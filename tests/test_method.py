"""Registration: light, and unable to break another ns-* command."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from nerfstudio.plugins.registry_dataparser import DataParserSpecification
from nerfstudio.plugins.types import MethodSpecification


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter."""
    return subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)


def test_the_entry_points_lead_to_specifications() -> None:
    methods = {e.name: e.load() for e in entry_points(group="nerfstudio.method_configs") if "das3r" in e.name}
    assert set(methods) == {"das3r", "das3r-light", "das3r-paper"}
    for name, specification in methods.items():
        assert isinstance(specification, MethodSpecification)
        assert specification.config.method_name == name
        assert specification.description
    (parser,) = (e.load() for e in entry_points(group="nerfstudio.dataparser_configs") if e.name == "das3r-video")
    assert isinstance(parser, DataParserSpecification)


def test_registration_imports_nothing_by_itself() -> None:
    done = run_python(
        "import sys, das3r_ns.method\n"
        "heavy = {'torch', 'numpy', 'nerfstudio', 'numba', 'cv2', 'av', 'scipy'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_unknown_names_are_attribute_errors() -> None:
    from das3r_ns import method

    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = method.no_such_thing  # pyright: ignore[reportAttributeAccessIssue]


def test_our_modules_may_be_imported_before_nerfstudios() -> None:
    """nerfstudio loads the entry points in the middle of importing what das3r_ns.data.dataset needs."""
    done = run_python(
        "import das3r_ns.data.dataset, sys\n"
        "from nerfstudio.configs.method_configs import all_methods\n"
        "print(*all_methods)\n"
        "print('heavy:', *{'av', 'skimage', 'das3r_ns.scene.points', 'das3r_ns.frontend.run'} & set(sys.modules))"
    )
    methods, _, heavy = done.stdout.partition("heavy:")
    assert {"das3r", "das3r-light", "das3r-paper"} <= set(methods.split()), done.stderr
    assert heavy.split() == []
    assert "left out" not in done.stderr


def test_a_broken_submodule_loses_the_methods_and_nothing_else() -> None:
    done = run_python(
        "import sys\n"
        "sys.modules['das3r_ns.splats.config'] = None\n"
        "from nerfstudio.configs.method_configs import all_methods\n"
        "from nerfstudio.configs.dataparser_configs import all_dataparsers\n"
        "print('das3r' in all_methods, 'splatfacto' in all_methods, 'das3r-video' in all_dataparsers)"
    )
    assert done.returncode == 0
    assert done.stdout.split()[-3:] == ["False", "True", "True"], done.stdout
    assert "Warning: das3r of das3r-ns is left out: it cannot be loaded" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_preset_or_dataparser_is_a_warning_too() -> None:
    done = run_python(
        "import das3r_ns.presets, sys\n"
        "das3r_ns.presets.read_preset = lambda name: 1 / 0\n"
        "sys.modules['das3r_ns.data.dataparser'] = None\n"
        "from das3r_ns import method\n"
        "print(method.das3r, method.das3r_light, method.das3r_video)"
    )
    assert done.stdout.split() == ["None", "None", "None"], done.stderr
    assert done.stderr.count("left out") == 3
