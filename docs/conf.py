"""How the pages are built: Sphinx with Markdown, every reference resolved, every example run."""

import doctest

from sphinx.ext.napoleon.docstring import GoogleDocstring

project = "fdproof"
author = "The fdproof developers"
copyright = f"2026, {author}"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
]

exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "fdproof"

# Headings can be linked to, and definition lists and `:::` blocks can be written.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]

napoleon_google_docstring = True
napoleon_numpy_docstring = False
# What stands before a colon in a Returns section is a sentence here, not a type to be resolved.
napoleon_use_rtype = False
# The section that our docstrings add: first kernel version, man page.
napoleon_custom_sections = [("Kernel", "notes_style")]

# A default is shown as it is written: the repr of an object has an address in it.
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
# Types stand in the signature, once.
autodoc_typehints = "signature"

nitpicky = True
# Building must not need a network, so there is no inventory to resolve Python's own names with.
nitpick_ignore_regex = [
    (
        r"py:.*",
        r"(rich|collections|contextlib|concurrent|datetime|enum|io|os|pathlib|signal|socket|types|typing)(\..*)?",
    ),
    # Its values show in signatures without the module it comes from.
    (r"py:class", r"fdproof\.process\.Literal"),
    # What can be sent; its name is typing_extensions' own before Python 3.12.
    (r"py:class", r"Buffer"),
    # Type variables and private names show in signatures and have no page.
    (r"py:.*", r"([A-Z]|.*\._\w+(\..*)?)"),
]

# An example in a page may use fdproof without importing it first.
doctest_global_setup = "import fdproof"

# A message may change its words; an example shows what it needs of it.
doctest_default_flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


# A property would lose its sections, and the words before its first colon be taken for a type.
_parse = GoogleDocstring._parse


def _parse_property_as_method(self: GoogleDocstring) -> None:
    if self._what in ("attribute", "property"):
        self._what = "method"
    _parse(self)


GoogleDocstring._parse = _parse_property_as_method
