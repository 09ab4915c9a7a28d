"""What the site needs beside its own files: the pages of results and benchmarks, which lie where they are made."""

from typing import Any

# What links out of docs/results and docs/benchmarks, which are links into the repository, begin with; and in the site.
_PLACES = {
    "../../benchmarks/": "../benchmarks/",
    "../experiments/results/": "../results/",
    "../../README.md": "../index.md",
}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turns links out of the linked directories into links within the site."""
    if not page.file.src_uri.startswith(("results/", "benchmarks/")):
        return markdown
    for outside, inside in _PLACES.items():
        markdown = markdown.replace(f"]({outside}", f"]({inside}")
    return markdown
