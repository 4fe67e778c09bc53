"""A config.yml of version 0.1: one sentence, by whatever command it is opened."""

from __future__ import annotations

import importlib.util
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import das3r_ns
from das3r_ns.errors import Das3rExit
from das3r_ns.renamed import RENAMED

# What version 0.1 wrote begins like this; the names of its classes are all that matters here.
CONFIG = """\
!!python/object:das3r_ns.trainer.Das3rTrainerConfig
_target: !!python/name:das3r_ns.trainer.Das3rTrainer ''
method_name: das3r
pipeline: !!python/object:nerfstudio.pipelines.base_pipeline.VanillaPipelineConfig
  datamanager: !!python/object:das3r_ns.dataset.Das3rDataManagerConfig
    dataparser: !!python/object:das3r_ns.dataparser.Das3rVideoDataParserConfig
      data: video
  model: !!python/object:das3r_ns.model_config.Das3rModelConfig
    sh_degree: 3
"""
SENTENCE = "This run was trained by das3r 0.1: its config.yml names das3r_ns.trainer, which has another name since 0.2."


@pytest.fixture()
def old_config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yml"
    path.write_text(CONFIG)
    return path


def test_loading_it_as_nerfstudio_does_leaves_with_a_sentence(old_config: Path) -> None:
    with pytest.raises(Das3rExit) as left:
        yaml.load(old_config.read_text(), Loader=yaml.Loader)
    assert str(left.value).startswith(SENTENCE)
    assert "\n" not in str(left.value)


@pytest.mark.parametrize("name", sorted(RENAMED))
def test_each_renamed_module_is_gone_and_explained(name: str) -> None:
    assert not (Path(das3r_ns.__file__).parent / f"{name.partition('.')[2].replace('.', '/')}.py").exists()
    document = f"!!python/name:{name}.Anything ''"
    with pytest.raises(Das3rExit, match=f"names {name},"):
        yaml.load(document, Loader=yaml.Loader)
    assert name not in sys.modules


def test_nothing_else_is_disturbed() -> None:
    for name in RENAMED:
        importlib.util.find_spec(name)  # asking is allowed
    assert importlib.util.find_spec("das3r_ns.nothing") is None
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("das3r_ns.nothing")
    with pytest.raises(yaml.YAMLError):
        yaml.load("!!python/name:das3r_ns.nothing.Nothing ''", Loader=yaml.Loader)
    found = {module.name for module in pkgutil.walk_packages(das3r_ns.__path__, "das3r_ns.", onerror=lambda _: None)}
    assert not RENAMED & found
    before = list(sys.meta_path)
    assert len([finder for finder in before if getattr(finder, "__module__", "") == "das3r_ns.renamed"]) == 1
    importlib.reload(das3r_ns)
    assert sys.meta_path == before


def test_das3r_clean_plate_says_it_too(old_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from das3r_ns.cli.main import entrypoint

    with pytest.raises(SystemExit) as left:
        entrypoint(["clean-plate", "--load-config", str(old_config), "--output-dir", str(old_config.parent / "plates")])
    assert left.value.code == 1
    assert SENTENCE in capsys.readouterr().err


@pytest.mark.slow
def test_ns_export_says_it_and_nothing_more(old_config: Path) -> None:
    command = ["ns-export", "gaussian-splat", "--load-config", str(old_config), "--output-dir", str(old_config.parent)]
    script = Path(sys.executable).with_name(command[0])
    done = subprocess.run([sys.executable, script, *command[1:]], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert SENTENCE in done.stderr
    assert "Traceback" not in done.stderr
