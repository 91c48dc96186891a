"""What the book takes from the records of runs, so that no result in it is typed by hand.

``doc/results`` holds the ``run.json`` and the ``history.csv`` of finished runs, as the scripts
wrote them, and ``theano.json``, what the old book and its scripts reported.

    :measured:`SdA test_error .2f`          a score of a run, formatted
    :measured:`SdA minutes .0f`             how long it took
    :measured:`ais_cd1 nats/log Z/value .1f`  a number of another record
    .. results::                            the table of all runs
    .. speed::                              the table of ``benchmark.py``
    .. chapters::                           the table of chapters

And the figures whose models run in the page, of which ``doc/live`` holds the scripts:

    .. live:: classify                      the figure of ``live/classify.js``
       :models: logistic_sgd mlp            whose weights and forward passes it needs
       :image: images/logreg_filters.png    what stands there in print, and without scripts
       :alt: ...

       The caption.
"""

import json
import re
import shutil
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive, directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.directives.patches import Figure

import benchmark
from reproduce import summary

WORDS_A_MINUTE = 150  # with formulas and code
RESULTS = Path(__file__).resolve().parent.parent / 'results'
LIVE = Path(__file__).resolve().parent.parent / 'live'


def record(script: str) -> dict:
    """The ``run.json`` of a script's run, or another record."""
    return json.loads((RESULTS / f'{script}.json').read_text(encoding='utf-8'))


def minutes(run: dict) -> float:
    """How long all parts of a run took."""
    return sum(run['seconds'].values()) / 60


def measured_role(name, rawtext, text, lineno, inliner, options=None, content=()):
    """``:measured:`record key format```, a number from a record; parts of keys are joined by /."""
    script, rest = text.split(maxsplit=1)
    key, form = rest.rsplit(maxsplit=1)
    if not (RESULTS / f'{script}.json').exists():
        return [], [inliner.reporter.error(f'there is no record {script}', line=lineno)]
    inliner.document.settings.env.note_dependency(str(RESULTS / f'{script}.json'))
    run = record(script)
    value = run['scores'] | {'minutes': minutes(run)} if 'scores' in run else run
    for part in key.split('/'):
        if part not in value:
            return [], [inliner.reporter.error(
                f'the record {script} has no {part}; it has {", ".join(value)}', line=lineno)]
        value = value[part]
    # What no number could be given for is the infinite end of an interval.
    infinite_end = '-\N{INFINITY}' if key.endswith('low') else '\N{INFINITY}'
    shown = infinite_end if value is None else format(value, form)
    return [nodes.Text(shown.replace('-', '\N{MINUS SIGN}'))], []


class Results(Directive):
    """The table of all runs: what the old book reported, and what was measured here."""

    def run(self) -> list[nodes.Node]:
        old = json.loads((RESULTS / 'theano.json').read_text(encoding='utf-8'))
        rows = []
        for script, told in old.items():
            self.state.document.settings.env.note_dependency(str(RESULTS / f'{script}.json'))
            if not (RESULTS / f'{script}.json').exists():
                continue
            run = record(script)
            rows.append([f'python code/{" ".join(run["command"])}', told['result'],
                         summary([run['scores']]), told['minutes'], f'{minutes(run):.1f}'])
        return [table(['command', 'the old book', 'measured here', 'minutes then',
                       'minutes now'], rows)]


class Chapters(Directive):
    """A table of chapters: the way to each, what it stands on, and what it takes.

    The content has a line for each chapter: its name, and the names of the records of its scripts.
    What it stands on is what the first sentence of its note says to read.
    """

    has_content = True

    def run(self) -> list[nodes.Node]:
        lines = ['.. list-table::', '   :header-rows: 1', '   :widths: 40 36 12 12', '',
                 '   * - chapter', '     - stands on', '     - minutes to read',
                 '     - minutes to run']
        for line in self.content:
            name, *scripts = line.split()
            text = (RESULTS.parent / f'{name}.rst').read_text(encoding='utf-8')
            before = re.search(r'^   Read (.*?)\.', text, re.DOTALL | re.MULTILINE)
            needed = re.findall(r':doc:`\w+`', before[1]) if before else []
            to_run = max(1, round(sum(minutes(record(script)) for script in scripts)))
            lines += [f'   * - :doc:`{name}`', f'     - {", ".join(needed) or "–"}',
                      f'     - {len(text.split()) / WORDS_A_MINUTE:.0f}',
                      f'     - {to_run}' if scripts else '     - –']
        content = nodes.Element()
        self.state.nested_parse(StringList(lines, 'chapters'), 0, content)
        return content.children


class Speed(Directive):
    """The table of ``benchmark.py --peers``: an update, its floor, and PyTorch."""

    def run(self) -> list[nodes.Node]:
        self.state.document.settings.env.note_dependency(str(RESULTS / 'benchmark.json'))
        return [table(benchmark.HEAD, list(map(benchmark.cells,
                                                record('benchmark')['microseconds'])))]


class Box(nodes.General, nodes.Element):
    """Where a figure goes that runs in the page."""


class Live(Figure):
    """A figure that runs in the page, before the image that stands for it elsewhere."""

    option_spec = Figure.option_spec | {'image': directives.unchanged_required,
                                        'models': directives.unchanged}

    def run(self) -> list[nodes.Node]:
        box = Box(figure=self.arguments[0], models=self.options.pop('models', ''))
        self.arguments[0] = self.options.pop('image')
        result = super().run()
        if isinstance(result[0], nodes.figure):
            result[0].insert(0, box)
        return result


def visit_box(translator, node: Box) -> None:
    """The element that ``live/figure.js`` looks for."""
    translator.body.append(f'<div class="live" data-figure="{node["figure"]}" '
                           f'data-models="{node["models"]}"></div>\n')
    raise nodes.SkipNode


def live_scripts(figure: str, models: str) -> list[str]:
    """The files of ``doc/live`` that a figure needs, in the order in which a page loads them.

    A file names in its second line those that come before it: ``// After: engine.js``.

    :param models: names, with space between them
    """
    files: dict[str, None] = {}

    def add(name: str) -> None:
        text = (LIVE / name).read_text(encoding='utf-8')
        after = re.match("'use strict';\n// After: (.*)\n", text)
        for before in after[1].split() if after else ():
            add(before)
        files[name] = None

    for model in models.split():
        add(f'{model}.js')
        add(f'weights/{model}.js')
    add(f'{figure}.js')
    return list(files)


def add_live_scripts(app: Sphinx, pagename: str, templatename: str, context: dict,
                     doctree: nodes.document | None) -> None:
    """Give a page the scripts of its own figures, and no others."""
    for box in doctree.findall(Box) if doctree else ():
        for name in live_scripts(box['figure'], box['models']):
            app.add_js_file(f'live/{name}', loading_method='defer')


def copy_live(app: Sphinx) -> None:
    """Put ``doc/live`` beside the other static files."""
    if app.builder.format == 'html':
        shutil.copytree(LIVE, Path(app.outdir) / '_static' / 'live', dirs_exist_ok=True)


def table(head: list[str], rows: list[list[str]]) -> nodes.table:
    """A table whose first column is code."""
    result = nodes.table()
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=1) for _ in head]
    header, body = nodes.thead(), nodes.tbody()
    for cells, part in [(head, header), *((row, body) for row in rows)]:
        line = nodes.row()
        for column, cell in enumerate(cells):
            paragraph = nodes.paragraph()
            paragraph += (nodes.literal(text=cell) if column == 0 and part is body
                          else nodes.Text(cell))
            line += nodes.entry('', paragraph)
        part += line
    group += [header, body]
    result += group
    return result


def setup(app: Sphinx) -> dict:
    """Called by Sphinx."""
    app.add_role('measured', measured_role)
    app.add_directive('results', Results)
    app.add_directive('speed', Speed)
    app.add_directive('chapters', Chapters)
    app.add_directive('live', Live)
    app.add_node(Box, html=(visit_box, None))
    app.connect('html-page-context', add_live_scripts)
    app.connect('builder-inited', copy_live)
    return {'parallel_read_safe': True, 'version': '2', 'env_version': 2}
