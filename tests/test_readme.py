"""What the README says works, word for word."""

import pathlib
import re
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


def test_the_writer_of_the_readme_is_short():
    assert len([line for line in WRITER.splitlines() if line.strip()]) <= 30


@pytest.mark.parametrize("block", [block for block in BLOCKS if block is not WRITER], ids=lambda block: block[:30])
def test_the_snippets_run(block, tmp_path):
    run(block.replace('"runs/', f'"{tmp_path}/'), "snippet")
