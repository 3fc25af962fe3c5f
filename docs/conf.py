"""How Sphinx makes a site of these pages, which are plain Markdown: everything that only the site needs is here.

The table of contents is made from `SECTIONS`; a page that is not listed stands under "More". Formulas become MathML
when the site is built, so that it loads nothing from elsewhere. `make docs` builds it, and any warning is an error.
"""

from __future__ import annotations

import os
import re
import runpy
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

HERE = Path(__file__).parent

SECTIONS = {
    "Begin": ["start", "budget", "examples"],
    "Understand": ["method", "selectors", "metrics"],
    "Use": ["data", "models", "spec", "command-line", "python-client", "rest", "rest-reference", "troubleshooting"],
    "Run": ["operations", "second-box", "several-gpus", "vllm"],
    "Change": ["architecture", "add-a-selector", "add-a-loss", "add-a-reward", "add-a-metric"],
}

project = "natlab"
author = "the natlab authors"
copyright = "the natlab authors, Apache-2.0"
release = runpy.run_path(str(HERE.parent / "nat_core" / "version.py"))["__version__"]

extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4  # links to headings, as code hosts make them
html_theme = "furo"
html_title = "natlab"
html_static_path = ["site"]
html_css_files = ["natlab.css"]
html_show_sourcelink = False
html_copy_source = False
html_math_renderer = "mathml"
pygments_style = "tango"
pygments_dark_style = "monokai"

# Where the repository's other files can be looked at; without it the site shows their paths.
SOURCE_URL = os.environ.get("NATLAB_SOURCE_URL", "").rstrip("/")
_OUTWARD = re.compile(r"\[([^\]]+)\]\(\.\./([^)\s]*)\)")
# Code hosts show the picture that fits the reader's system; here a reader may choose otherwise, which it ignores.
_PICTURE = re.compile(
    r"<picture>\s*<source media=\"\(prefers-color-scheme: dark\)\" srcset=\"([^\"]+)\">\s*"
    r"<img alt=\"([^\"]*)\" src=\"([^\"]+)\">\s*</picture>"
)
_BOTH = (
    '<div class="picture">\n<img class="only-light" loading="lazy" alt="\\2" src="\\3">\n'
    '<img class="only-dark" loading="lazy" alt="\\2" src="\\1">\n</div>'
)


def table_of_contents() -> str:
    """The toctrees of the front page; all pages are in one, listed in `SECTIONS` or not."""
    pages = {path.stem for path in HERE.glob("*.md")} - {"index"}
    listed = [name for names in SECTIONS.values() for name in names]
    sections = {**SECTIONS, "More": sorted(pages - set(listed))}
    parts = []
    for caption, names in sections.items():
        there = [name for name in names if name in pages]
        if there:
            parts.append("```{toctree}\n:hidden:\n:caption: " + caption + "\n\n" + "\n".join(there) + "\n```\n")
    return "\n".join(parts)


def _leave_the_folder(match: re.Match[str]) -> str:
    """A link to a file that is no page: to where the repository can be looked at, else the file's path."""
    words, path = match[1], match[2].rstrip("/")
    if SOURCE_URL:
        return f"[{words}]({SOURCE_URL}/{path})"
    return words if path in words else f"{words} (`{path}`)"


def prepare(app: Sphinx, name: str, source: list[str]) -> None:
    source[0] = _PICTURE.sub(_BOTH, _OUTWARD.sub(_leave_the_folder, source[0]))
    if name == "index":
        source[0] += "\n" + table_of_contents()


def inline_math(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(_mathml(node, as_block=False))
    raise nodes.SkipNode


def display_math(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div class="math-display">{_mathml(node, as_block=True)}</div>\n')
    raise nodes.SkipNode


def _mathml(node: nodes.Element, as_block: bool) -> str:
    try:
        return str(latex2mathml.tex2mathml(node.astext(), as_block=as_block))
    except MathError as error:
        logging.getLogger(__name__).warning("no formula: %s: %s", node.astext(), error, location=node)
        return node.astext()


def copy_pictures(app: Sphinx, error: Exception | None) -> None:
    """Pages show some pictures by HTML, one for light and one for dark, which Sphinx leaves alone."""
    if error is None:
        shutil.copytree(HERE / "images", Path(app.outdir) / "images", dirs_exist_ok=True)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (inline_math, None), (display_math, None))
    app.connect("source-read", prepare)
    app.connect("build-finished", copy_pictures)
    return {"parallel_read_safe": True}
