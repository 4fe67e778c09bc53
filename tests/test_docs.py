"""What the documentation says exists: commands are parsed, options and defaults looked up, nerfstudio's entry built."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import shlex
import types
import typing
from collections.abc import Iterator
from functools import cache
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
from das3r_ns.data.dataparser import Das3rVideoDataParserConfig
from das3r_ns.evaluation import sheet
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.presets import read_preset, trainer_config
from das3r_ns.splats.config import Das3rModelConfig

ROOT = Path(__file__).parents[1]
README, GUIDE, PAGE = ROOT / "README.md", ROOT / "docs/guide.md", ROOT / "docs/nerfstudio/das3r.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
PARSERS: dict[str, Any] = {
    "ns-train": AnnotatedBaseConfigUnion,
    "ns-viewer": run_viewer.RunViewer,
    "ns-export": exporter.Commands,
    "ns-render": render.Commands,
    "ns-eval": ns_eval.ComputePSNR,
    "das3r": main.Command,
}
METHODS = {"das3r", "das3r-light", "das3r-paper"}
DATAPARSER = "pipeline.datamanager.dataparser."
OTHER_OPTIONS = {"help", "version"}
"""Options of every command, and of nvcc."""


def commands(page: Path) -> list[list[str]]:
    """The commands in the bash blocks and in the first column of the tables of a page that belong to PARSERS."""
    text = page.read_text()
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    written = [line for block in blocks for line in block.splitlines()]
    written += re.findall(r"^\| `([\w-]+ [^`]*)` \|", text, flags=re.MULTILINE)
    lines = [shlex.split(line, comments=True) for line in written]
    return [line for line in lines if line and line[0] in PARSERS]


def named(value: Any, path: str) -> Any:
    """What a dotted option stands for in a configuration."""
    for name in path.replace("-", "_").split("."):
        assert name in {field.name for field in dataclasses.fields(value)}, path
        value = getattr(value, name)
    return value


def shown(value: Any) -> str:
    """A default as the documentation writes it, without thousands separators."""
    return "" if value is None else str(value)


def option_table(page: Path, heading: str) -> dict[str, str]:
    """Option -> default, of the table of options that follows a text."""
    lines = page.read_text().partition(heading)[2].strip().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| option |"))
    rows: dict[str, str] = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        option, default = [cell.strip().replace("`", "") for cell in line.split("|")[1:3]]
        rows[option] = default.replace(",", "")
    return rows


def option_names(kind: Any, prefix: str = "") -> Iterator[str]:
    """The options of a command (a type) or of a configuration (a value), as tyro spells them."""
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        inner, *notes = typing.get_args(kind)
        unnamed = any(getattr(note, "name", None) == "" for note in notes)  # tyro's arg(name="")
        yield from option_names(inner, "" if unnamed else prefix)
    elif origin in (typing.Union, types.UnionType):
        for part in typing.get_args(kind):
            yield from option_names(part, prefix)
    elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
        for name, hint in typing.get_type_hints(kind, include_extras=True).items():
            yield from _spellings(name, prefix)
            yield from option_names(hint, f"{prefix}{name.replace('_', '-')}.")
    elif dataclasses.is_dataclass(kind):  # a configuration, whose values say more than its annotations
        for field in dataclasses.fields(kind):
            yield from _spellings(field.name, prefix)
            yield from option_names(getattr(kind, field.name), f"{prefix}{field.name.replace('_', '-')}.")


def _spellings(field: str, prefix: str) -> tuple[str, str]:
    name = field.replace("_", "-")
    return prefix + name, f"{prefix}no-{name}"


@cache
def every_option() -> frozenset[str]:
    """Of all commands of das3r, and of nerfstudio's for its methods."""
    kinds = [main.Command, sheet.SheetConfig, run_viewer.RunViewer, exporter.Commands, render.Commands]
    kinds += [ns_eval.ComputePSNR]
    kinds += [trainer_config(method) for method in METHODS]
    return frozenset(name for kind in kinds for name in option_names(kind)) | OTHER_OPTIONS


@pytest.mark.parametrize("page", [PAGE, README, GUIDE], ids=lambda page: page.name)
def test_every_command_can_be_given(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = commands(page)
    assert len(found) >= 8
    for program, *arguments in found:
        try:
            tyro.cli(PARSERS[program], args=arguments)
        except SystemExit as leaving:
            assert leaving.code == 0, f"{program} {' '.join(arguments)}: {capsys.readouterr()}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_that_is_run_exists(page: Path) -> None:
    for module in re.findall(r"python -m (das3r_ns[\w.]+)", page.read_text()):
        assert importlib.util.find_spec(module) is not None, module
    for script in re.findall(r"python (benchmarks/\w+\.py)", page.read_text()):
        assert (ROOT / script).is_file(), script


@pytest.mark.parametrize("page", [README, GUIDE, PAGE], ids=lambda page: page.name)
def test_every_option_named_exists(page: Path) -> None:
    found = set(re.findall(r"(?<![\w-])--([a-z][\w.-]*\w)", page.read_text()))
    assert len(found) >= 8
    assert not found - every_option()


def test_no_option_exists_that_nobody_has() -> None:
    assert not {"pipeline.model.no-such", "front-end.threshold", "max-points"} & every_option()
    assert {"threshold", "no-stereo", f"{DATAPARSER}front-end.masks", "load-config"} <= every_option()


def test_every_option_of_the_page_has_the_default_named() -> None:
    options = re.findall(r"^\| `--([\w.-]+)` +\| (.*?) *\|", PAGE.read_text(), flags=re.MULTILINE)
    assert len(options) >= 8
    for option, default in options:
        assert default == shown(named(trainer_config("das3r"), option)), option


def test_the_readme_names_ten_options_with_their_defaults() -> None:
    table = option_table(README, "### Ten options that matter")
    assert len(table) == 10
    for option, default in table.items():
        match = re.fullmatch(r"(\S*?)(?: ?\((\S+) in (das3r-\w+)\))?", default)
        assert match is not None, default
        assert match[1] == shown(named(trainer_config("das3r"), DATAPARSER + option)), option
        if match[3]:
            assert match[2] == shown(named(trainer_config(match[3]), DATAPARSER + option)), option


@pytest.mark.parametrize(
    ("part", "prefix", "kind", "left_out"),
    [
        ("front-end", f"{DATAPARSER}front-end.", FrontEndConfig, ()),
        ("dataparser", DATAPARSER, Das3rVideoDataParserConfig, ("data", "front_end")),
        ("model", "pipeline.model.", Das3rModelConfig, ("camera_optimizer",)),
    ],
)
def test_the_guide_names_all_options_with_their_defaults(
    part: str, prefix: str, kind: type, left_out: tuple[str, ...]
) -> None:
    table = option_table(GUIDE, f"<!-- options:{part} -->")
    hints = typing.get_type_hints(kind, include_extras=True)
    own = {name for name in kind.__annotations__ if name != "_target" and tyro.conf.Suppress not in _notes(hints[name])}
    assert {name.replace("_", "-") for name in own - set(left_out)} <= set(table)
    for option, default in table.items():
        assert default == shown(named(trainer_config("das3r"), prefix + option)), option


def _notes(hint: Any) -> tuple[Any, ...]:
    """What is annotated to a type; tyro's Suppress[int] is Annotated[int, Suppress's own mark]."""
    marks = typing.get_args(tyro.conf.Suppress[int])[1:]
    return (tyro.conf.Suppress,) if any(note in marks for note in typing.get_args(hint)[1:]) else ()


def test_the_readme_is_one_page() -> None:
    assert len(README.read_text().splitlines()) < 200


def test_every_figure_of_the_readme_stands_in_a_table() -> None:
    section = README.read_text().partition("## What it reaches")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert len(rows) == 6
    cells = {
        cell.strip(" *")
        for line in (ROOT / "docs/results.md").read_text().splitlines()
        if line.startswith("|")
        for cell in line.split("|")
    }
    for row in rows:
        figures = re.findall(r"\*\*([\d.]+)\*\*", row)
        assert figures and "](docs/results.md#" in row
        assert set(figures) <= cells, row


def test_the_page_has_the_sections_nerfstudio_asks_for() -> None:
    headings = re.findall(r"^## (.*)$", PAGE.read_text(), flags=re.MULTILINE)
    assert headings == ["Installation", "Running das3r", "Requirements", "Method", "Results", "Citation"]
    listed = set(re.findall(r"^\| `(das3r[\w-]*)`", PAGE.read_text(), flags=re.MULTILINE))
    assert listed == METHODS


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in link]
    for link in links:
        if link.startswith("nerfology/"):  # a path in nerfstudio's repository
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_room_named_exists(page: Path) -> None:
    """Paths of the package that a page names in code, such as ``frontend/run.py`` or ``scene/``."""
    package = ROOT / "das3r_ns"
    rooms = {path.name for path in package.iterdir() if path.is_dir()}
    for path in re.findall(r"`(?:das3r_ns/)?(\w+/[\w/]*(?:\.py)?)`", page.read_text()):
        if path.partition("/")[0] in rooms - {"demo", "data"}:  # also names of folders of the user's
            assert (package / path).exists(), path
