import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from experiments.common import figures
from experiments.common.command import ExperimentError
from experiments.common.report import Matrix, Report, bad, good, note


@dataclass(frozen=True)
class Config:
    steps: int = 3
    out: Path = Path("somewhere")


class Page(HTMLParser):
    """The tags of a page, which must be closed in order, and the files that it refers to."""

    EMPTY = ("meta", "img", "br", "link")

    def __init__(self, path):
        super().__init__()
        self.open, self.files, self.text = [], [], path.read_text("utf-8")
        self.feed(self.text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag not in self.EMPTY:
            self.open.append(tag)
        self.files += [value for name, value in attributes if name == "src"]
        self.files += [
            value for name, value in attributes if name == "href" and not value.startswith("#")
        ]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check_page(page):
    """The page is whole, explains its figures, and needs nothing but the files beside it."""
    read = Page(page)
    for name in read.files:
        assert "/" not in name
        assert (page.parent / name).stat().st_size > 1000
    for target in re.findall(r'href="#([^"]*)"', read.text):
        assert f'id="{target}"' in read.text
    images, described = (
        read.text.count("<img"),
        len(re.findall(r'<img [^>]*alt="[^"]+"', read.text)),
    )
    assert images == described
    assert "http" not in read.text
    assert {path.name for path in page.parent.glob("*.png")} == set(read.files)
    return read


@pytest.fixture
def report(tmp_path):
    return Report("name", "A title", lead="A <lead>.", config=Config(), folder=tmp_path / "a" / "b")


def test_a_page_and_its_files(report):
    for title in ("First", "Second & last", "Ünï"):
        report.section(title)
    report.subsection("Below")
    report.text("One paragraph with `x < y`.\n\nAnother.")
    report.code("θ = θ - η * g\n")
    report.cards({"accuracy": "99 %"})
    report.cards({"first": "1"}, top=True)
    report.table(
        ["a", "b"],
        [["text", 1.23456], [good("yes"), np.int64(3)], [bad("no"), note("hm")]],
        caption="A table.",
    )
    report.table(
        ["m"], [[Matrix([[1.0, -2.0], [3.0, 0.123456]], "good", "a remark")], [Matrix(2.0)]]
    )
    figure, (plot, other) = figures.axes(2)
    figures.curves(plot, {"one": [3, 2, 1], "two": ([0, 1], [1, 2])}, xlabel="x", ylabel="y")
    figures.confusion(other, np.array([[3, 1], [0, 2]]), ["no", "yes"])
    report.figure("curves", figure, caption='It\'s "a" <curve>.')
    page = report.finish({"value": np.float32(2), "array": np.arange(2), "nan": float("nan")})

    read = check_page(page)
    assert read.files == ["curves.png"]
    assert "<code>x &lt; y</code>" in read.text
    assert "<td>−2</td>" in read.text
    assert read.text.index("first") < read.text.index("First")

    assert json.loads((report.folder / "config.json").read_text()) == {
        "steps": 3,
        "out": "somewhere",
    }
    metrics = json.loads((report.folder / "metrics.json").read_text())
    assert metrics.pop("seconds") > 0
    assert metrics == {"value": 2.0, "array": [0, 1], "nan": "nan"}


def test_the_page_is_named_at_the_end(report, capsys):
    report.finish({})
    assert capsys.readouterr().out.splitlines()[-1] == str(report.page.resolve())


def test_a_failed_run_leaves_no_page_of_the_run_before(report):
    report.finish({})
    again = Report("name", "Again", config=Config(), folder=report.folder)
    assert not again.page.exists()
    assert not (again.folder / "metrics.json").exists()


def test_an_earlier_checkpoint_is_removed_unless_resumed(report):
    (report.folder / "checkpoint" / "0").mkdir(parents=True)
    assert report.checkpoint(resume=True).exists()
    assert not report.checkpoint().exists()


def test_an_unwritable_folder_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        ExperimentError, match=r"out: the output folder '.*file/x' cannot be written"
    ):
        Report("name", "A title", folder=tmp_path / "file" / "x")


def test_smoothed_is_a_running_mean():
    assert figures.smoothed([1.0, 3.0, 5.0, 7.0], 2).tolist() == [1.0, 2.0, 4.0, 6.0]


def test_contact_sheet_has_an_image_and_a_caption_each():
    sheet = figures.contact_sheet(
        np.random.default_rng(0).uniform(size=(5, 4, 4)),
        [f"number {index}" for index in range(5)],
        columns=3,
        signed=[False] * 4 + [True],
        rows=["above", "below"],
    )
    shown = [plot for plot in sheet.axes if plot.images]
    assert [plot.get_xlabel() for plot in shown] == [f"number {index}" for index in range(5)]
