"""The Python snippets of a page: `python tests/snippets.py README.md DIR` writes each into a file of DIR, for mypy."""

import pathlib
import re
import sys


def snippets(page):
    """The Python blocks of a Markdown page, in order."""
    return re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)


if __name__ == "__main__":
    page, directory = map(pathlib.Path, sys.argv[1:])
    directory.mkdir(parents=True, exist_ok=True)
    for i, snippet in enumerate(snippets(page)):
        (directory / f"{page.stem.lower()}_{i}.py").write_text(snippet)
