"""Tests of the book: its listings are in the code, and its examples do what it says they do."""

import ast
import contextlib
import csv
import doctest
import functools
import importlib.util
import io
import json
import math
import os
import re
import sqlite3
import subprocess
import sys
import textwrap
from unittest import mock

from support.errors import notice
from support.testing import CODE_FOLDER, TestCase

import tyro

import benchmark

BOOK = CODE_FOLDER.parent / 'doc'
CHAPTERS = sorted(BOOK.glob('*.rst'))
sys.path.insert(0, str(CODE_FOLDER / 'hmc'))  # where the snippets, too, expect it
# What a quick example may take, in seconds.
TIME_LIMIT = 120
IGNORING_SPACE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def directives(text, name):
    """``(argument, options, content)`` of every directive of this name."""
    pattern = rf'^( *)\.\. {name}::(.*)\n((?:\1 +.*\n|\n)*)'
    for match in re.finditer(pattern, text + '\n', re.MULTILINE):
        lines = textwrap.dedent(match[3]).splitlines()
        options = dict(re.fullmatch(r':([\w-]+):\s*(.*)', line).groups()
                       for line in lines if re.match(r':[\w-]+:', line))
        content = [line for line in lines if not re.match(r':[\w-]+:', line)]
        yield match[2].strip(), options, '\n'.join(content).strip('\n')


def source_of(path, pyobject):
    """The source text of a function or class, named as ``:pyobject:`` does."""
    text = path.read_text(encoding='utf-8')
    scope = ast.parse(text)
    for name in pyobject.split('.'):
        found = [node for node in scope.body if getattr(node, 'name', None) == name]
        if len(found) != 1:
            raise LookupError(f'{path.name} has {len(found)} {pyobject}')
        scope = found[0]
    return ast.get_source_segment(text, scope)


def command_line_of(path):
    """The function whose keyword arguments are a script's command line, doing nothing."""
    text = path.read_text(encoding='utf-8')
    name = re.findall(r'command_line\.main\(.*?(\w+)\)$', text, re.MULTILINE)[-1]
    main = getattr(importlib.import_module(path.stem), name)
    return functools.wraps(main)(lambda **settings: settings)


class TestListings(TestCase):
    def test_every_listing_is_there(self):
        n_listings = 0
        for chapter in CHAPTERS:
            for argument, options, _ in directives(chapter.read_text(encoding='utf-8'),
                                                   'literalinclude'):
                with self.subTest(chapter=chapter.name, listing=argument, **options):
                    path = (BOOK / argument).resolve()
                    text = (source_of(path, options['pyobject']) if 'pyobject' in options
                            else path.read_text(encoding='utf-8'))
                    for marker in ('start-at', 'start-after', 'end-at', 'end-before'):
                        if marker in options:
                            start = text.index(options.get('start-at')
                                               or options.get('start-after') or '')
                            end = text.index(options[marker], start)
                            self.assertGreaterEqual(end, start)
                            if marker.startswith('start'):
                                self.assertEqual(text.count(options[marker]), 1)
                    n_listings += 1
        self.assertGreater(n_listings, 0)

    def test_missing_marker_is_found(self):
        with self.assertRaises(LookupError):
            source_of(CODE_FOLDER / 'mlp.py', 'HiddenLayer.no_such_method')
        text = '.. literalinclude:: ../code/mlp.py\n   :pyobject: MLP\n   :end-before: x =\n'
        self.assertEqual(list(directives(text, 'literalinclude')),
                         [('../code/mlp.py', {'pyobject': 'MLP', 'end-before': 'x ='}, '')])


class TestReadme(TestCase):
    def test_its_table_of_speeds_is_that_on_record(self):
        readme = (BOOK.parent / 'README.md').read_text(encoding='utf-8')
        for row in json.loads((BOOK / 'results' / 'benchmark.json').read_text())['microseconds']:
            self.assertIn(f'| {" | ".join(benchmark.cells(row))} |\n', readme)


    def test_its_errors_are_those_on_record(self):
        readme = (BOOK.parent / 'README.md').read_text(encoding='utf-8')
        for script in 'logistic_cg', 'mlp', 'convolutional_mlp', 'SdA', 'DBN':
            scores = json.loads((BOOK / 'results' / f'{script}.json').read_text())['scores']
            row, = re.findall(rf'^\| `code/{script}\.py` .*$', readme, re.MULTILINE)
            self.assertIn(f'validation {scores["best_validation_error"]:.2f} %, test '
                          f'{scores["test_error"]:.2f} %', row)


class TestSnippets(TestCase):
    """The lines that begin with >>>."""

    def test_every_snippet_prints_what_it_says(self):
        for chapter in CHAPTERS:
            with self.subTest(chapter.name):
                failures, _ = doctest.testfile(str(chapter), module_relative=False,
                                               optionflags=IGNORING_SPACE)
                self.assertEqual(failures, 0)


def agree(expected, printed):
    """Whether two outputs are the same but for space, speeds, and a tenth of other fractions."""
    number = re.compile(r'-?\d+\.\d+')
    # NumPy fills up a number of fewer digits, also before a bracket.
    texts = [re.sub(r'\S+ epochs/sec|(?<=\[) +| +(?=\])', '', text) for text in (expected, printed)]
    words, others = (number.sub('#', text).split() for text in texts)
    numbers, other_numbers = (map(float, number.findall(text)) for text in texts)
    return words == others and all(
        math.isclose(a, b, rel_tol=0.1, abs_tol=0.1)
        for a, b in zip(numbers, other_numbers, strict=True))


class TestAgree(TestCase):
    def test_it_tells_right_from_wrong(self):
        text = 'epoch 1, error 12.500000 %\nThe code run for 2 epochs, with 1.5 epochs/sec\n'
        for other, holds in ((text.replace('12.5', '12.9').replace(' 1.5', ' 9.5'), True),
                             (text.replace('12.5', '14.5'), False),
                             (text.replace('epoch 1', 'epoch 2'), False),
                             (text.replace('\n', '  '), True), (text + '1.0', False)):
            self.assertEqual(agree(text, other), holds, other)
        self.assertTrue(agree('[[ 1.5  2.25 ]', '[[1.5 2.251]'))


class TestExamples(TestCase):
    """The scripts that log a run for other programs, as far as these are installed."""

    def run_example(self, name, package):
        if importlib.util.find_spec(package) is None:
            notice(f'{package} is missing, so {name} is not tested')
            self.skipTest(f'{package} is missing')
        run = subprocess.run([sys.executable, BOOK / 'examples' / name], cwd=self.folder,
                             capture_output=True, text=True, timeout=TIME_LIMIT,
                             env=os.environ | {'PYTHONPATH': os.pathsep.join(
                                 [str(CODE_FOLDER), os.environ.get('PYTHONPATH', '')])})
        self.assertEqual(run.returncode, 0, run.stderr)
        with (self.folder / 'mlp_output' / 'history.csv').open(newline='') as file:
            return [float(row['validation_error']) for row in csv.DictReader(file)]

    def test_tensorboard(self):
        self.run_example('log_to_tensorboard.py', 'tensorboardX')
        events, = (self.folder / 'tensorboard_logs').iterdir()
        for name in (b'training/cost', b'training/validation_error'):
            self.assertEqual(events.read_bytes().count(name), 3)

    def test_mlflow(self):
        errors = self.run_example('log_to_mlflow.py', 'mlflow')
        with contextlib.closing(sqlite3.connect(self.folder / 'mlflow.db')) as database:
            logged = database.execute("SELECT value, step FROM metrics WHERE key = "
                                      "'validation_error' ORDER BY step").fetchall()
            self.assertEqual(logged, [(error, i) for i, error in enumerate(errors, 1)])
            best, = database.execute("SELECT value FROM latest_metrics WHERE key = "
                                     "'final_best_validation_error'").fetchone()
        self.assertEqual(best, min(errors))


class TestConsole(TestCase):
    """The console blocks. Those of the class "long" are only checked for their options."""

    def blocks(self):
        for chapter in CHAPTERS:
            for language, options, content in directives(chapter.read_text(encoding='utf-8'),
                                                         'code-block'):
                if language == 'console':
                    yield chapter.name, options.get('class') == 'long', content

    def test_quick_examples_print_what_they_say(self):
        (self.folder / 'code').symlink_to(CODE_FOLDER)
        (self.folder / 'doc').symlink_to(BOOK)
        for chapter, is_long, content in self.blocks():
            if is_long:
                continue
            for example in re.split(r'^\$ ', content, flags=re.MULTILINE)[1:]:
                command, _, expected = example.partition('\n')
                with self.subTest(chapter=chapter, command=command):
                    python, *arguments = command.split()
                    self.assertEqual(python, 'python')
                    run = subprocess.run([sys.executable, *arguments], cwd=self.folder,
                                         capture_output=True, text=True, timeout=TIME_LIMIT)
                    self.assertEqual(run.returncode, 0, run.stderr)
                    self.assertTrue(agree(expected, run.stdout),
                                    f'expected:\n{expected}\ngot:\n{run.stdout}')

    def test_long_examples_print_what_is_on_record(self):
        n_examples = 0
        for chapter, is_long, content in self.blocks():
            command, *lines = content.strip().splitlines()
            script = re.fullmatch(r'\$ python code/(\w+)\.py( --n-epochs \d+)?', command)
            path = BOOK / 'results' / f'{script and script[1]}.csv'
            if not (is_long and lines and path.exists()):
                continue
            with path.open(encoding='utf-8', newline='') as file:
                known = {float(value) for row in csv.DictReader(file)
                         for value in list(row.values())[2:] if value}
            with self.subTest(chapter=chapter, command=command):
                for number in re.findall(r'-?\d+\.\d{6,}(?! epochs/sec)', content):
                    n_examples += 1
                    digits = len(number.partition('.')[2])
                    self.assertIn(number.lstrip('-'), {f'{abs(value):.{digits}f}'
                                                       for value in known})
        self.assertGreater(n_examples, 50)

    def test_options_of_long_examples_exist(self):
        for chapter, is_long, content in self.blocks():
            commands = re.findall(r'^\$ python code/(\S+)(.*)', content, re.MULTILINE)
            for script, arguments in commands if is_long else ():
                with self.subTest(chapter=chapter, command=script + arguments):
                    with mock.patch('sys.stderr', io.StringIO()):
                        tyro.cli(command_line_of(CODE_FOLDER / script), args=arguments.split(),
                                 config=(tyro.conf.FlagCreatePairsOff,))
