"""What the book takes from the records of runs.

``doc/results`` holds the ``run.json`` and the ``history.csv`` of finished runs, as the scripts
wrote them, and ``theano.json``, what the old book and its scripts reported.

    :measured:`SdA test_error .2f`          a score of a run, formatted
    :measured:`SdA minutes .0f`             how long it took
    :measured:`ais_cd1 nats/log Z/value .1f`  a number of another record
    .. results::                            the table of all runs
    .. elsewhere:: gpu                      the table of runs on another machine
    .. speed:: benchmark                    the table of ``benchmark.py``
    .. outcome:: codes                      what an experiment of ``experiments.py`` has found
    .. chapters::                           the table of chapters
    .. live:: classify                      a figure that runs in the page, of ``doc/live``
"""

import json
import re
import statistics
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive, directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx

import benchmark
from playground import LIVE, scripts_of
from reproduce import summary

WORDS_A_MINUTE = 150  # with formulas and code
RESULTS = Path(__file__).resolve().parent.parent / 'results'


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
        old, seeds, megabytes = record('theano'), record('seeds'), record('megabytes')
        for name in 'seeds', 'megabytes':
            self.state.document.settings.env.note_dependency(str(RESULTS / f'{name}.json'))
        rows = []
        for script, told in old.items():
            self.state.document.settings.env.note_dependency(str(RESULTS / f'{script}.json'))
            if not (RESULTS / f'{script}.json').exists():
                continue
            run, others = record(script), seeds.get(script, [])
            rows.append([f'python code/{" ".join(run["command"])}', told['result'],
                         summary([run['scores']]),
                         f'{summary(others)} ({len(others)} seeds)' if others else '–',
                         told['minutes'], f'{minutes(run):.1f}',
                         str(megabytes.get(script, '–'))])
        rows.append(['all', '', '', '', '', f'{sum(float(row[-2]) for row in rows):.0f}', ''])
        return [table(['command', 'the old book', 'measured here', 'over seeds', 'minutes then',
                       'minutes now', 'MB'], rows)]


class Elsewhere(Directive):
    """The table of runs on another machine; the argument is the name of their record."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        runs = record(self.arguments[0])
        for script in [*self.arguments, *runs]:
            self.state.document.settings.env.note_dependency(str(RESULTS / f'{script}.json'))
        rows = [[script, summary([record(script)['scores']]), summary([run['scores']]),
                 f'{minutes(record(script)):.1f}', f'{minutes(run):.1f}']
                for script, run in runs.items() if (RESULTS / f'{script}.json').exists()]
        return [table(['script', 'on two cores', 'there', 'minutes', 'there'], rows)]


class Outcome(Directive):
    """What an experiment has found: means over its seeds, and standard deviations.

    The argument is the name of the experiment; ``digits`` are those after the point.
    """

    required_arguments = 1
    option_spec = {'digits': directives.nonnegative_int}

    def run(self) -> list[nodes.Node]:
        name, digits = f'try_{self.arguments[0]}', self.options.get('digits', 2)
        self.state.document.settings.env.note_dependency(str(RESULTS / f'{name}.json'))
        if not (RESULTS / f'{name}.json').exists():
            return [self.state.document.reporter.error(f'there is no record {name}',
                                                       line=self.lineno)]
        found = record(name)
        first, *_ = found['rows'].values()
        rows = [[row, *(spread(values, digits) for values in columns.values())]
                for row, columns in found['rows'].items()]
        n_seeds = len(next(iter(first.values())))
        source = nodes.paragraph(classes=['source'])
        source += [nodes.literal(text=found['command']),
                   nodes.Text(f', {found["minutes"]:.0f} minutes'
                              if found['minutes'] >= 1 else ', less than a minute')]
        if n_seeds > 1:
            source += nodes.Text(f'; mean and standard deviation of {n_seeds} seeds')
        return [table(['', *first], rows), source]


def spread(values: list[float], digits: int) -> str:
    """The mean of some numbers, and their standard deviation if there are several."""
    text = f'{statistics.fmean(values):.{digits}f}'.replace('-', '\N{MINUS SIGN}')
    return f'{text} ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else text


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
    """The table of ``benchmark.py --peers``, from a record: an update, its floor, and PyTorch."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name, = self.arguments
        self.state.document.settings.env.note_dependency(str(RESULTS / f'{name}.json'))
        return [table(benchmark.HEAD, list(map(benchmark.cells, record(name)['microseconds'])))]


class Live(Directive):
    """A figure that runs in the page, with the scripts and the weights that it needs and no others.

    The argument is the name of its script in ``doc/live``. The content is the caption. ``weights``
    are names of files in ``doc/live/weights``. The picture ``still``, with its ``alt``, is shown on
    paper and where no scripts run.
    """

    required_arguments = 1
    has_content = True
    option_spec = {'weights': directives.unchanged, 'still': directives.uri,
                   'alt': directives.unchanged_required, 'class': directives.class_option}

    def run(self) -> list[nodes.Node]:
        name, names = self.arguments[0], self.options.get('weights', '')
        files = [*scripts_of(name), *(LIVE / 'weights' / f'{weights}.js'
                                      for weights in names.split())]
        for file in files:
            self.state.document.settings.env.note_dependency(str(file))
            if not file.exists():
                return [self.state.document.reporter.error(f'there is no {file.name} for the '
                                                           f'figure {name}', line=self.lineno)]
        lines = [f'.. figure:: {self.options["still"]}', f'   :alt: {self.options["alt"]}', '',
                 *(f'   {line}' for line in self.content)]
        content = nodes.Element()
        self.state.nested_parse(StringList(lines, 'live'), 0, content)
        figure, = content.children
        figure['classes'].append('live')
        next(figure.findall(nodes.image))['classes'] += self.options.get('class', [])
        figure['scripts'] = [file.relative_to(LIVE).as_posix() for file in files]
        figure.insert(0, nodes.raw('', f'<div class="live-stage" data-figure="{name}" '
                                       f'data-weights="{names}"></div>', format='html'))
        return [figure]


def add_scripts(app: Sphinx, pagename: str, templatename: str, context: dict,
                doctree: nodes.document | None) -> None:
    """Give a page the scripts of the figures that run in it."""
    figures = [figure for figure in doctree.findall(nodes.figure) if 'scripts' in figure] \
        if doctree is not None else []
    if figures:
        app.add_css_file('live.css')
    for script in dict.fromkeys(script for figure in figures for script in figure['scripts']):
        app.add_js_file(script, loading_method='defer')


def table(head: list[str], rows: list[list[str]]) -> nodes.table:
    """A table; what is a command or an option in its first column is set as code."""
    result = nodes.table()
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=1) for _ in head]
    header, body = nodes.thead(), nodes.tbody()
    for cells, part in [(head, header), *((row, body) for row in rows)]:
        line = nodes.row()
        for column, cell in enumerate(cells):
            paragraph = nodes.paragraph()
            is_code = column == 0 and part is body and ('--' in cell or cell.startswith('python'))
            paragraph += nodes.literal(text=cell) if is_code else nodes.Text(cell)
            line += nodes.entry('', paragraph)
        part += line
    group += [header, body]
    result += group
    return result


def setup(app: Sphinx) -> dict:
    """Called by Sphinx."""
    app.add_role('measured', measured_role)
    app.add_directive('results', Results)
    app.add_directive('elsewhere', Elsewhere)
    app.add_directive('speed', Speed)
    app.add_directive('outcome', Outcome)
    app.add_directive('chapters', Chapters)
    app.add_directive('live', Live)
    app.connect('html-page-context', add_scripts)
    return {'parallel_read_safe': True, 'version': '3', 'env_version': 3}
