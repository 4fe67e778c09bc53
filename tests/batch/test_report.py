"""The page, the report and the table of a batch."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rich.console import Console

from das3r_ns.batch import html
from das3r_ns.batch.config import STEPS
from das3r_ns.batch.look import Look
from das3r_ns.batch.plan import Plan
from das3r_ns.batch.report import Report
from das3r_ns.batch.steps import Step, steps_of
from das3r_ns.batch.table import LiveTable, how_far
from das3r_ns.batch.videos import Video, VideoOptions
from das3r_ns.progress import Progress

LOOK = Look("k", "geometric", 40, (854, 480), (480, 270))


@pytest.fixture()
def plans(tmp_path: Path) -> list[Plan]:
    found = []
    for name in ("one & only", "two", "three"):
        video = Video(name, Path("/clips") / name, VideoOptions("das3r-light"))
        found.append(Plan(video, LOOK, steps_of(video, LOOK, tmp_path, STEPS, 1)))
        (tmp_path / name / "batch").mkdir(parents=True)
    found.append(Plan(Video("bad", Path("/clips/bad"), VideoOptions("das3r-light")), Look(failed="No <frames> there.")))
    return found


@pytest.fixture()
def report(plans: list[Plan], tmp_path: Path) -> Report:
    made = Report(tmp_path, STEPS, "das3r-light", time.time())
    made.add(plans)
    return made


def record(step: Step, **more: Any) -> dict[str, Any]:
    return {"step": step.name, "key": step.key, "seconds": 20.0, "peak_mb": 900, "bytes": 10**6, **more}


def test_the_page_needs_nothing_but_itself(report: Report, plans: list[Plan], tmp_path: Path) -> None:
    for name in ("before", "mask", "after"):
        picture = np.full((30, 40, 3), 128, np.uint8)
        cv2.imwrite(str(tmp_path / "one & only/batch" / f"{name}.jpg"), picture)
    for step in plans[0].steps:
        report.done("one & only", step.name, record(step))
    report.done("two", "masks", record(plans[1].steps[0], failed="It is <broken>."))
    results = report.write()
    page = (tmp_path / "batch.html").read_text()
    assert not re.search(r"https?://|<link|<script|@import|url[(]", page)
    sources = re.findall(r'src="([^"]{22})', page)
    assert sources == ["data:image/jpeg;base64"] * 3
    assert "1 of 4 videos done" in page and "2 failed" in page
    assert "It is &lt;broken&gt;." in page and "No &lt;frames&gt; there." in page
    assert "one &amp; only" in page and "type=range" in page and "class=before" in page
    anchors = set(re.findall(r'href="#([^"]+)"', page))
    assert anchors <= set(re.findall(r'id="([^"]+)"', page)) and len(anchors) == 4
    assert set(results["videos"]["one & only"]["pictures"]) == {"before.jpg", "mask.jpg", "after.jpg"}


def test_what_the_masks_say_of_the_cameras_is_shown(report: Report, plans: list[Plan], tmp_path: Path) -> None:
    said = {"camera_kind": "tripod", "verdict": {"word": "doubtful", "message": "Two halves disagree."}}
    messages = ["Front end: geometric (no weights).", "Hardly anything could be matched."]
    (tmp_path / "two/masks").mkdir()
    (tmp_path / "two/masks/das3r.json").write_text(json.dumps({**said, "provenance": {"messages": messages}}))
    report.done("two", "masks", record(plans[1].steps[0]))
    report.write()
    page = (tmp_path / "batch.html").read_text()
    assert "<td>tripod</td><td>doubtful</td>" in page and "camera from a tripod" in page
    assert "<li>Two halves disagree.</li><li>Hardly anything could be matched.</li>" in page


def test_a_page_of_many_videos_shows_some_and_the_failed_ones(
    report: Report, plans: list[Plan], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(html, "SHOWN", 2)
    report.done("three", "masks", record(plans[2].steps[0], failed="It rained."))
    report.write()
    page = (tmp_path / "batch.html").read_text()
    assert page.count("<section") == 2 and page.count("<tr>") == 5 and "Pictures of 2 videos" in page
    assert {"video-three", "video-bad"} == set(re.findall(r'<section class=card id="([^"]+)"', page))


def test_videos_of_earlier_runs_stay_in_the_report(report: Report, plans: list[Plan], tmp_path: Path) -> None:
    report.done("two", "masks", record(plans[1].steps[0]))
    report.write()
    later = Report(tmp_path, ("train",), "das3r", time.time())
    later.add(plans[2:3])
    assert set(later.write()["videos"]) == {"one & only", "two", "three"}  # of the bad one there is no folder
    assert later.records("two")["masks"]["seconds"] == 20


def drawn(table: LiveTable) -> str:
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(table.draw())
    return console.export_text()


def test_the_table_has_a_line_for_each_video_at_work(report: Report, plans: list[Plan]) -> None:
    todo = plans[:3]
    table = LiveTable(todo, report)
    assert "0 of 3 videos through" in drawn(table)
    table.begin(todo[0])
    table.begin(todo[1])
    todo[0].steps[0].log.write_text("Decoding frames: 1.0 s\\nMatching: 3.0 s\\n")
    text = drawn(table)
    assert "Matching: 3.0 s" in text and "waiting" in text and "three" not in text
    report.done(todo[0].video.name, "masks", record(todo[0].steps[0]))
    table.end(todo[0])
    todo[0].steps[1].log.write_text("Step (% Done)\\n10 (2.50%)\\n1000 (25.00%)\\n")
    text = drawn(table)
    assert "25 %" in text and "1/4" in text and " left" in text
    for step in todo[1].steps:
        report.done("two", step.name, record(step))
        table.end(todo[1])
    report.done(todo[0].video.name, "train", record(todo[0].steps[1], failed="It rained."))
    table.end(todo[0])
    assert "2 of 3 videos through, 1 failed" in drawn(table)


def test_how_far_a_step_is_without_a_log(plans: list[Plan]) -> None:
    assert how_far(plans[0].steps[0]) == ""


def test_nothing_is_drawn_into_a_file(tmp_path: Path) -> None:
    with (tmp_path / "log.txt").open("w") as file, Progress(Console(file=file)).live(lambda: "the table"):
        pass
    assert (tmp_path / "log.txt").read_text() == ""
