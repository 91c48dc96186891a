"""Tests of the search: its spaces, its trials, and studies whose processes are killed."""

import contextlib
import dataclasses
import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
import unittest
from unittest import mock

from support import command_line
from support.errors import UserError, notice
from support.folders import read_record
from support.testing import CODE_FOLDER, TestCase, printed, slow

import logistic_sgd
import mlp
import search
from search import Outcome, Plan, Space, Trials, run_trial, space_of
from test_scripts import write_data

MISSING = 'optuna or distributed is missing, so there are no tests of search.py'
if search.optuna is None:
    notice(MISSING)
installed = unittest.skipIf(search.optuna is None, MISSING)


class TestSpaces(TestCase):
    def test_ranges_and_choices(self):
        many = int | tuple[int, ...]
        for text, annotation, space in (
                ('log:0.01:0.5', float, Space('suggest_float', {
                    'low': 0.01, 'high': 0.5, 'log': True})),
                ('float:-1:1', float, Space('suggest_float', {'low': -1., 'high': 1.})),
                ('int:1:9', int, Space('suggest_int', {'low': 1, 'high': 9})),
                ('500|500,300', many, Space('suggest_categorical', {
                    'choices': ['500', '500,300']})),
                ('tanh|relu', str, Space('suggest_categorical', {'choices': ['tanh', 'relu']}))):
            self.assertEqual(space_of('x', text, annotation), space)
        for text, annotation, message in (
                ('log:0:1', float, 'write log:LOW:HIGH, with LOW below HIGH and above 0'),
                ('float:2:1', float, 'write float:LOW:HIGH, with LOW below HIGH$'),
                ('int:1', int, 'write int:LOW:HIGH'), ('int:1.5:3', int, 'write int:LOW:HIGH'),
                ('float:0:nan', float, 'write float'),
                ('float:1:3', int, 'the value 1.0, but it has to be int'),
                ('lg:1:3', float, "the value 'lg:1:3', but it has to be float; ranges are float:"),
                ('5|x', many, "the value 'x'")):
            with self.subTest(text), self.assertRaisesRegex(UserError, message):
                space_of('x', text, annotation)


@installed
class TestSearch(TestCase):
    def setUp(self):
        super().setUp()
        write_data(self.folder / 'small.npz')
        for number in search.SIGNALS:
            self.addCleanup(signal.signal, number, signal.getsignal(number))

    def plan(self, script='logistic_sgd', fixed=None, spaces=None, folder='study', **options):
        """A study of settings that train in a moment."""
        path = self.folder / folder
        path.mkdir(exist_ok=True)
        fixed = {'dataset': str(self.folder / 'small.npz'), 'n_epochs': 3, 'batch_size': 20} | (
            fixed or {})
        return Plan(**{'script': script, 'folder': path, 'fixed': fixed, 'seeds': 1,
                       'score': 'best_validation_error', 'maximise': False, 'sampler': 'tpe',
                       'pruner': 'none', 'seed': 0, 'storage': None, 'spaces': spaces or {
                           'learning_rate': space_of('', 'log:0.01:1', float)}} | options)

    def outcome(self, plan, number=0):
        """That of a trial which this process has claimed."""
        with Trials(plan, number + 1) as trials:
            self.assertEqual(trials.next(), number)
            return run_trial(plan, number), trials.study.trials[number]

    def test_a_trial_has_the_mean_score_of_its_seeds(self):
        plan = self.plan('mlp', {'n_hidden': 5}, seeds=2)
        outcome, trial = self.outcome(plan)
        with printed():
            scores = [mlp.train(**plan.fixed, **trial.params, seed=seed, output_folder=str(
                self.folder / str(seed))).scores['best_validation_error'] for seed in (None, 1)]
        self.assertNotEqual(*scores)
        self.assertEqual(outcome, Outcome('complete', sum(scores) / 2))
        # How the first one was doing, epoch by epoch.
        self.assertEqual(list(trial.intermediate_values), [1, 2, 3])
        self.assertEqual(min(trial.intermediate_values.values()), scores[0])
        self.assertIn('... training', plan.run_folder(0).with_suffix('.txt').read_text())

    def test_trials_without_hope_are_ended(self):
        plan = self.plan(pruner='median')
        study = plan.study()
        for _ in range(5):  # before that many it does not judge
            trial = study.ask()
            for epoch in (1, 2, 3):
                trial.report(100. if epoch == 1 else 0., epoch)
            study.tell(trial, 0.)
        outcome, trial = self.outcome(plan, 5)
        self.assertEqual((outcome, list(trial.intermediate_values)), (Outcome('pruned'), [1, 2]))
        self.assertEqual(read_record(plan.run_folder(5))['status'], 'pruned')
        with mock.patch.object(logistic_sgd, 'train', side_effect=AssertionError):
            self.assertEqual(self.outcome(plan, 5)[0], Outcome('pruned'))  # asked for again

    def test_divergence_is_no_hope_and_a_mistake_a_failure(self):
        plan = self.plan(spaces={'learning_rate': space_of('', 'float:1e8:1e9', float)})
        self.assertEqual(self.outcome(plan)[0].state, 'pruned')
        for options, message in (
                ({'fixed': {'batch_size': 999}}, '`batch_size`'),
                ({'score': 'best_validation_eror'}, 'did you mean best_validation_error?')):
            outcome, _ = self.outcome(self.plan(folder=message[:5], **options))
            self.assertEqual(outcome.state, 'failed')
            self.assertIn(message, outcome.message)

    def test_no_memory_is_a_failure_and_anything_else_a_fault(self):
        for error in (MemoryError(), RuntimeError('RESOURCE_EXHAUSTED: 9 GB')):
            with mock.patch.object(logistic_sgd, 'train', side_effect=error):
                outcome, _ = self.outcome(self.plan(folder=type(error).__name__))
            self.assertEqual(outcome[:2], ('failed', None))
            self.assertIn('not enough memory', outcome.message)
        with mock.patch.object(logistic_sgd, 'train', side_effect=RuntimeError('a fault')), \
                self.assertRaisesRegex(RuntimeError, 'a fault'):
            self.outcome(self.plan())

    def test_a_trial_that_nobody_sees_to_is_left_and_taken_up(self):
        plan = self.plan()
        whole, _ = self.outcome(self.plan(folder='whole'))
        trials = Trials(plan, 1)
        number = trials.next()

        def report(trial, value, step):
            if step == 2:
                trials.__exit__()  # as the system does when a process dies
            return original(trial, value, step)

        original = search.optuna.trial.Trial.report
        with mock.patch.object(search.optuna.trial.Trial, 'report', report):
            self.assertEqual(run_trial(plan, number), Outcome('interrupted'))
        self.assertEqual(read_record(plan.run_folder(number))['status'], 'interrupted')
        outcome, trial = self.outcome(plan)
        self.assertEqual(outcome, whole)
        self.assertEqual(list(trial.intermediate_values), [1, 2, 3])

    @slow
    def test_two_users_do_no_trial_twice(self):
        plan = self.plan()
        ours, theirs = Trials(plan, 5), Trials(plan, 5)
        numbers = [trials.next() for trials in (ours, theirs, theirs, ours)]
        self.assertEqual(numbers, [0, 1, 2, 3])
        with printed() as output:
            theirs.end(2, Outcome('complete', 7.))
        self.assertRegex(output.getvalue(),
                         r'^trial 2: 7, learning_rate=0\.\d+; best 7 \(trial 2\); left: 00:\d\d\n$')
        theirs.__exit__()  # they die
        self.assertEqual([ours.next() for _ in range(3)], [1, 4, None])
        self.assertEqual(len(plan.study().trials), 5)

    @slow
    def test_the_seed_decides_what_is_drawn_however_often_it_is_interrupted(self):
        def drawn(folder, often, seed=0, sampler='tpe'):
            plan = self.plan(folder=folder, seed=seed, sampler=sampler)
            trials = Trials(plan, 15)
            while (number := trials.next()) is not None:
                if often:  # it dies with the trial in hand, and another one takes it up
                    trials.__exit__()
                    trials = Trials(plan, 15)
                    self.assertEqual(trials.next(), number)
                rate = trials.study.trials[number].params['learning_rate']
                with printed():
                    trials.end(number, Outcome('complete', (math.log(rate) + 2) ** 2))
            return [trial.params['learning_rate'] for trial in trials.study.trials]

        whole = drawn('a', False)
        self.assertEqual(len(set(whole)), 15)
        self.assertEqual(drawn('b', True), whole)
        self.assertNotEqual(drawn('c', False, seed=1)[0], whole[0])
        self.assertEqual(drawn('d', False, sampler='random')[:10], whole[:10])

    def test_the_command_of_the_best_settings_is_one_of_the_script(self):
        plan = dataclasses.replace(
            self.plan('rbm', spaces={'n_hidden': space_of('', 'int:1:9', int)}, maximise=True),
            fixed={'dataset': 'my digits', 'persistent': False, 'sample_pixels': False, 'k': 15})
        trials = Trials(plan, 2)
        for value in (1., 2.):
            with printed():
                trials.end(trials.next(), Outcome('complete', value))
        best = trials.study.trials[1].params['n_hidden']
        self.assertEqual(trials.command(),  # the defaults are not in it
                         "python code/rbm.py --dataset 'my digits' --no-persistent "
                         f'--n-hidden {best} --output-folder best_output')

    def test_mistakes(self):
        rate = ('learning_rate=log:0.01:1',)
        for arguments, message in (
                ({'script': 'SDA', 'set': rate}, '`script` is SDA: did you mean SdA?'),
                ({'set': ('learning_rat=log:0.1:1',)}, 'did you mean learning_rate?'),
                ({'set': ('seed=int:1:9',)}, '`set` is seed: there are'),
                ({'set': rate, 'fixed': ('n_epochs=x',)}, '`fixed` gives n_epochs the value'),
                ({'set': rate, 'fixed': ('learning_rate=1',)}, '`set` and `fixed` both have'),
                ({}, '`set` is empty'), ({'set': rate, 'workers': 0}, '`workers` is 0'),
                ({'set': rate, 'pruner': 'halve'}, '`pruner` is halve'),
                ({'set': rate, 'scheduler': 'tcp://127.0.0.1:1'}, 'does not answer')):
            with self.subTest(message), self.assertRaises(UserError) as caught:
                search.search(**{'script': 'mlp', 'output_folder': str(self.folder / message[:7]),
                                 **arguments})
            self.assertIn(message, str(caught.exception))
        with mock.patch.object(search, 'optuna', None), \
                self.assertRaisesRegex(UserError, 'pip install -r .*requirements-search.txt'):
            search.search('mlp')


@installed
class TestStudies(TestCase):
    """Studies as a user runs them, in processes that end or are ended."""

    SEARCH = ('mlp --set learning_rate=log:0.003:3 --set n_hidden=5|8,5 --fixed n_epochs=60 '
              '--fixed batch_size=20 --dataset small.npz --trials 4').split()

    def setUp(self):
        super().setUp()
        write_data(self.folder / 'small.npz')

    def begin(self, *arguments):
        return subprocess.Popen([sys.executable, CODE_FOLDER / 'search.py', *arguments],
                                cwd=self.folder, text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)

    def wait_for_epoch(self, process, folder, epoch):
        """The record of a trial's run, once it has come so far."""
        deadline = time.monotonic() + 120
        history = self.folder / folder / 'history.csv'
        while not (history.exists() and len(history.read_text().splitlines()) > epoch):
            self.assertIsNone(process.poll(), folder)
            self.assertLess(time.monotonic(), deadline, folder)
            time.sleep(0.02)
        return read_record(self.folder / folder)

    def ended(self, process, status=0):
        output, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, status, errors)
        self.assertNotIn('Traceback', errors)
        return output, errors

    def trials(self, folder):
        """What the study holds."""
        study = search.optuna.load_study(
            study_name=f'mlp {folder}', storage=search.optuna.storages.JournalStorage(
                search.JournalFileBackend(str(self.folder / folder / 'study.log'))))
        return [(trial.number, trial.state.name, trial.params, trial.value,
                 trial.intermediate_values) for trial in study.trials]

    @slow
    def test_killed_workers_and_clients_change_nothing(self):
        output, errors = self.ended(self.begin(*self.SEARCH, '--output-folder', 'whole'))
        self.assertRegex(errors, r'\AThe code for file search.py ran for .*\n\Z')
        lines = output.splitlines()
        self.assertRegex(lines[0], 'Dask shows what it does at http://.*/status')
        self.assertEqual([line.split(':')[0] for line in lines[1:5]],
                         [f'trial {i}' for i in range(4)])
        whole = self.trials('whole')
        self.assertEqual({state for _, state, *_ in whole} - {'PRUNED'}, {'COMPLETE'})
        page = (self.folder / 'whole' / 'index.html').read_text(encoding='utf-8')
        self.assertEqual(page.count('data:image/png;base64,'), 3)
        self.assertEqual(json.loads((self.folder / 'whole/run.json').read_text())['files'], [
            'study.log', 'history.png', 'slices.png', 'importances.png', 'index.html'])

        process = self.begin(*self.SEARCH, '--output-folder', 'parts')
        record = self.wait_for_epoch(process, 'parts/trial_0000', 5)
        os.kill(record['process']['id'], signal.SIGKILL)  # a worker
        self.wait_for_epoch(process, 'parts/trial_0001', 5)
        process.kill()  # the client
        process.communicate()
        process = self.begin('mlp', '--resume', '--output-folder', 'parts')
        self.wait_for_epoch(process, 'parts/trial_0002', 5)
        process.send_signal(signal.SIGINT)
        _, errors = self.ended(process, 130)
        self.assertIn('search.py: interrupted; the same with --resume goes on\n', errors)
        self.ended(self.begin('mlp', '--resume', '--output-folder', 'parts'))
        self.assertEqual(self.trials('parts'), whole)
        for number in range(4):
            for name in ('history.csv', 'model.npz'):
                self.assertEqual((self.folder / f'parts/trial_000{number}' / name).read_bytes(),
                                 (self.folder / f'whole/trial_000{number}' / name).read_bytes())
        _, errors = self.ended(self.begin('mlp', '--resume', '--output-folder', 'parts',
                                          '--fixed', 'n_epochs=9'), 1)
        self.assertIn('cannot resume the study', errors)

    @slow
    def test_a_cluster_that_exists(self):
        import distributed

        with contextlib.redirect_stderr(None), distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address='localhost:0',
                silence_logs=logging.ERROR) as cluster:
            arguments = [*self.SEARCH, '--scheduler', cluster.scheduler_address]
            users = [self.begin(*arguments, '--output-folder', 'shared')]
            self.wait_for_epoch(users[0], 'shared/trial_0001', 1)
            users.append(self.begin(*arguments, '--output-folder', 'shared', '--resume'))
            outputs = [self.ended(user)[0] for user in users]
        numbers = [line.split(':')[0] for output in outputs for line in output.splitlines()
                   if line.startswith('trial ') and ':' in line]
        self.assertEqual(sorted(numbers), [f'trial {i}' for i in range(4)])


class TestCommandLine(TestCase):
    def test_one_line_when_it_is_not_installed(self):
        with mock.patch('sys.argv', ['search.py', 'mlp']), mock.patch.object(
                search, 'optuna', None), mock.patch('sys.stderr') as stderr, \
                self.assertRaises(SystemExit):
            command_line.main(search.search)
        text = ''.join(call.args[0] for call in stderr.write.call_args_list)
        self.assertEqual(text.count('\n'), 1)
        self.assertIn('requirements-search.txt', text)
