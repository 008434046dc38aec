"""How the pages are made: Sphinx, furo and MyST, with nothing from a network."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import aiosmrt

project = "aiosmrt"
author = "The aiosmrt authors"
project_copyright = author
version = release = aiosmrt.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "generated",
]
exclude_patterns = ["README.md"]

# Docstrings write names as the README does; most of them could not be linked.
default_role = "code"
autodoc_class_signature = "separated"
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_type_aliases = {"JSONValue": "aiosmrt.JSONValue", "Body": "aiosmrt.Body"}
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
toc_object_entries_show_parents = "hide"
add_module_names = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_title = f"aiosmrt {release}"
html_copy_source = False
html_show_sphinx = False
html_extra_path = ["llms.txt"]
html_static_path = ["page.css"]
html_css_files = ["page.css"]
html_search_scorer = str(Path(__file__).with_name("scorer.js"))
