"""How Sphinx builds the site; ``python -m tools.site`` runs it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pygments.lexers.special import TextLexer

from mlaudit import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "mlaudit"
version = release = __version__
language = "en"
root_doc = "index"
exclude_patterns = ["files/**"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# The pages follow the syntax of a code host: dollar signs and leading per cent signs have no meaning.
source_suffix = {".md": "markdown"}
myst_heading_anchors = 6
myst_disable_syntax = ["myst_line_comment", "myst_block_break"]
smartquotes = False  # "--since" keeps its two dashes

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"undoc-members": False}
autoclass_content = "both"  # the arguments are in the docstring of __init__
# "Attributes:" of a class as a list: autodoc describes the same attributes of a data class once more.
napoleon_use_ivar = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = "mlaudit"
html_favicon = "static/favicon.svg"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_context = {"default_mode": "auto"}  # light or dark, following the reader's system
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_use_index = False
html_domain_indices = False
html_show_sourcelink = False
html_sidebars: dict[str, list[str]] = {"index": [], "search": []}
html_theme_options: dict[str, Any] = {
    "header_links_before_dropdown": 8,
    "navbar_align": "left",
    "navbar_center": ["navbar-nav"],
    "navbar_end": ["theme-switcher"],
    "navbar_persistent": ["search-button"],
    "footer_start": [],
    "footer_end": [],
    "show_prev_next": False,
    "show_toc_level": 2,
    "back_to_top_button": True,
}


_CODE = re.compile(r'<span class="pre">([^<]*)</span>')
_PARAMETER = re.compile(r"(<p><strong>[^<]+</strong>(?: \([^()]*\))?) -- ")


def setup(app: Sphinx) -> None:
    """Adds settings that no extension provides."""
    app.add_lexer("eql", TextLexer)  # no lexer in Pygments: shown without colours
    app.connect("html-page-context", _polish)


def _polish(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Allows line breaks in long names of code after dots, slashes and underscores, and restores dashes."""
    if body := context.get("body"):
        body = _CODE.sub(lambda match: re.sub(r"(?<=\w)([./_]+)(?=\w)", r"\1<wbr>", match[0]), body)
        context["body"] = _PARAMETER.sub("\\1 \N{EN DASH} ", body)
