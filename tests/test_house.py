"""The house rules of CONTRIBUTING.md that a test can hold: layers, sizes, words, documentation."""

import ast
import importlib
import inspect
import io
import pkgutil
import re
import tokenize
from pathlib import Path

import pytest

import fungrad as fg
from fungrad.rulebook import Rule

HERE = Path(__file__)
ROOT = HERE.parents[1]
SRC = ROOT / "src" / "fungrad"
FOLDERS = ("src", "experiments", "benchmarks", "tests", "docs", "tools", ".ci")
TEXTS = {".py", ".md", ".bib", ".toml", ".yaml", ".yml", ".sh", ""}

# From the bottom up. A module imports from the lines above its own, and from its own package.
LAYERS = [
    {"_jax", "_arguments", "_flat"},
    {"costs", "mincut"},
    {"notation"},
    {"selector"},
    {"graph"},
    {"placing"},
    {"rulebook"},
    {"fallback", "formats", "teaching"},
    {"steps"},
    {"passes"},
    {"interning"},
    {"joint"},
    {"segments", "replay"},
    {"crossing"},
    {"saving"},
    {"budget"},
    {"rules"},
    {"pullback"},
    {"transforms", "custom"},
    {"attributions"},
    {"editing"},
    {"selecting", "inserting"},
    {"nodes"},
    {"rulebooks"},
    {"inspect"},
    {"check"},
    {"layers", "losses"},
    {"descent"},
    {"models"},
    {"inputs"},
    {"__init__"},
]

MODULES = sorted(SRC.rglob("*.py"))
PYTHON = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def name_of(path):
    return str(path.relative_to(ROOT))


def project_files():
    """The files that are written by hand: those at the top and those of the project's folders."""
    for folder in ("", *FOLDERS):
        found = (ROOT / folder).glob("*") if folder == "" else (ROOT / folder).rglob("*")
        yield from (path for path in sorted(found) if path.is_file() and path.suffix in TEXTS)


def text_of(path):
    return path.read_text("utf-8", errors="replace") if "__pycache__" not in path.parts else ""


# ---- imports -------------------------------------------------------------------------------------


def part_of(module):
    """The part of fungrad that a dotted name belongs to: fungrad.rules.control -> rules."""
    return module.split(".")[1] if "." in module else "__init__"


def imports_of(path):
    """The parts of fungrad that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: write imports in full, from fungrad..."
            # `from fungrad import graph` names a part, `from fungrad.graph import Node` is in one.
            whole = node.module == "fungrad"
            names = [f"fungrad.{alias.name}" for alias in node.names] if whole else [node.module]
        else:
            continue
        yield from (part_of(name) for name in names if name.split(".")[0] == "fungrad")


def test_imports_point_downwards():
    height = {part: level for level, parts in enumerate(LAYERS) for part in parts}
    upwards = []
    for path in MODULES:
        own = path.relative_to(SRC).parts[0].removesuffix(".py")
        assert own in height, f"say in LAYERS where {own} stands"
        above = {part for part in imports_of(path) if height[part] >= height[own]} - {own}
        upwards += [f"{name_of(path)} imports {part}" for part in sorted(above)]
    assert upwards == []


def test_internals_of_jax_enter_by_one_door():
    internals = re.compile(r"\bjax\.(_src|interpreters)\b|from jax import (_src|interpreters)\b")
    others = [path for path in PYTHON if path not in (SRC / "_jax.py", HERE)]
    assert [name_of(path) for path in others if internals.search(text_of(path))] == []


def test_nothing_imports_the_experiments():
    importing = re.compile(r"^\s*(from|import) experiments\b", re.MULTILINE)
    assert [name_of(path) for path in MODULES if importing.search(text_of(path))] == []


# ---- sizes ---------------------------------------------------------------------------------------


def test_a_file_has_one_subject():
    lengths = {name_of(path): len(text_of(path).splitlines()) for path in PYTHON}
    # A second file beside _jax.py would be a second door to JAX's internals.
    allowed = {"src/fungrad/_jax.py": 1000}
    assert {name: n for name, n in lengths.items() if n > allowed.get(name, 400)} == {}


def lines_of_code(function):
    """The lines of a function's body, without its docstring, comments and blank lines."""
    source = inspect.cleandoc("\n" + inspect.getsource(function))
    (definition,) = ast.parse(source).body
    body = definition.body[1:] if ast.get_docstring(definition) else definition.body
    first, blank = body[0].lineno, (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return len({t.start[0] for t in tokens if t.start[0] >= first and t.type not in blank})


def test_a_rule_is_short():
    rules = [rule for rule in fg.rules if isinstance(rule, Rule)]
    lengths = {rule.primitive: lines_of_code(rule.function) for rule in rules}
    assert {name: length for name, length in lengths.items() if length > 15} == {}


# ---- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (r"(^|[^\w.~-])/(work|root|farm|tmp|home|Users)/", "a path of one machine"),
        (r"index-url|--find-links", "a package index is the user's to choose"),
        (r"\b(TODO|FIXME|XXX)\b", "finish it, or file an issue"),
        (r"pytest\.(mark\.)?(skip|xfail|importorskip)", "every test runs everywhere"),
    ],
    ids=["paths", "indexes", "promises", "skips"],
)
def test_words_that_do_not_belong_here(words, why):
    found = [
        f"{name_of(path)}:{number}: {line.strip()}"
        for path in project_files()
        for number, line in enumerate(text_of(path).splitlines(), start=1)
        if re.search(words, line) and path != HERE
    ]
    assert not found, why


def test_every_citation_is_in_the_references():
    keys = set(re.findall(r"^@\w+\{(\w+),", text_of(ROOT / "references.bib"), re.MULTILINE))
    pages = [path for path in project_files() if path.suffix in {".py", ".md"}]
    cited = {key for path in pages for key in re.findall(r"\[([a-z]+\d{4}[a-z]*)\]", text_of(path))}
    assert sorted(cited - keys) == [], "cited, but not in references.bib"
    assert sorted(keys - cited) == [], "in references.bib, but cited nowhere"


# ---- documentation -------------------------------------------------------------------------------


def public_modules():
    """Every module of fungrad whose path has no underscore."""
    yield fg
    for found in pkgutil.walk_packages(fg.__path__, "fungrad."):
        if not any(part.startswith("_") for part in found.name.split(".")):
            yield importlib.import_module(found.name)


def public_objects():
    """(name, object) of the functions and classes defined in public modules, methods included."""
    for module in public_modules():
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
                continue
            if inspect.isclass(value) or inspect.isfunction(value):
                yield f"{module.__name__}.{name}", value
            if inspect.isclass(value):
                methods = inspect.getmembers_static(value, inspect.isfunction)
                own = [method for method in methods if method[0] in vars(value)]
                for attribute, method in own:
                    if not attribute.startswith("_"):
                        yield f"{module.__name__}.{name}.{attribute}", method


def is_documented(value):
    """It has a docstring, other than the one that Python makes for a NamedTuple or dataclass."""
    doc = value.__doc__ or ""
    return doc and not (inspect.isclass(value) and doc.startswith(f"{value.__name__}("))


def test_public_names_are_documented():
    assert [module.__name__ for module in public_modules() if not module.__doc__] == []
    assert [name for name, value in public_objects() if not is_documented(value)] == []


def shown():
    """The functions that users call: those of fungrad itself and of its user-facing parts."""
    for part in ("", ".layers", ".losses", ".descent", ".notation", ".models"):
        module = importlib.import_module(f"fungrad{part}")
        for name, value in vars(module).items():
            ours = inspect.isfunction(value) and value.__module__.startswith(module.__name__)
            if ours and not name.startswith("_"):
                yield f"{module.__name__}.{name}", value


def test_public_functions_show_an_example():
    assert [name for name, value in shown() if ">>>" not in value.__doc__] == []
