"""The pages tell the truth: examples run, links lead somewhere, tables are up to date."""

import contextlib
import io
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from docs import atlas, generate

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("**/*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page):
    """(language, text, line) of every fenced block of the page."""
    text = page.read_text("utf-8")
    for fence in FENCE.finditer(text):
        yield fence[1], fence[2], text.count("\n", 0, fence.start(2))


@contextlib.contextmanager
def as_a_reader_has_it():
    """The defaults of JAX, which the tests' settings are stricter than, and of NumPy's printing."""
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), np.printoptions():
        yield


@by_page
def test_examples_run_and_print_what_the_page_shows(page):
    """The python blocks of a page run in order, in one namespace; a text block that follows one of
    them is what it prints."""
    namespace = {"__name__": "__main__"}
    printed = None
    for language, text, line in blocks(page):
        if language == "python":
            code = compile("\n" * line + text, str(page), "exec")
            with contextlib.redirect_stdout(io.StringIO()) as stdout, as_a_reader_has_it():
                exec(code, namespace)
            printed = stdout.getvalue()
        elif language == "text" and printed is not None:
            assert printed == text, f"{page.name}, line {line}: it prints\n{printed}"
            printed = None


def test_the_first_example_of_the_readme_is_short():
    code = next(text for language, text, _ in blocks(ROOT / "README.md") if language == "python")
    assert len(code.splitlines()) <= 20


@by_page
def test_links_lead_to_files(page):
    prose = CODE.sub("", FENCE.sub("", page.read_text("utf-8")))
    targets = LINK.findall(prose)
    paths = [target for target in targets if not target.startswith(("http:", "https:", "mailto:"))]
    assert [path for path in paths if not (page.parent / path).exists()] == []


@by_page
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = re.findall(r"(?:^ {4}|`)make ([a-z]+)", page.read_text("utf-8"), re.MULTILINE)
    assert set(named) <= targets


@pytest.mark.parametrize("page", generate.pages(), ids=lambda page: page.name)
def test_generated_parts_are_current(page):
    with as_a_reader_has_it():
        assert generate.renewed(page) == page.read_text("utf-8"), "run `make docs`"


def test_the_atlas_shows_every_rule_and_where_it_is():
    page = (ROOT / "docs" / "atlas.md").read_text("utf-8")
    for entry in atlas.entries():
        name, place = entry.rule.primitive, atlas.place(entry)
        assert page.count(f"[{name}]({place})") == 1
        path, line = place.split("#L")
        lines = (ROOT / "docs" / path).read_text("utf-8").splitlines()[int(line) - 1 :]
        assert name in "".join(lines[:15]) or entry.rule.reason


@pytest.mark.parametrize(("text", "x"), generate.KINKS)
def test_kinks_are_those_of_jax(text, x):
    with as_a_reader_has_it():
        ours, theirs = (
            generate.gradient_of(text, x, grad) for grad in (generate.fg.grad, jax.grad)
        )
    np.testing.assert_array_equal(ours, theirs)
