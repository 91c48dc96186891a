"""Tests of the table of runs, on one that takes a second and on records written by hand."""

import contextlib
import csv
import io
import json
import statistics
from unittest import mock

from support import datasets, folders
from support.errors import UserError
from support.testing import TestCase, printed, small_images

from matplotlib.figure import Figure

import logistic_sgd
import runs


class TestRuns(TestCase):
    def write(self, name, script='mlp', status='finished', scores=None, seconds=60, history='',
              **settings):
        """A run, by hand."""
        folder = self.folder / name
        folder.mkdir(parents=True)
        folders.write_json(folder / 'run.json', {
            'script': script, 'status': status, 'process': {}, 'files': [],
            'data': {'name': 'digits'}, 'settings': settings, 'seconds': {'training': seconds},
            'scores': {'test_error': 5.} if scores is None else scores})
        if history:
            (folder / 'history.csv').write_text(history)

    def show(self, **options):
        """What is printed, as rows of cells by the names of their columns; and what on stderr."""
        with printed() as output, contextlib.redirect_stderr(io.StringIO()) as errors, \
                contextlib.chdir(self.folder):
            runs.runs(**options)
        head, line, *rows = output.getvalue().split('\n')
        starts = [i for i in range(len(line)) if line[i] == '-' and (i == 0 or line[i - 1] == ' ')]
        names, *cells = ([row[a:b].strip() for a, b in zip(starts, [*starts[1:], None],
                                                           strict=True)]
                         for row in (head, *rows[:-1]))
        return [dict(zip(names, row, strict=True)) for row in cells], errors.getvalue()

    def test_a_real_run(self):
        with mock.patch.object(datasets, 'read', return_value=small_images()), printed():
            result = logistic_sgd.train(n_epochs=2, batch_size=20,
                                        output_folder=str(self.folder / 'a'))
        (row,), errors = self.show()
        self.assertEqual(errors, '')
        self.assertEqual((row['folder'], row['script'], row['status'], row['data']),
                         ('a', 'logistic_sgd', 'finished', 'small digits'))
        self.assertEqual(row['settings'], 'n_epochs=2 batch_size=20')
        self.assertAlmostEqual(float(row['test_error']), result.scores['test_error'], 4)

    def test_what_differs_is_told_and_dead_runs_are_shown_as_dead(self):
        self.write('a', n_hidden=500, learning_rate=0.01, seed=1234)
        self.write('b', n_hidden=[50, 30], learning_rate=0.02, seed=1234, status='running',
                   scores={})
        self.write('deeper/c', script='of_others', rate=1)
        (a, b, c), _ = self.show()
        self.assertEqual([a['settings'], b['settings'], c['settings']], [
            'n_hidden=500 learning_rate=0.01', 'n_hidden=50,30 learning_rate=0.02', ''])
        self.assertEqual([a['status'], b['status'], b['test_error'], c['folder'], a['minutes']],
                         ['finished', 'dead', '–', 'deeper/c', '1.0'])

    def test_broken_records_are_told_and_passed_over(self):
        self.write('good')
        for name, text in (('a', 'no json'), ('b', '{"script": 3}')):
            (self.folder / name).mkdir()
            (self.folder / name / 'run.json').write_text(text)
        self.write('c', scores={'test_error': 'low'})
        self.write('d', scores=['low'])
        rows, errors = self.show()
        self.assertEqual([row['folder'] for row in rows], ['good'])
        self.assertEqual([line.split('/run.json')[0][-1] for line in errors.splitlines()],
                         ['a', 'b', 'c', 'd'])

    def test_sorted_and_chosen(self):
        for name, error, n_hidden in (('a', 3., 500), ('b', None, 500), ('c', 10., [500, 300]),
                                      ('d', 2., 500)):
            self.write(name, n_hidden=n_hidden, scores={'test_error': error})
        rows, _ = self.show(sort='test_error')
        self.assertEqual([row['folder'] for row in rows], ['d', 'a', 'c', 'b'])
        rows, _ = self.show(sort='test_error', where=('n_hidden=500',))
        self.assertEqual([row['folder'] for row in rows], ['d', 'a', 'b'])
        rows, _ = self.show(where=('n_hidden=500,300', 'data=digits'))
        self.assertEqual([row['folder'] for row in rows], ['c'])
        self.assertEqual(len(self.show(sort='n_hidden')[0]), 4)  # numbers and lists

    def test_means_over_seeds(self):
        errors = {500: [3., 4., 8.], 50: [6.]}
        for n_hidden, values in errors.items():
            for seed, value in enumerate(values):
                self.write(f'{n_hidden}_{seed}', n_hidden=n_hidden, seed=seed,
                           scores={'test_error': value})
        self.write('unfinished', n_hidden=500, seed=9, status='failed', scores={'test_error': 99})
        (three, one), _ = self.show(group_by=('n_hidden',))
        self.assertEqual([one['runs'], one['over'], one['test_error']], ['1', '', '6'])
        self.assertEqual([three['n_hidden'], three['runs'], three['over'], three['test_error']],
                         ['500', '3', 'seed', f'5 ± {statistics.stdev(errors[500]):.2g}'])

    def test_files(self):
        text = 'stage,epoch,validation_error\ntraining,1,9.5\ntraining,2,\ntraining,3,7\n'
        self.write('a', history=text, n_hidden=[5, 3])
        self.write('b')
        with mock.patch.object(Figure, 'savefig', autospec=True) as savefig:
            self.show(plot='validation_error')
        line, = savefig.call_args.args[0].axes[0].lines
        self.assertEqual(line.get_xydata().tolist(), [[1, 9.5], [3, 7]])
        self.show(plot='validation_error', csv='t.csv', html='t.html', picture='p.png')
        self.assertEqual((self.folder / 'p.png').read_bytes()[:4], b'\x89PNG')
        page = (self.folder / 't.html').read_text(encoding='utf-8')
        self.assertIn('<td>n_hidden=5,3</td>', page)
        self.assertIn('data:image/png;base64,', page)
        with (self.folder / 't.csv').open(newline='') as file:
            rows = list(csv.DictReader(file))
        self.assertEqual([row['n_hidden'] for row in rows], ['[5, 3]', ''])
        self.assertEqual([float(row['test_error']) for row in rows], [5., 5.])
        self.assertEqual(json.loads((self.folder / 'a' / 'run.json').read_text())['files'], [])

    def test_mistakes(self):
        self.write('a', n_hidden=3, history='stage,epoch,cost\ntraining,1,x\n')
        for options, message in (
                ({'sort': 'n_hiden'}, '`sort` is n_hiden: did you mean n_hidden?'),
                ({'where': ('n_hidden',)}, 'write it as name=value'),
                ({'where': ('n_hidden=4',)}, 'no such run'),
                ({'group_by': ('x',)}, '`group_by` is x: there are folder, script'),
                ({'plot': 'costs'}, '`plot` is costs: did you mean cost?'),
                ({'plot': 'cost'}, 'history.csv: cannot be read'),
                ({'folders': ('nowhere',)}, 'there is no folder nowhere')):
            with self.subTest(message), self.assertRaises(UserError) as caught:
                self.show(**options)
            self.assertIn(message, str(caught.exception))
