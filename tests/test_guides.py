"""What the guides and notebooks show runs, scaled down."""

import json
import pathlib
import re
import sys
import types

import matplotlib
import pytest

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in [*DOCS.glob("*.md"), *DOCS.glob("guides/*.md")] if "```python" in path.read_text())
BLOCK = re.compile(r'```(?: \{ \.)?python(?: title="(\w+)\.py")?(?: \})?\n(.*?)```', re.DOTALL)
# What a notebook's first cell says, so that it takes seconds.
SMALL = {
    "one_shot_memory": {"num_updates": 2, "num_episodes": 2},
    "own_writing_rule": {"num_updates": 1, "seeds": (0,), "trained": ("Hebbian that fades",)},
}

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    """Where the snippets and notebooks write."""
    monkeypatch.chdir(tmp_path)
    with matplotlib.rc_context({"backend": "agg"}):
        yield


def scale_down(code):
    """Trainings of two updates, tests of two episodes."""
    code = re.sub(r"(num_updates|evaluate_every)=\d+", r"\1=2", code)
    return re.sub(r"(jax\.random\.split\(jax\.random\.key\(\d+\), )\d+\)", r"\g<1>2)", code)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_snippets_of_a_page_run_in_order(page, workdir, monkeypatch):
    if "digits.py" in page.read_text():
        pytest.importorskip("sklearn", reason="the data of the guide come with scikit-learn, in the extra 'docs'")
    namespace = types.ModuleType("page")
    for title, code in BLOCK.findall(page.read_text()):
        if included := re.fullmatch(r'--8<-- "(.*)"\n', code):
            code = (DOCS / included[1]).read_text()
        module = types.ModuleType(title) if title else namespace
        monkeypatch.setitem(sys.modules, module.__name__, module)  # Where imports and dataclasses look for it.
        exec(compile(scale_down(code), f"{page.name}:{title}", "exec"), module.__dict__)


@pytest.mark.parametrize("name", SMALL)
def test_notebooks_run_from_top_to_bottom(name, workdir, monkeypatch):
    notebook = json.loads((DOCS / "notebooks" / f"{name}.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert cells[0]["metadata"]["tags"] == ["parameters"]
    module = types.ModuleType("notebook")
    monkeypatch.setitem(sys.modules, "notebook", module)
    for i, cell in enumerate(cells):
        exec(compile("".join(cell["source"]), f"{name}:{i}", "exec"), module.__dict__)
        if i == 0:
            assert vars(module).keys() >= SMALL[name].keys()
            vars(module).update(SMALL[name])


def test_every_public_module_is_in_the_api_pages():
    package = ROOT / "mnm_jax"
    modules = set()
    for path in package.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if not any(part.startswith("_") for part in parts):
            modules.add(".".join(parts))
    shown = [
        name for page in DOCS.glob("api/*.md") for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
    ]
    assert sorted(shown) == sorted(modules - {"mnm_jax"})
