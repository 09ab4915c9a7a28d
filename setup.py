"""What setup.cfg cannot say: the README for a package index, where no file lies beside it."""

import pathlib
import re

import setuptools


def for_index(readme: str) -> str:
    """The README without images of the repository, and with links into it as plain text."""
    readme = re.sub(r"^!\[[^]]*\]\((?!https?:)[^)]*\)\n(\n\*(?s:.*?)\*\n)?\n?", "", readme, flags=re.MULTILINE)
    return re.sub(r"(?<!!)\[([^]]*)\]\((?!https?:)[^)]*\)", r"\1", readme)


setuptools.setup(
    long_description=for_index(pathlib.Path(__file__).with_name("README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
)
