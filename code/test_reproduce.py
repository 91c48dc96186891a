"""Tests of the reproduction, with jobs that take seconds."""

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

from support.errors import UserError
from support.testing import CODE_FOLDER, TestCase, printed

import reproduce
from reproduce import Job
from test_scripts import write_data

# What the subprocess that is killed runs: the reproduction of the one job named in its arguments.
PROGRAM = '''
import sys
import reproduce
reproduce.JOBS = {'mlp': reproduce.Job(sys.argv[1], 'mlp_output')}
reproduce.reproduce()
'''


class Page(HTMLParser):
    """The cells of the table, and the pictures by name."""

    def __init__(self, text):
        super().__init__()
        self.cells, self.pictures, self.others = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == 'img':
            kind, data = dict(attrs)['src'].split(',')
            self.pictures[dict(attrs)['alt']] = base64.b64decode(data)
        elif 'src' in dict(attrs) or 'href' in dict(attrs):
            self.others.append(attrs)
        elif tag == 'td':
            self.cells.append('')

    def handle_data(self, data):
        if self.lasttag == 'td' and data.strip():
            self.cells[-1] += data


class TestReproduce(TestCase):
    def setUp(self):
        super().setUp()
        write_data(self.folder / 'small.npz')
        self.enterContext(contextlib.chdir(self.folder))
        self.enterContext(mock.patch.object(reproduce, 'RESULTS', self.folder))
        for number in reproduce.SIGNALS:
            self.addCleanup(signal.signal, number, signal.getsignal(number))

    def reproduce(self, jobs, **settings):
        """What it prints, and its mistake, if it ends in one."""
        message = None
        with printed() as output, mock.patch.object(reproduce, 'JOBS', jobs):
            try:
                reproduce.reproduce(**settings)
            except UserError as error:
                message = str(error)
        return output.getvalue(), message

    def wait_for(self, found):
        """What is found, when there is something."""
        deadline = time.monotonic() + 60
        while not (value := found()):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        return value

    def test_it_goes_on_when_parent_and_child_were_killed(self):
        settings = '--dataset small.npz --n-hidden 8 --n-epochs'
        whole = subprocess.run(
            [sys.executable, CODE_FOLDER / 'mlp.py', *settings.split(), '150',
             '--output-folder', 'whole'], capture_output=True)
        self.assertEqual(whole.returncode, 0, whole.stderr)
        jobs = {'mlp': Job(f'mlp.py {settings} 150', 'mlp_output'),
                'broken': Job('nowhere.py', 'broken_output')}
        (self.folder / 'theano.json').write_text(
            '{"mlp": {"result": "test <1 %", "minutes": "97"}}')
        (self.folder / 'mlp.json').write_text('{"seconds": {"training": 90}}')

        parent = subprocess.Popen([sys.executable, '-c', PROGRAM, jobs['mlp'].script],
                                  env=os.environ | {'PYTHONPATH': str(CODE_FOLDER)},
                                  stdout=subprocess.DEVNULL)
        log = self.folder / 'reproduction' / 'mlp.txt'
        self.wait_for(lambda: log.exists() and 'epoch 2,' in log.read_text())
        parent.kill()
        parent.wait()
        record = json.loads((self.folder / 'reproduction/mlp_output/run.json').read_text())
        self.assertEqual(record['status'], 'running')  # the child has outlived it
        os.kill(record['process']['id'], signal.SIGKILL)

        output, message = self.reproduce(jobs, at_once=2)
        self.assertIn('broken failed: see the end of reproduction/broken.txt', message)
        plan, table = output.split('\n\n')
        self.assertRegex(plan, r'mlp +begun +1\.5\n')
        self.assertRegex(plan, r'broken +to do +–')
        for file in ('checkpoint.npz', 'model.npz', 'history.csv'):
            self.assertEqual((self.folder / 'reproduction/mlp_output' / file).read_bytes(),
                             (self.folder / 'whole' / file).read_bytes(), file)
        mlp, broken = table.splitlines()[2:4]
        self.assertRegex(mlp, r'mlp +test <1 % +validation \d.*; 150 epochs +97 +0\.\d +\d{3,}')
        self.assertRegex(broken, r'broken failed: .*nowhere.py')
        shown = Page((self.folder / 'reproduction/index.html').read_text(encoding='utf-8'))
        self.assertEqual(shown.cells[:2], ['mlp', 'test <1 %'])
        self.assertEqual(shown.pictures, {
            'curves.png': (self.folder / 'reproduction/mlp_output/curves.png').read_bytes()})
        self.assertEqual(shown.others, [])

        (self.folder / 'reproduction/mlp_output/curves.png').unlink()
        output, message = self.reproduce(jobs, only=('mlp',))
        self.assertIsNone(message)
        self.assertRegex(output, r'mlp +done')
        page = (self.folder / 'reproduction/index.html').read_text(encoding='utf-8')
        self.assertEqual(Page(page).pictures, {})

    def test_the_first_epochs_are_held_against_the_record(self):
        jobs = {'logistic_sgd': Job('logistic_sgd.py --dataset small.npz --batch-size 20',
                                    'logistic_sgd_output', '--n-epochs 2', 1e-6, .03, 'sums')}
        self.assertEqual(self.reproduce(jobs, quick=True, record=True), ('', None))
        path = self.folder / 'quick.json'
        record = json.loads(path.read_text())
        known = record['logistic_sgd']
        self.assertEqual(len(known['numbers']), 6)

        with mock.patch.object(reproduce, 'run_all'):  # there are results already
            output, message = self.reproduce(jobs, quick=True)
            self.assertRegex(output, r'logistic_sgd .* sums +right\n')
            self.assertIsNone(message)
            for numbers, data, sign in (
                    ({'training, epoch 2, cost': 1.00001}, known['data'], 'epoch 2, cost .* WRONG'),
                    ({'training, epoch 1, test_error': 1.1}, known['data'], 'test_error .* WRONG'),
                    ({}, 'of others', 'other data, or other epochs .* WRONG')):
                changed = {name: value * numbers.get(name, 1)
                           for name, value in known['numbers'].items()}
                path.write_text(json.dumps(
                    {'logistic_sgd': known | {'numbers': changed, 'data': data}}))
                output, message = self.reproduce(jobs, quick=True)
                self.assertRegex(output, sign)
                self.assertIn('logistic_sgd: not as on record', message)
            path.write_text('{}')
            output, message = self.reproduce(jobs, quick=True)
            self.assertRegex(output, 'not on record .* WRONG')

    def test_seeds_give_a_mean_and_a_spread(self):
        self.assertEqual(reproduce.summary([{'test_error': 1., 'best_iteration': 3, 'n': 9.125},
                                            {'test_error': 2., 'best_iteration': 5, 'n': 9.125}]),
                         'test 1.50 ± 0.71 %; n 9.125 ± 0')
        with mock.patch.object(reproduce, 'run_plan') as run_plan:
            self.reproduce({'mlp': Job('mlp.py', 'mlp_output'),
                            'fixed': Job('fixed.py', 'fixed_output', is_random=False)}, seeds=3)
        _, tasks, _ = run_plan.call_args.args
        self.assertEqual([task.folder.name for task in tasks], [
            'mlp_output', 'mlp_output_seed_1', 'mlp_output_seed_2', 'fixed_output'])
        self.assertEqual(tasks[1].command()[-4:], [
            'reproduction/mlp_output_seed_1', '--resume', '--seed', '1'])

    def test_several_at_once(self):
        began, running = [], []

        class Stub:
            is_quick = True

            def __init__(self, label, folder, seconds):
                self.label, self.folder, self.seconds_on_record = label, Path(folder), seconds

            def start(self, n_threads):
                self.started, self.polls = time.monotonic(), 0
                began.append((self.label, n_threads, len(running)))
                running.append(self)

            def has_ended(self):
                self.polls += 1
                if self.polls == 3:
                    running.remove(self)
                return self.polls >= 3

        tasks = [Stub('a', 'of a', 1), Stub('likelihood of a', 'of a', 5), Stub('b', 'of b', 9)]
        with mock.patch('os.cpu_count', return_value=4), contextlib.chdir(self.folder):
            reproduce.run_all(tasks, at_once=2)
        self.assertEqual(began, [('b', 2, 0), ('a', 2, 1), ('likelihood of a', 2, 0)])

        tasks[0].has_ended = mock.Mock(side_effect=KeyboardInterrupt)
        for task in tasks:
            task.stop = mock.Mock()
        with self.assertRaises(KeyboardInterrupt), contextlib.chdir(self.folder):
            reproduce.run_all(tasks)
        self.assertEqual([task.stop.call_count for task in tasks], [1, 0, 0])

        tasks[2].start = mock.Mock(side_effect=UserError('b.txt is in the way'))
        with self.assertRaisesRegex(UserError, 'in the way'), contextlib.chdir(self.folder):
            reproduce.run_all(tasks[::-1])
        self.assertEqual([task.stop.call_count for task in tasks], [1, 0, 0])

    def test_mistakes(self):
        for settings, message in (({'only': ('ldA',)}, '`only` is ldA: choose from logistic_sgd,'),
                                  ({'record': True}, '`record` is of the first epochs'),
                                  ({'seeds': 0}, '`seeds` is 0'),
                                  ({'at_once': 0}, '`at_once` is 0')):
            with self.assertRaisesRegex(UserError, message):
                reproduce.reproduce(**settings)
        self.assertFalse((self.folder / 'reproduction').exists())
