"""Tables and the report, from records made up by hand."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rich.console import Console

from das3r_ns.evaluation.bench.html import trajectory_svg
from das3r_ns.evaluation.bench.report import print_report, write_report
from das3r_ns.evaluation.bench.tables import Table, failures, make_tables
from das3r_ns.evaluation.protocols import load_protocol

MACHINE = {key: key for key in ("processor", "cores", "memory", "gpu", "system", "packages")}


def splats(psnr: float, **more: Any) -> dict[str, Any]:
    return {
        "figures": {"psnr_paper": psnr, "psnr_static": psnr - 1},
        "figures_refined": {"psnr_paper": psnr + 0.5, "psnr_static": psnr - 0.5},
        "frames": 50,
        "seconds": {"front end": 30.0, "training": 100.0, "rest": 5.0},
        "iterations_per_s": 12.5,
        "peak_mb": 900,
        "problems": [],
        **more,
    }


def results() -> dict[str, Any]:
    front_end = {
        "front_end": "geometric",
        "figures": {"J": 0.8, "F": 0.7, "recall": 1.0},
        "seconds": {"flow": 10.0, "masks": 2.0},
        "frames": 60,
        "peak_mb": 700,
        "problems": ["masks: 3 of 60 <frames>"],
        "trajectory": {"estimated": [[0, 0, 0], [1, 0, 0.1]], "truth": [[0, 0, 0], [1, 0, 0]]},
        "pictures": [],
    }
    return {
        "protocol": "davis",
        "description": "DAVIS & friends",
        "base": "das3r-light",
        "methods": ["das3r-light", "splatfacto"],
        "sequences": ["car-shadow", "dog", "goat"],
        "options": {
            **{"refine_test_poses": False, "strict": False, "plates": True, "max_iterations": None},
            "front_end": {"long_side": 0, "front_end": "auto", "stereo": True},
        },
        "machine": MACHINE,
        "das3r_version": "1",
        "records": {
            "car-shadow": {
                "front-end": front_end,
                "das3r-light": splats(27.0),
                "splatfacto": splats(23.0),
            },
            "dog": {
                "front-end": front_end | {"figures": {"J": 0.9, "F": 0.6, "recall": 0.5}, "problems": []},
                "das3r-light": splats(29.0),
                "splatfacto": {"failed": "It rained."},
            },
            "goat": {"front-end": {"failed": "It is not here."}},
        },
    }


def by_key(values: dict[str, Any]) -> dict[str, Table]:
    return {table.key: table for table in make_tables(values, load_protocol("davis"))}


def test_published_figures_stand_beside_ours() -> None:
    table = by_key(results())["psnr_paper"]
    names = ["das3r-light", "splatfacto", "MonST3R + InstantSplat, published", "DAS3R, published"]
    assert table.columns == ["sequence", *names]
    assert table.text_rows() == [
        ["car-shadow", "27.00", "23.00", "25.55", "29.13"],
        ["dog", "29.00", "failed", "24.41", "28.63"],
        ["mean of 2", "28.00", "23.00 (1)", "24.98", "28.88"],
    ]


def test_figures_under_guessed_masks_are_marked() -> None:
    values = results()
    values["records"]["dog"]["das3r-light"]["masks"] = "front end"
    tables = by_key(values)
    assert [row[0] for row in tables["psnr_static"].text_rows()] == ["car-shadow", "dog *", "mean of 2"]
    assert tables["J"].text_rows()[1][0] == "dog"


def test_means_over_other_sequences_say_so() -> None:
    table = by_key(results())["J"]
    assert table.columns == ["sequence", "das3r (geometric)", "published"]
    rows = table.text_rows()
    assert rows[2:5] == [
        ["goat", "failed", "-"],
        ["mean of 3", "0.850 (2)", "-"],
        ["DUSt3R, published", "-", "0.421 (all)"],
    ]
    assert table.mean_row == 3 and len(rows) == 4 + 9


def test_refined_cameras_have_columns_of_their_own() -> None:
    values = results()
    values["options"]["refine_test_poses"] = True
    table = by_key(values)["psnr_paper"]
    expected = ["das3r-light", "das3r-light, cameras refined", "splatfacto", "splatfacto, cameras refined"]
    assert table.columns[1:5] == expected
    assert table.text_rows()[0][1:5] == ["27.00", "27.50", "23.00", "23.50"]


def test_methods_are_compared_where_all_of_them_succeeded() -> None:
    rows = dict(by_key(results())["methods"].rows)
    cells = {label.split(":")[0]: values for label, values in rows.items()}
    light, plain = cells["das3r-light"], cells["splatfacto"]
    assert light == [27.0, 26.0, "+4.00"] and plain == [23.0, 22.0, "+0.00"]


def test_cost_and_failures() -> None:
    cost = by_key(results())["cost"].text_rows()
    assert cost[0] == ["car-shadow, front-end", "60", "12.0", "-", "-", "-", "700", "-"]
    assert cost[1] == ["car-shadow, das3r-light", "50", "30.0", "100.0", "5.0", "12.50", "900", "-"]
    assert failures(results()) == [
        ("car-shadow", "front-end", "masks: 3 of 60 <frames>"),
        ("dog", "splatfacto", "It rained."),
        ("goat", "front-end", "It is not here."),
    ]


class Page(HTMLParser):
    """Every address in a page, and whether its tags close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in ("meta", "img", "polyline", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("polyline", "circle"):
            return
        assert self.open.pop() == tag


@pytest.fixture()
def report(tmp_path: Path) -> Path:
    values = results()
    (tmp_path / "pictures").mkdir()
    for name in ("input", "render"):
        cv2.imwrite(str(tmp_path / f"pictures/{name}.jpg"), np.full((20, 30, 3), 90, np.uint8))
    pictures = [{"frame": "00005.jpg", "input": "pictures/input.jpg", "clean render": "pictures/render.jpg"}]
    values["records"]["dog"]["das3r-light"]["pictures"] = pictures
    values["records"]["car-shadow"]["splatfacto"]["pictures"] = [pictures[0] | {"clean render": "gone.jpg"}]
    write_report(values, load_protocol("davis"), tmp_path)
    return tmp_path


def test_the_page_holds_everything_and_asks_for_nothing(report: Path) -> None:
    text = (report / "bench.html").read_text()
    page = Page(text)
    assert page.open == []
    outside = [address for address in page.addresses if not address.startswith("#")]
    assert len(outside) == 3 and all(address.startswith("data:image/jpeg;base64,") for address in outside)
    inside = [address[1:] for address in page.addresses if address.startswith("#")]
    assert len(inside) == 6 and set(inside) <= set(page.ids) and len(set(page.ids)) == len(page.ids)
    assert not re.search(r"https?://|url\(|@import|<script", text)
    for expected in (
        "DAVIS &amp; friends",
        "3 of 60 &lt;frames&gt;",
        "It rained.",
        "28.88",
        "render, das3r-light",
    ):
        assert expected in text
    assert "clean render, splatfacto: no picture" in text and text.count("<svg") == 2


def test_the_page_tells_what_was_asked_for_and_every_machine(tmp_path: Path) -> None:
    values = results()
    values["options"] |= {"max_iterations": 1, "strict": True, "num_frames": None, "plates": False}
    values["options"]["front_end"] = {"long_side": 256, "max_frames": 150, "batch_size": 0, "stereo": False}
    values["records"]["dog"]["das3r-light"]["machine"] = MACHINE | {"gpu": "another <one>"}
    write_report(values, load_protocol("davis"), tmp_path)
    text = (tmp_path / "bench.html").read_text()
    assert "Options: --strict, --no-plates, --max-iterations 1, --long-side 256, --no-stereo.<" in text
    assert "GPU gpu, " in text and "GPU another &lt;one&gt;, " in text
    values["options"] = results()["options"]
    write_report(values, load_protocol("davis"), tmp_path)
    assert "Options: the defaults.<" in (tmp_path / "bench.html").read_text()


def test_json_and_csv_hold_the_same_figures(report: Path) -> None:
    stored = json.loads((report / "bench.json").read_text())
    assert stored["records"]["dog"]["das3r-light"]["figures"]["psnr_paper"] == 29.0
    rows = list(csv.reader((report / "tables/psnr_paper.csv").read_text().splitlines()))
    assert rows[0] == stored["tables"]["psnr_paper"]["columns"]
    assert rows[1] == ["car-shadow", "27.0", "23.0", "25.55", "29.13"]
    assert [row[0] for row in rows] == ["sequence", "car-shadow", "dog", "mean of 2"]


def test_prints() -> None:
    console = Console(record=True, width=160)
    print_report(results(), make_tables(results(), load_protocol("davis")), console)
    text = console.export_text()
    assert "28.88" in text and "dog, splatfacto: It rained." in text and "Machine: processor" in text


def test_no_table_without_a_figure() -> None:
    values = results()
    values["records"] = {name: {"front-end": {"failed": "no"}} for name in values["sequences"]}
    assert make_tables(values, load_protocol("davis")) == []


def test_the_path_is_drawn_from_its_flattest_side() -> None:
    path = np.array([[0, 0, 0], [1.0, 0, 0], [1.0, 0, 1.0], [0, 0, 1.0]])  # a square in the plane of x and z
    svg = trajectory_svg(path, path)
    points = [np.array([pair.split(",") for pair in p.split()], float) for p in re.findall(r'points="([^"]+)"', svg)]
    assert len(points) == 2
    sides = np.linalg.norm(np.diff(points[0], axis=0), axis=1)
    assert np.ptp(sides) < 0.5 and sides.min() > 100
    np.testing.assert_array_equal(points[0], points[1])
    assert "svg" in trajectory_svg(np.zeros((3, 3)), np.zeros((3, 3)))  # a tripod
