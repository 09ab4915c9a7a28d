"""What the README says works, word for word."""

import pathlib
import re
import runpy
import sys
import types

import pytest
from snippets import snippets
from writer_suite import WriterSuite

PAGE = pathlib.Path(__file__).parents[1] / "README.md"
README = PAGE.read_text()
BLOCKS = snippets(PAGE)
WRITER = next(block for block in BLOCKS if "class Hebbian" in block)


def run(code, name):
    module = sys.modules[name] = types.ModuleType(name)  # Where dataclasses and pickle look for it.
    exec(compile(code, name, "exec"), module.__dict__)
    return module


pytestmark = pytest.mark.usefixtures("quick_compilation")

hebbian = run(WRITER, "hebbian").Hebbian()


@pytest.mark.parametrize("writer", [hebbian], ids=["hebbian"])
class TestTheWriterOfTheReadme(WriterSuite):
    """It has the properties of every other."""


def test_the_readme_is_filled_in_and_its_links_lead_somewhere():
    assert "{{" not in README
    for target in re.findall(r"\]\((?!http)([^)]*)\)", README):
        path, _, heading = target.partition("#")
        file = pathlib.Path(__file__).parents[1] / path
        assert file.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), flags=re.MULTILINE)
            assert heading in [title.lower().replace(" ", "-") for title in headings], target


def test_on_a_package_index_it_has_no_links_into_the_repository(monkeypatch):
    given = {}
    monkeypatch.setitem(sys.modules, "setuptools", types.SimpleNamespace(setup=given.update))
    runpy.run_path(str(pathlib.Path(__file__).parents[1] / "setup.py"))
    text = given["long_description"]
    assert re.findall(r"\]\((?!http)[^)]*\)", text) == []
    assert re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL) == BLOCKS
    assert re.findall(r"^#+ .*$", text, flags=re.MULTILINE) == re.findall(r"^#+ .*$", README, flags=re.MULTILINE)


def test_the_writer_of_the_readme_is_short():
    assert len([line for line in WRITER.splitlines() if line.strip()]) <= 30


@pytest.mark.parametrize("block", [block for block in BLOCKS if block is not WRITER], ids=lambda block: block[:30])
def test_the_snippets_run(block, tmp_path):
    run(block.replace('"runs/', f'"{tmp_path}/'), "snippet")
