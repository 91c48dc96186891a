"""What there is: all runs below some folders in one table, with their settings, scores and curves.

It reads the ``run.json`` and ``history.csv`` that every run leaves in its output folder, and
changes nothing. A run that says it is running, and that no process is at, is shown as dead.
"""

import ast
import csv as csv_files
import difflib
import importlib
import inspect
import io
import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from support import command_line
from support.errors import UserError, notice
from support.files import readable
from support.folders import RECORD, read_record, written_atomically

import numpy
import tyro

from reproduce import JOBS, html_page, html_picture, html_table, print_table

SCRIPTS = [name for name, job in JOBS.items() if job.is_training]

Repeatable = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]


# Words of the command line ----------------------------------------------------------------------

def literal(text: str) -> Any:
    """The value that a text stands for, as in Python: 0.1, True, a tuple for 500,500; or a word."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def named_texts(option: str, texts: Sequence[str], names: Iterable[str]) -> dict[str, str]:
    """What stands behind the = in each text, by the name before it.

    :param option: what the texts were given for
    :param names: those that there are
    :raises UserError: when there is no such name, or no =
    """
    pairs = {}
    for text in texts:
        name, sign, value = text.partition('=')
        if not sign:
            raise UserError(f'`{option}` is {text}: write it as name=value')
        see_that_there_is(option, name, names)
        pairs[name] = value
    return pairs


def see_that_there_is(option: str, name: str, names: Iterable[str]) -> None:
    """Refuse a name that is not among these, and offer the nearest one.

    :raises UserError: when it is not
    """
    names = list(dict.fromkeys(names))
    if name not in names:
        nearest = difflib.get_close_matches(name, names, n=1)
        hint = f'did you mean {nearest[0]}? There' if nearest else 'there'
        raise UserError(f'`{option}` is {name}: {hint} are {", ".join(names)}')


# Runs -------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Found:
    """A run that was found.

    :param settings: as they are in the record, where a tuple is a list
    :param scores: numbers by name; None where there was no finite one
    """

    folder: str
    script: str
    data: str
    status: str
    minutes: float
    settings: dict[str, Any]
    scores: dict[str, float | None]

    @property
    def values(self) -> dict[str, Any]:
        """All of it by name."""
        own = {name: getattr(self, name) for name in ('folder', 'script', 'data')}
        return own | self.settings | {'status': self.status} | self.scores | {
            'minutes': self.minutes}

    def history(self) -> list[dict[str, str]]:
        """The rows of ``history.csv``; none when nothing was measured yet.

        :raises UserError: when it cannot be read
        """
        path = Path(self.folder, 'history.csv')
        if not path.exists():
            return []
        with readable(path), path.open(encoding='utf-8', newline='') as file:
            return list(csv_files.DictReader(file))


def find(folders: Sequence[str]) -> list[Found]:
    """Every training run below these folders. What is broken is told, and passed over.

    :raises UserError: when one is no folder
    """
    runs = {}
    for folder in folders:
        if not Path(folder).is_dir():
            raise UserError(f'there is no folder {folder}')
        for path in sorted(Path(folder).rglob(RECORD)):
            try:
                record = read_record(path.parent)
                with readable(path):
                    if 'data' in record:  # the record of a training run
                        runs[path.resolve()] = Found(
                            str(path.parent), record['script'], str(record['data'].get('name')),
                            record['status'], sum(record.get('seconds', {}).values()) / 60,
                            record['settings'], {
                                name: score if score is None else score + 0  # a number
                                for name, score in record.get('scores', {}).items()})
            except UserError as error:
                notice(str(error))
    return list(runs.values())


def as_recorded(value: Any) -> Any:
    """A setting as it is read back from a record, where a tuple is a list."""
    return json.loads(json.dumps(value))


def telling_settings(run: Found, runs: Sequence[Found]) -> str:
    """The settings of a run in which its script's runs differ, or which are not the defaults."""
    others = [other.settings for other in runs if other.script == run.script]
    defaults = {}
    if run.script in SCRIPTS:
        parameters = inspect.signature(importlib.import_module(run.script).train).parameters
        defaults = {name: as_recorded(parameter.default)
                    for name, parameter in parameters.items()}
    return ' '.join(
        f'{name}={in_words(value)}' for name, value in run.settings.items() if name != 'dataset'
        and (any(other.get(name) != value for other in others)
             or (defaults.get(name) is not None and defaults[name] != value)))


def in_words(value: Any) -> str:
    """A setting or a score as it stands in a cell."""
    if isinstance(value, list):
        return ','.join(map(in_words, value))
    return '–' if value is None else f'{value:.6g}' if isinstance(value, float) else str(value)


def score_names(runs: Sequence[Found]) -> list[str]:
    """The names of all scores."""
    return list(dict.fromkeys(name for run in runs for name in run.scores))


# Tables and curves ------------------------------------------------------------------------------

Table = tuple[list[str], list[list[str]]]  # the head, and the rows


def table_of(runs: Sequence[Found]) -> Table:
    """A row for each run."""
    scores = score_names(runs)
    return (['folder', 'script', 'data', 'settings', 'status', *scores, 'minutes'],
            [[run.folder, run.script, run.data, telling_settings(run, runs), run.status,
              *(in_words(run.scores.get(name)) for name in scores), f'{run.minutes:.1f}']
             for run in runs])


def table_of_groups(runs: Sequence[Found], names: Sequence[str]) -> Table:
    """A row for all finished runs of a script that agree in what is named: over which settings
    it averages, how many they are, and mean and standard deviation of every score."""
    groups: dict[tuple[str, ...], list[Found]] = {}
    for run in runs:
        if run.status == 'finished':
            key = run.script, *(in_words(run.values.get(name)) for name in names)
            groups.setdefault(key, []).append(run)
    scores, rows = score_names(runs), []
    for key, group in groups.items():
        others = [name for name in group[0].settings if name not in names and any(
            run.settings.get(name) != group[0].settings[name] for run in group)]
        cells = []
        for name in [*scores, 'minutes']:
            values = [value for run in group if (value := run.values.get(name)) is not None]
            spread = f' ± {statistics.stdev(values):.2g}' if len(values) > 1 else ''
            cells.append(f'{statistics.fmean(values):.4g}{spread}' if values else '–')
        rows.append([*key, ' '.join(others), str(len(group)), *cells])
    return ['script', *names, 'over', 'runs', *scores, 'minutes'], rows


def draw_curves(runs: Sequence[Found], column: str, path: Path) -> None:
    """Draw a column of every history against epochs.

    :param path: the PNG to write
    :raises UserError: when no history has that column, or one is broken
    """
    from matplotlib import colormaps  # slow to import, and needed only here
    from matplotlib.figure import Figure

    histories = [run.history() for run in runs]
    see_that_there_is('plot', column, (name for rows in histories for row in rows[:1] for name
                                       in row if name not in ('stage', 'epoch', 'minibatch')))
    # With room for a name in the legend for each, and colours in the order of the table.
    figure = Figure(figsize=(9, max(4.5, 0.2 * len(runs))), layout='constrained')
    axes = figure.subplots()
    axes.set_prop_cycle(color=colormaps['viridis'](numpy.linspace(0, 1, len(runs))))
    for run, rows in zip(runs, histories, strict=True):
        with readable(Path(run.folder, 'history.csv')):
            points = [(int(row['epoch']), float(row[column])) for row in rows if row.get(column)]
        if points:
            axes.plot(*zip(*points, strict=True), '.-', label=run.folder)
    axes.set(xlabel='epoch', ylabel=column.replace('_', ' '))
    figure.legend(loc='outside right upper', fontsize='small')
    with written_atomically(path) as file:
        figure.savefig(file, format='png', dpi=100)


def runs(folders: Annotated[tuple[str, ...], tyro.conf.Positional] = ('.',),
         sort: str | None = None, where: Repeatable = (), group_by: tuple[str, ...] = (),
         plot: str | None = None, picture: str = 'runs.png', csv: str | None = None,
         html: str | None = None) -> None:
    """Show all runs below some folders.

    For example::

        python code/runs.py --sort test_error --where n_hidden=500 --where status=finished
        python code/runs.py study --group-by n_hidden --plot validation_error --html runs.html

    :param folders: where to look for output folders
    :param sort: a setting or a score, smallest first
    :param where: only runs with this value of a setting, of script, data, status or a score
    :param group_by: mean and standard deviation of all finished runs that agree in these
    :param plot: a column of the histories, whose curves go into a picture
    :param picture: the PNG for these curves
    :param csv: a file for the table, with a column for every setting and every score
    :param html: a file for the table as a page, with the curves
    """
    found = find(folders)
    names = list(dict.fromkeys(name for run in found for name in run.values))
    if found:
        for option, given in (('sort', [sort] if sort else []), ('group_by', group_by)):
            for name in given:
                see_that_there_is(option, name, names)
        for name, text in named_texts('where', where, names).items():
            value = as_recorded(literal(text))
            found = [run for run in found if run.values.get(name) == value]
    if not found:
        raise UserError(f'no such run below {", ".join(folders)}')
    if sort:
        def key(run):
            value = run.values.get(sort)
            is_number = isinstance(value, (int, float))
            return value is None, not is_number, value if is_number else in_words(value)

        found.sort(key=key)
    head, rows = table_of_groups(found, group_by) if group_by else table_of(found)
    print_table(head, rows)
    if plot:
        draw_curves(found, plot, Path(picture))
        print(f'The curves are in {picture}')
    if csv:
        lines = io.StringIO(newline='')
        writer = csv_files.DictWriter(lines, names, lineterminator='\n')
        writer.writeheader()
        writer.writerows(run.values for run in found)
        with written_atomically(Path(csv)) as file:
            file.write(lines.getvalue().encode())
    if html:
        with written_atomically(Path(html)) as file:
            curves = [html_picture(picture, Path(picture).read_bytes())] if plot else []
            file.write(html_page('Runs', [html_table(head, rows), *curves]))


if __name__ == '__main__':
    command_line.main(runs)
