"""How Sphinx builds the book: ``make doc``, into ``doc/_build/html``."""

import inspect
import sys
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path[:0] = [str(here.parent / 'code'), str(here.parent / 'code' / 'hmc'),
                str(here / 'extensions')]

project = 'Deep learning tutorials'
author = 'the authors of the tutorials'
copyright = 'the authors; BSD 3-Clause'
html_title = 'Deep learning tutorials'
language = 'en'

extensions = [
    'sphinx.ext.autodoc',
    'sphinx.ext.autosummary',  # a page of the reference for each module
    'sphinx.ext.mathjax',
    'sphinx-mathjax-offline',  # MathJax and its fonts become part of the book
    'sphinx_design',           # solutions that fold out
    'book',                    # numbers and tables from the records of runs
]
exclude_patterns = ['_build', 'README.md', 'templates']
templates_path = ['templates']
numfig = True  # numbers of chapters, figures and equations that are unique in the book
math_numfig = True
nitpicky = True  # a reference that leads nowhere is an error
nitpick_ignore_regex = [('py:.*', r'(numpy|pytensor|T|SharedVariable|Variable|os|tqdm|pathlib|'
                                  r'collections|datetime|fractions|mido|matplotlib|pickle)\b.*')]

html_theme = 'furo'
html_static_path = ['static', 'live']
html_css_files = ['book.css']
html_show_sourcelink = False
html_theme_options = {'navigation_with_keys': True}
pygments_style = 'a11y-light'  # every colour at a contrast of 4.5 : 1
pygments_dark_style = 'a11y-dark'

autodoc_member_order = 'bysource'
autodoc_typehints = 'none'  # the signature of the listing has them
autodoc_default_options = {'members': True, 'show-inheritance': True}


def is_other_name(app, what, name, obj, skip, options):
    """Leave out functions under a second name, such as ``test_mlp`` for ``train``."""
    return True if inspect.isfunction(obj) and obj.__name__ != name else None


def setup(app):
    """Called by Sphinx."""
    app.connect('autodoc-skip-member', is_other_name)
