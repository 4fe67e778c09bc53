"""What the documentation says exists: commands are parsed, options looked up, nerfstudio's entry built."""

from __future__ import annotations

import dataclasses
import re
import shlex
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import tyro
from nerfstudio.configs.external_methods import ExternalMethod, ExternalMethodDummyTrainerConfig
from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion
from nerfstudio.scripts import eval as ns_eval
from nerfstudio.scripts import exporter, render
from nerfstudio.scripts.viewer import run_viewer

from das3r_ns.cli import main
from das3r_ns.presets import read_preset, trainer_config

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/nerfstudio/das3r.md"
PARSERS: dict[str, Any] = {
    "ns-train": AnnotatedBaseConfigUnion,
    "ns-viewer": run_viewer.RunViewer,
    "ns-export": exporter.Commands,
    "ns-render": render.Commands,
    "ns-eval": ns_eval.ComputePSNR,
    "das3r": main.Command,
}
METHODS = {"das3r", "das3r-light", "das3r-paper"}


def commands(page: Path) -> list[list[str]]:
    """The commands in the bash blocks of a page that belong to PARSERS."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(), flags=re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and line[0] in PARSERS]


@pytest.mark.parametrize("page", [PAGE, ROOT / "README.md"], ids=lambda page: page.name)
def test_every_command_can_be_given(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = commands(page)
    assert len(found) >= 3
    for program, *arguments in found:
        try:
            tyro.cli(PARSERS[program], args=arguments)
        except SystemExit as leaving:
            assert leaving.code == 0, f"{program} {' '.join(arguments)}: {capsys.readouterr()}"


def test_every_option_exists_with_the_default_named() -> None:
    options = re.findall(r"^\| `--([\w.-]+)` +\| (.*?) *\|", PAGE.read_text(), flags=re.MULTILINE)
    assert len(options) >= 8
    for option, default in options:
        value: Any = trainer_config("das3r")
        for name in option.replace("-", "_").split("."):
            assert name in {field.name for field in dataclasses.fields(value)}, option
            value = getattr(value, name)
        assert default == ("" if value is None else str(value)), option


def test_the_page_has_the_sections_nerfstudio_asks_for() -> None:
    headings = re.findall(r"^## (.*)$", PAGE.read_text(), flags=re.MULTILINE)
    assert headings == ["Installation", "Running das3r", "Requirements", "Method", "Results", "Citation"]
    named = set(re.findall(r"^\| `(das3r[\w-]*)`", PAGE.read_text(), flags=re.MULTILINE))
    assert named == METHODS


def test_the_entry_for_nerfstudio_names_what_is_registered() -> None:
    methods: list[ExternalMethod] = []
    code = (ROOT / "docs/nerfstudio/external_method.py").read_text()
    exec(code, {"external_methods": methods, "ExternalMethod": ExternalMethod})
    (method,) = methods
    registered = {e.name for e in entry_points(group="nerfstudio.method_configs") if e.value.startswith("das3r_ns.")}
    assert {name for name, _ in method.configurations} == registered == METHODS
    for name, description in method.configurations:
        assert description == read_preset(name)["description"]
    assert method.pip_package == "das3r-ns" and "pip install das3r-ns" in method.instructions
    fields = {field.name for field in dataclasses.fields(ExternalMethodDummyTrainerConfig)}
    assert fields == {"method_name", "method"}  # what nerfstudio makes of it


@pytest.mark.parametrize("page", [PAGE, ROOT / "README.md", ROOT / "docs/README.md"], ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in link]
    for link in links:
        if not link.startswith("nerfology/"):  # a path in nerfstudio's repository
            assert (page.parent / link.partition("#")[0]).exists(), link
