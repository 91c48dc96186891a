"""Tests of the figures that run in the page: their numbers against the Python, and all that a
reader can do with them, in a browser."""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from support import datasets
from support.errors import UserError
from support.estimates import log_mean_estimate
from support.testing import CODE_FOLDER, TestCase, in_float64, mnist_is_here, printed

import numpy
import pytensor as theano
import pytensor.tensor as T
from PIL import Image
from scipy import ndimage
from scipy.special import expit

import ais
import cA
import convolutional_mlp
import dA
import DBN
import logistic_sgd
import mlp
import playground
import rbm
import rnnrbm
import stacked
from test_book import BOOK, CHAPTERS
from test_scripts import write_tunes

try:
    from playwright.sync_api import sync_playwright
except ImportError:
    sync_playwright = None

sys.path[:0] = [str(BOOK), str(CODE_FOLDER / 'hmc')]
import figures  # noqa: E402
import live  # noqa: E402

import gaussian  # noqa: E402
import hmc  # noqa: E402

LIVE = BOOK / 'live'
CHROMIUM = shutil.which('chromium') or shutil.which('google-chrome')
BROWSER = None  # one for all tests
PLAYWRIGHT = None

LIVE_DIRECTIVE = re.compile(r'^\.\. live::.*\n(?:[ ]+.*\n|\n)*', re.MULTILINE)
PROJECT = f'''
import sys
sys.path[:0] = [{str(BOOK / "extensions")!r}, {str(CODE_FOLDER)!r}]
extensions = ['sphinx.ext.mathjax', 'sphinx-mathjax-offline', 'book']
html_theme = 'furo'
html_static_path = [{str(BOOK / "static")!r}, {str(LIVE)!r}]
html_css_files = ['book.css']
numfig = True
'''


def setUpModule():
    global BROWSER, PLAYWRIGHT
    if sync_playwright is None or CHROMIUM is None:
        missing = 'Playwright (requirements-dev.txt)' if CHROMIUM else 'Chromium'
        print(f'\nNOTICE: NO FIGURE THAT RUNS IN THE PAGE IS TESTED, for want of {missing}',
              file=sys.stderr)
        raise unittest.SkipTest(f'{missing} is not here')
    PLAYWRIGHT = sync_playwright().start()
    BROWSER = PLAYWRIGHT.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])


def tearDownModule():
    BROWSER.close()
    PLAYWRIGHT.stop()


class BrowserTestCase(TestCase):
    """A test with a page of its own, in which no error may appear."""

    def new_page(self, **settings):
        context = BROWSER.new_context(**settings)
        self.addCleanup(context.close)
        page = context.new_page()
        page.set_default_timeout(10000)
        self.errors = []
        page.on('console', lambda message: message.type in ('error', 'warning')
                and self.errors.append(message.text))
        page.on('pageerror', lambda error: self.errors.append(str(error)))
        self.addCleanup(lambda: self.assertEqual(self.errors, []))
        return page


def arc(x, y, width, height, start, end):
    """Places along an ellipse, by its centre, its radii and two angles in turns, clockwise."""
    angles = 2 * numpy.pi * numpy.linspace(start, end, 25)
    return numpy.column_stack([x + width * numpy.cos(angles), y + height * numpy.sin(angles)])


# How digits are written, in lines through places in a unit square, x to the right and y down.
HANDWRITING = {
    0: [arc(.5, .5, .3, .5, -.25, .75)],
    1: [[(.35, .2), (.55, 0), (.55, 1)]],
    2: [[*arc(.5, .3, .35, .3, -.45, .08), (.15, 1), (.9, 1)]],
    3: [[*arc(.45, .26, .32, .26, -.42, .2), *arc(.45, .74, .38, .26, -.2, .42)]],
    4: [[(.3, 0), (.1, .6), (.9, .6)], [(.7, .2), (.6, 1)]],
    5: [[(.85, 0), (.25, 0), (.2, .45), *arc(.45, .7, .38, .3, -.3, .4)]],
    6: [[(.7, 0), (.35, .35), *arc(.5, .72, .3, .28, .5, 1.55)]],
    7: [[(.1, .05), (.85, .05), (.4, 1)]],
    8: [arc(.5, .25, .25, .25, .25, 1.25), arc(.5, .75, .32, .25, -.25, .75)],
    9: [[*arc(.5, .28, .3, .28, .05, 1.05), (.75, .6), (.65, 1)]],
}


def handwritten(label, n):
    """Lines of a digit on the pad, n times, in several sizes, slants and places."""
    rng = numpy.random.RandomState(label)
    for _ in range(n):
        width, height = rng.uniform((30, 50), (70, 100))
        slant = rng.uniform(-.25, .15)
        left, top = rng.uniform(10, 130 - numpy.array([width * 1.2, height]))
        yield [[[left + width * (x + slant * (y - 1)), top + height * y] for x, y in line]
               for line in HANDWRITING[label]]


class TestNumbers(BrowserTestCase):
    """The JavaScript of each model against the Python, with the weights that the page knows."""

    def setUp(self):
        super().setUp()
        self.page = self.new_page()

    def load(self, figure, *weights):
        """Give the page the scripts of a figure."""
        sys.path.insert(0, str(BOOK / 'extensions'))
        from book import scripts_of  # it needs Sphinx
        for path in [*scripts_of(figure), *(LIVE / 'weights' / f'{name}.js' for name in weights)]:
            self.page.add_script_tag(path=path)
        self.page.evaluate('''() => {
            globalThis.result = generator => {
                let step;
                do step = generator.next(); while (!step.done);
                return step.value;
            };
        }''')

    def restored(self, name, build):
        """The model that the page knows."""
        model = build(**live.read_weights(name)['sizes'])
        for param, array in zip(model.params, live.parameters(name), strict=True):
            param.set_value(array)
        return model

    def test_classifiers(self):
        models = {'logistic_sgd': (logistic_sgd.build, 'LogisticRegression'),
                  'mlp': (mlp.build, 'MLP'), 'SdA': (stacked.build, 'StackedNetwork'),
                  'convolutional_mlp': (convolutional_mlp.build, 'LeNet')}
        self.load('classify', 'images', *models)
        images = numpy.array(self.page.evaluate('testImages().map(({image}) => [...image])'))
        self.assertEqual(images.shape, (30, 784))
        for name, (build, constructor) in models.items():
            with self.subTest(name):
                classifier = self.restored(name, build)
                expected = logistic_sgd.get_p_y_given_x(classifier)(images.astype('float32'))
                found = self.page.evaluate('''([name, constructor]) => {
                    const model = new (eval(constructor))(result(parameters(name)),
                                                          weights[name].sizes);
                    return testImages().map(({image}) => [...('outputs' in model
                        ? result(model.outputs(image)).p_y_given_x : model.p_y_given_x(image))]);
                }''', [name, constructor])
                numpy.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-6)

    def test_test_images(self):
        if not mnist_is_here():
            self.skipTest('needs MNIST')
        self.load('classify', 'images')
        digits = self.page.evaluate('testImages().map(({image, label}) => [label, ...image])')
        images, labels = datasets.read('mnist.pkl.gz').test
        rows = numpy.column_stack([labels, images])[:200]
        for digit in numpy.array(digits):
            self.assertTrue((abs(rows - digit).max(axis=1) < 1e-6).any())

    def test_drawings_become_images_like_those_of_mnist(self):
        self.load('classify')
        drawn, seen, empty = self.page.evaluate('''() => {
            const ink = new Float32Array(PAD ** 2);
            drawLine(ink, [20, 90], [60, 30]);
            drawLine(ink, [60, 30], [60, 110]);
            return [[...ink], [...prepared(ink, PAD)], [...prepared(new Float32Array(9), 3)]];
        }''')
        self.assertEqual(set(empty), {0})
        ink, image = numpy.reshape(drawn, (140, 140)), numpy.reshape(seen, (28, 28))
        for centre in ndimage.center_of_mass(image):
            self.assertAlmostEqual(centre, 13.5, delta=0.03)
        rows, columns = (numpy.flatnonzero(ink.max(axis=axis)) for axis in (1, 0))
        scale = (max(numpy.ptp(rows), numpy.ptp(columns)) + 1) / 20
        self.assertAlmostEqual(image.sum() * scale ** 2, ink.sum(), places=2)
        # Against the mean of many samples in each pixel, 20 on each side.
        places = [centre + 0.5 + ((numpy.arange(28 * 20) + 0.5) / 20 - 14) * scale
                  for centre in ndimage.center_of_mass(ink)]
        samples = ink[numpy.ix_(*(numpy.floor(place).astype(int).clip(0, 139)
                                  for place in places))]
        numpy.testing.assert_allclose(samples.reshape(28, 20, 28, 20).mean((1, 3)), image,
                                      atol=0.03)

    def test_images_are_moved(self):
        self.load('classify', 'images')
        image, *found = numpy.array(self.page.evaluate('''() => {
            const image = testImages()[0].image, none = {dx: 0, dy: 0, angle: 0, thickness: 0};
            return [image, ...[{dx: 3}, {dy: -2}, {angle: 90}, {angle: 20}, {thickness: 1},
                    {thickness: -1}].map(move => moved(image, {...none, ...move}))]
                .map(pixels => [...pixels]);
        }''')).reshape(-1, 28, 28)
        right, up, quarter, turned, thicker, thinner = found
        numpy.testing.assert_array_equal(right, numpy.roll(image, 3, axis=1))
        numpy.testing.assert_array_equal(up, numpy.roll(image, -2, axis=0))
        numpy.testing.assert_allclose(quarter, numpy.rot90(image, -1), atol=1e-6)
        moves = {name: move(image[None])[0] for name, move in live.MOVES.items()}
        numpy.testing.assert_allclose(turned, moves['turned by 20'], atol=1e-6)
        numpy.testing.assert_array_equal(thicker, moves['thicker by 1'])
        numpy.testing.assert_array_equal(thinner, ndimage.grey_erosion(
            image[None], footprint=live.CROSS)[0])

    def test_hybrid_monte_carlo(self):
        self.load('hmc')
        start, velocity = numpy.array([[-1.8, -2.2]]), numpy.array([[0.3, 1.1]])
        path = self.page.evaluate("""([pos, vel]) => [...simulate_dynamics(
            pos, vel, 0.12, 20, 1, gaussian_energy(0.85))].map(({pos, vel}) => [pos, vel])""",
                                  [start[0].tolist(), velocity[0].tolist()])
        with in_float64():
            energy = gaussian.gaussian_energy(numpy.zeros(2), numpy.array([[1, .85], [.85, 1]]))
            pos, vel = T.dmatrix('pos'), T.dmatrix('vel')
            for n_steps in (1, 7, 20):
                end = theano.function([pos, vel], [
                    *hmc.simulate_dynamics(pos, vel, 0.12, n_steps, energy)])(start, velocity)
                numpy.testing.assert_allclose(path[n_steps - 1], numpy.concatenate(end), rtol=1e-9)
            expected = theano.function([pos, vel], hmc.hamiltonian(pos, vel, energy))
            self.assertAlmostEqual(self.page.evaluate(
                '([pos, vel]) => hamiltonian(pos, vel, 1, gaussian_energy(0.85))',
                [start[0].tolist(), velocity[0].tolist()]), expected(start, velocity)[0])

    def test_gradients_of_the_landscapes(self):
        self.load('ball')
        errors = self.page.evaluate("""() => Object.values(ENERGIES).flatMap(
            ([, {energy, gradient}]) => [[0.3, -0.4], [1.7, 0.2], [-2, 2]].flatMap(
                pos => [0, 1].map(i => {
                const beside = step => energy(pos.map((s, j) => j === i ? s + step : s));
                return gradient(pos)[i] - (beside(1e-4) - beside(-1e-4)) / 2e-4;
            })))""")
        self.assertLess(max(map(abs, errors)), 1e-4)

    def test_moves_of_the_ball_and_of_the_walk_sample_the_landscape(self):
        self.load('ball')
        ball, walk = numpy.array(self.page.evaluate("""() => {
            const rng = new RandomStreams(1), energy = gaussian_energy(0.85);
            let ball = [0, 0], walk = [0, 0];
            return [() => ball = result(hmc_move(rng, ball, energy, 0.3, 8, 2)).pos,
                    () => walk = random_walk_move(rng, walk, energy, 0.8)].map(
                        move => Array.from({length: 8000}, move));
        }"""))
        for samples, tolerance in ((ball, 0.1), (walk, 0.2)):
            numpy.testing.assert_allclose(numpy.cov(samples.T), [[1, .85], [.85, 1]],
                                          atol=tolerance)
            numpy.testing.assert_allclose(samples.mean(axis=0), [0, 0], atol=tolerance)

    def test_gibbs_chain(self):
        self.load('chain', 'images', 'rbm_pcd15')
        machine = self.restored('rbm_pcd15', rbm.build)
        v, h = machine.input, T.matrix('h')
        free_energy = theano.function([v], machine.free_energy(v))
        propup = theano.function([v], machine.propup(v)[1])
        propdown = theano.function([h], machine.propdown(h)[1])
        rng = numpy.random.RandomState(0)
        uniform = rng.uniform(size=(3, machine.n_hidden + machine.n_visible))
        image, *steps = self.page.evaluate("""numbers => {
            const machine = new RBM(result(parameters('rbm_pcd15')));
            let v = testImages()[0].image;
            return [[...v], ...numbers.map(given => {
                const rng = new RandomStreams(0);
                rng.uniform = () => given.shift();
                const step = machine.gibbs_vhv(v, rng);
                v = step.v1_sample;
                return [[...step.h1_sample], [...step.v1_mean], [...v], machine.free_energy(v)];
            })];
        }""", uniform.tolist())
        sample = numpy.array([image], dtype='float32')
        for numbers, (h_sample, v_mean, v_sample, energy) in zip(uniform, steps, strict=True):
            p_h = propup(sample)
            numpy.testing.assert_array_equal(h_sample, (numbers[:machine.n_hidden] < p_h)[0])
            hidden = numpy.array([h_sample], dtype='float32')
            numpy.testing.assert_allclose([v_mean], propdown(hidden), rtol=1e-3, atol=1e-6)
            numpy.testing.assert_array_equal(v_sample, numbers[machine.n_hidden:] < v_mean)
            sample = numpy.array([v_sample], dtype='float32')
            self.assertAlmostEqual(energy, float(free_energy(sample)[0]), delta=1e-2)

    def test_auto_encoders(self):
        self.load('contract', 'images', 'dA_0', 'dA_30', 'cA')
        uniform = numpy.random.RandomState(0).uniform(size=784)
        for name in ('dA_0', 'dA_30', 'cA'):
            with self.subTest(name):
                image, seen, hidden, restored, cost, norm = self.page.evaluate(
                    """([name, numbers]) => {
                    const model = new AutoEncoder(result(parameters(name)));
                    const image = testImages()[0].image, rng = new RandomStreams(0);
                    rng.uniform = () => numbers.shift();
                    const seen = get_corrupted_input(image, 0.3, rng);
                    const hidden = model.get_hidden_values(seen);
                    return [...[image, seen, hidden, model.get_reconstructed_input(hidden)].map(
                        x => [...x]), model.get_cost(image, hidden),
                        get_jacobian_norm(model, hidden)];
                }""", [name, uniform.tolist()])
                numpy.testing.assert_array_equal(seen, (uniform < 0.7) * image)
                model = self.restored(name, dA.build)
                code, x = T.matrix('code'), T.matrix('seen')
                contractive = cA.cA(numpy.random.RandomState(), model.x, 784, len(hidden),
                                    W=model.W, bhid=model.b, bvis=model.b_prime)
                expected = theano.function([model.x, x, code], [
                    model.get_hidden_values(x), model.get_reconstructed_input(code),
                    model.get_cost(x), T.sqrt(contractive.get_contraction(code))])(
                        *(numpy.array([row], dtype='float32') for row in (image, seen, hidden)))
                for found, right in zip((hidden, restored, cost, norm), expected, strict=True):
                    numpy.testing.assert_allclose(found, numpy.asarray(right).squeeze(),
                                                  rtol=1e-3, atol=1e-5)

    def test_annealing(self):
        self.load('temperatures', 'small_rbm')
        for n in (1, 7, 100):
            numpy.testing.assert_allclose(self.page.evaluate(
                'n => [...inverse_temperatures(n)]', n), ais.inverse_temperatures(n), atol=1e-12)
        machine = figures.small_rbm()
        for param, array in zip(machine.params, live.parameters('small_rbm'), strict=True):
            param.set_value(array)
        self.assertAlmostEqual(
            self.page.evaluate("result(exact_log_partition(new RBM(result("
                               "parameters('small_rbm')))))"),
            ais.exact_log_partition(machine), delta=1e-3)
        logs = [-3.2, 1.5, 1.1, 0.4]
        estimate = log_mean_estimate(numpy.array(logs))
        self.assertEqual({name: round(value, 9) for name, value in self.page.evaluate(
            'log_mean_estimate', logs).items()},
            {name: round(value, 9) for name, value in vars(estimate).items()})

        # A chain step by step, with given numbers: its weight from the free energies of the
        # machines between the models A and B.
        W, hbias, vbias = ais.parameters(machine)
        rng = numpy.random.RandomState(0)
        base, betas = rng.normal(size=100), ais.inverse_temperatures(9)
        v, uniform = rng.randint(2, size=100), rng.uniform(size=(9, 112))
        found = self.page.evaluate("""([base, betas, v, numbers]) => {
            const rng = new RandomStreams(0);
            rng.uniform = () => numbers.shift();
            return result(annealing(new RBM(result(parameters('small_rbm'))), base, betas,
                                    Float32Array.from(v), rng));
        }""", [base.tolist(), betas.tolist(), v.tolist(), uniform.ravel().tolist()])
        expected = 0

        def log_f(beta):
            return (v @ ((1 - beta) * base + beta * vbias)
                    + numpy.logaddexp(0, beta * (v @ W + hbias)).sum())

        for old, new, numbers in zip(betas, betas[1:], uniform, strict=False):
            expected += log_f(new) - log_f(old)
            h = numbers[:12] < expit(new * (v @ W + hbias))
            v = (numbers[12:] < expit((1 - new) * base + new * (h @ W.T + vbias))).astype(int)
        self.assertAlmostEqual(found, expected, delta=1e-3)

    def test_deep_belief_network(self):
        self.load('dream', 'images', 'DBN')
        uniform = numpy.random.RandomState(0).uniform(size=4000)
        image, up, state, down = self.page.evaluate("""numbers => {
            const dbn = new DBN(result(parameters('DBN'))), image = testImages()[0].image;
            const rng = new RandomStreams(0), up = dbn.propup(image);
            rng.uniform = () => numbers.shift();
            const state = rng.bernoulli(up.at(-2));
            return [[...image], up.map(x => [...x]), [...state],
                    dbn.generate(state, rng).map(x => [...x])];
        }""", uniform.tolist())
        arrays = live.parameters('DBN')
        layers = [arrays[i:i + 3] for i in range(0, len(arrays), 3)]
        numbers, p = iter(uniform), numpy.array(image)
        for (W, hbias, _), found in zip(layers, up, strict=True):
            p = expit(p @ W + hbias)
            numpy.testing.assert_allclose(found, p, rtol=1e-3, atol=1e-6)
        numpy.testing.assert_array_equal(state, [next(numbers) < p for p in up[-2]])
        v = numpy.array(state)
        for (W, _, vbias), found in zip(layers[-2::-1], down[::-1], strict=True):
            numpy.testing.assert_allclose(found, expit(v @ W.T + vbias), rtol=1e-3, atol=1e-6)
            v = numpy.array([next(numbers) < p for p in found])

    def test_recurrent_network(self):
        self.load('tunes', 'rnnrbm', 'tunes')
        model = self.restored('rnnrbm', rnnrbm.RnnRbm)
        rng = numpy.random.RandomState(0)
        v_t, uniform = rng.randint(2, size=88), rng.uniform(size=25 * (150 + 88))
        u_before = rng.uniform(-1, 1, size=100)
        u, bv, bh, frame = self.page.evaluate("""([v_t, u_before, numbers]) => {
            const model = new RnnRbm(result(parameters('rnnrbm')));
            const u = model.next_state(v_t, u_before), rbm = model.rbm(u);
            const rng = new RandomStreams(0);
            rng.uniform = () => numbers.shift();
            return [u, rbm.vbias.data, rbm.hbias.data, model.next_frame(u, rng)].map(
                x => [...x]);
        }""", [v_t.tolist(), u_before.tolist(), uniform.tolist()])
        v, before = T.vector('v'), T.vector('before')
        state = model.parameters.next_state(v, before)
        expected = theano.function([v, before], [state, *model.parameters.biases(state)])(
            v_t.astype('float32'), u_before.astype('float32'))
        for found, right in zip((u, bv, bh), expected, strict=True):
            numpy.testing.assert_allclose(found, right, rtol=1e-3, atol=1e-5)
        W, v = live.parameters('rnnrbm')[0], numpy.zeros(88)
        for numbers in uniform.reshape(25, -1):
            h = numbers[:150] < expit(v @ W + bh)
            v = numbers[150:] < expit(h @ W.T + bv)
        numpy.testing.assert_array_equal(frame, v)

    def test_tunes_are_played_as_they_are_written(self):
        self.load('tunes', 'tunes')
        self.assertEqual(self.page.evaluate(
            "[0, 1, 2, 3].map(t => beginnings([[1, 0], [1, 1], [0, 1], [1, 0]], t))"),
            [[[0, 2]], [[1, 2]], [], [[0, 1]]])
        self.assertAlmostEqual(self.page.evaluate('frequency(60)'), 261.626, places=3)
        roll = numpy.zeros((3, 88), dtype='uint8')
        roll[1, [39, 43]] = 1
        self.assertEqual(playground.notes(roll, (21, 109)), [[], [60, 64], []])

    def test_early_stopping(self):
        self.load('stopping')
        histories = live.read_weights('histories')
        rng = numpy.random.RandomState(0)
        for name in histories:
            self.assertEqual(histories[name], live.history(name))  # as in the records
            errors, n = histories[name]['validation'], histories[name]['minibatches']
            settings = [(histories[name]['patience'], 0.995), *(
                (int(rng.uniform(2 * n, 40 * n)), rng.uniform(0.9, 1)) for _ in range(8)),
                (3 * n - 1, 0.9), (3 * n, 0.9)]
            if n > 100:  # which is many updates to go through
                settings = settings[:1]
            for i, (patience, threshold) in enumerate(settings):
                found = self.page.evaluate(
                    """([errors, n, patience, improvement_threshold]) =>
                    train_with_early_stopping(errors, n, {patience, improvement_threshold})""",
                    [errors, n, patience, threshold])
                # The rule of the chapter, update by update.
                best, best_epoch, updates, stops = numpy.inf, None, 0, False
                while not stops and updates < len(errors) * n + n - 1:
                    updates += 1
                    if updates % n == 0:
                        error = errors[updates // n - 1]
                        if error < best * threshold:
                            patience = max(patience, (updates - 1) * 2)
                        if error < best:
                            best, best_epoch = error, updates // n - 1
                    stops = patience <= updates - 1
                self.assertEqual(found['bestEpoch'], best_epoch)
                self.assertEqual(found['isOver'], stops)
                self.assertEqual(found['updates'], updates if stops else len(errors) * n)
                if i == 0:
                    scores = json.loads((BOOK / 'results' / f'{name}.json').read_text())['scores']
                    self.assertEqual(-(-found['updates'] // n), scores['epochs'])
                    self.assertEqual((best_epoch + 1) * n, scores['best_iteration'])
                    self.assertAlmostEqual(best, scores['best_validation_error'], places=4)
                    self.assertAlmostEqual(histories[name]['test'][best_epoch],
                                           scores['test_error'], places=4)

    def test_random_numbers_are_uniform_and_normal(self):
        self.load('engine')
        uniform, normal = numpy.array(self.page.evaluate('''() => {
            const rng = new RandomStreams(0);
            const draw = method => Array.from({length: 20000}, () => rng[method]());
            return [draw('uniform'), draw('normal')];
        }'''))
        counts, _ = numpy.histogram(uniform, 10, (0, 1))
        self.assertLess(abs(counts - 2000).max(), 200)
        self.assertLess(abs(numpy.corrcoef(uniform[1:], uniform[:-1])[0, 1]), 0.03)
        for moment, expected in ((1, 0), (2, 1), (3, 0), (4, 3)):
            self.assertAlmostEqual(numpy.mean(normal ** moment), expected, delta=0.2)


class TestFigures(BrowserTestCase):
    """Every figure of the book, on a page of its own, as a reader uses it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.project = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        (cls.project / 'conf.py').write_text(PROJECT)
        (cls.project / 'images').symlink_to(BOOK / 'images')
        names = []
        for chapter in CHAPTERS:
            block = LIVE_DIRECTIVE.search(chapter.read_text(encoding='utf-8'))
            if block:
                names.append(chapter.stem)
                (cls.project / f'{chapter.stem}.rst').write_text(f'{chapter.stem}\n{"=" * 20}\n\n'
                                                                 f'{block[0]}')
        (cls.project / 'index.rst').write_text(
            '\n'.join(['Figures', '=======', '', '.. toctree::', ''] + [f'   {n}' for n in names]))
        build = subprocess.run([sys.executable, '-m', 'sphinx', '-W', '-q', '-b', 'html',
                                cls.project, cls.project / 'html'], capture_output=True, text=True)
        if build.returncode:
            raise AssertionError(build.stderr)

    def open(self, chapter, **settings):
        """The figure of a chapter, when it runs, on a phone in the dark if not said otherwise."""
        settings = {'viewport': {'width': 360, 'height': 700}, 'color_scheme': 'dark', **settings}
        self.page = self.new_page(**settings)
        self.page.goto((self.project / 'html' / f'{chapter}.html').as_uri())
        self.figure = self.page.locator('figure.live')
        self.page.wait_for_selector('figure.live-runs')
        self.assertEqual(self.page.evaluate('document.documentElement.scrollWidth'),
                         settings['viewport']['width'])

    def words(self):
        """What the figure says, once it has done its work."""
        self.page.wait_for_function('nAtWork === 0')
        return self.figure.locator('.live-words').inner_text()

    def move(self, label, value):
        """Move a slider, as the keys do."""
        slider = self.figure.get_by_label(label, exact=True)
        slider.fill(str(value))
        return self.words()

    def draw_a_one(self):
        """Draw an upright stroke with the mouse."""
        pad = self.figure.locator('.live-pad')
        pad.scroll_into_view_if_needed()
        box = pad.bounding_box()
        top, bottom = ((box['x'] + box['width'] / 2, box['y'] + box['height'] * y)
                       for y in (.15, .85))
        self.page.mouse.move(*top)
        self.page.mouse.down()
        self.page.mouse.move(*bottom, steps=8)
        self.page.mouse.up()

    def test_classifiers_see_a_digit(self):
        for chapter in ('logreg', 'mlp', 'SdA'):
            with self.subTest(chapter):
                self.open(chapter)
                self.assertRegex(self.words(), r': 7 \(9')
                self.draw_a_one()
                self.assertRegex(self.words(), r': 1 \(')  # of the first model, at least

    def test_a_digit_is_drawn(self):
        self.open('lenet', viewport={'width': 1280, 'height': 800}, color_scheme='light')
        at_first = self.words()
        self.assertRegex(at_first, r'LeNet: 7 \(>9')
        for label in ('right', 'down', 'turn', 'thicken'):
            self.assertNotEqual(self.move(label, 1 if label == 'thicken' else 5), at_first)
        self.figure.get_by_role('button', name='as it was').click()
        self.assertEqual(self.words(), at_first)
        self.figure.get_by_role('button', name='a test image').click()
        self.assertNotEqual(self.words(), at_first)
        self.assertIn('a 2', self.figure.inner_text())

        self.draw_a_one()
        self.assertRegex(self.words(), r'LeNet: 1 \(')
        self.assertIn('your drawing', self.figure.inner_text())
        self.figure.get_by_role('button', name='clear').click()
        self.figure.locator('.live-pad').focus()
        for key in [' ', *['ArrowDown'] * 16, ' ']:
            self.page.keyboard.press(key)
        self.assertRegex(self.words(), r'LeNet: 1 \(')
        self.assertIn('lenet', self.page.url)  # the arrows have not turned the page

    def test_a_ball_is_rolled(self):
        self.open('hmc')
        self.assertEqual(self.words(), 'Roll the ball.')
        for button in ('one move', '100 moves'):
            self.figure.get_by_role('button', name=button).click()
        self.assertRegex(self.words(), 'Move 101: .* accepted; (9.|100) % accepted so far')
        for label, value in (('mass', 4), ('steps', 40)):
            self.move(label, value)
        self.figure.get_by_role('button', name='start again').click()
        self.move('mass', 1)
        self.move('step size', 0.9)  # above the limit, which is 0.775
        self.figure.get_by_role('button', name='100 moves').click()
        self.assertRegex(self.words(), 'rejected; 0 % accepted so far')
        for landscape in ('ring', 'modes', 'gaussian'):
            self.figure.get_by_label('landscape', exact=True).select_option(landscape)
            self.figure.get_by_role('button', name='one move').click()
            self.assertIn('Move 1:', self.words())
        self.move('steps', 2)
        self.figure.get_by_role('button', name='play').click()
        self.page.wait_for_function("document.querySelector('.live-words').textContent"
                                    ".startsWith('Move 3')")
        self.figure.get_by_role('button', name='pause').click()

    def test_chains_are_run(self):
        self.open('rbm')
        self.assertEqual(self.words(), 'After 0 steps; CD-1 shows a 7; PCD-15 shows a 7')
        self.figure.get_by_role('button', name='one step').click()
        self.assertIn('After 1 steps', self.words())
        self.figure.get_by_label('erase').select_option('lower')
        self.assertIn('After 0 steps', self.words())
        self.move('steps a frame', 5)
        self.figure.get_by_label('hold the other half').uncheck()
        self.figure.get_by_role('button', name='run').click()
        self.page.wait_for_function(
            "Number(document.querySelector('.live-words').textContent.match(/\\d+/)[0]) > 20")
        self.figure.get_by_role('button', name='pause').click()
        self.assertEqual(self.words(), self.words())
        shares = re.findall(r'([\d.]+) %', self.figure.locator('table').inner_text())
        self.assertAlmostEqual(sum(map(float, shares)), 200, delta=1)
        self.figure.get_by_role('button', name='a test image').click()
        self.assertIn('After 0 steps', self.words())

    def test_training_is_stopped(self):
        self.open('gettingstarted')
        self.assertRegex(self.words(), 'after update 6,141, in epoch 74. .* 7.50 %, in epoch 73; '
                                       'test error of that model 7.49 %')
        self.assertIn('in epoch 61', self.move('threshold', 0.99))
        self.figure.get_by_label('run').select_option('mlp')
        whole = self.words()
        self.assertIn('would go on after epoch 1000', whole)
        self.assertNotEqual(self.move('threshold', 0.99), whole)
        self.assertNotEqual(self.move('patience', 1000000), whole)

    def test_a_digit_is_restored(self):
        self.open('dA')

        def costs():
            return list(map(float, re.findall(r', ([\d.]+)', self.words())))

        self.assertEqual(costs(), sorted(costs(), reverse=True))  # with corruption is better
        self.move('damage', 0)
        whole = costs()
        self.assertEqual(whole, sorted(whole))  # and here it is worse
        units = self.figure.locator('.live-unit')
        units.nth(0).click()
        units.nth(1).press('Enter')
        self.assertEqual(costs()[0], whole[0])
        self.assertNotEqual(costs()[1], whole[1])
        self.figure.get_by_role('button', name='all on').click()
        self.assertEqual(costs(), whole)
        self.figure.get_by_label('model', exact=True).select_option('dA_0')
        units.nth(0).click()
        self.assertNotEqual(costs()[0], whole[0])
        self.move('damage', 0.5)
        half = costs()
        self.figure.get_by_role('button', name='other pixels').click()
        self.assertNotEqual(costs(), half)

    def test_an_image_is_moved(self):
        self.open('cA')
        at_first = self.words()
        contractive, plain = map(float, re.findall(r', ([\d.]+)', at_first))
        self.assertLess(contractive, plain)
        self.assertNotEqual(self.move('turn', 20), at_first)

    def test_partition_functions_are_estimated(self):
        self.open('likelihood')

        def estimated():
            self.figure.get_by_role('button', name='estimate').click()
            self.page.wait_for_function("document.querySelector('.live-words').textContent"
                                        ".includes('20 chains')")
            value, exact = re.fullmatch(r'.* about ([\d.]+) .* exactly, ([\d.]+)',
                                        self.words()).groups()
            return float(value), float(exact)

        errors = []
        for index in (1, 3, 5):  # 3, 30 and 300 temperatures
            self.move('temperatures', index)
            value, exact = estimated()
            errors.append(exact - value)
        self.assertGreater(errors[0], errors[1])
        self.assertGreater(errors[1], errors[2])
        self.assertLess(errors[2], 3)
        self.figure.get_by_label('model').select_option('trap')
        self.assertEqual(self.words(), 'log Z is 40.18, summed exactly.')
        value, exact = estimated()
        self.assertAlmostEqual(value, 27.7, delta=0.3)
        self.move('chains', 3)
        self.figure.get_by_role('button', name='estimate').click()
        self.assertIn('3 chains', self.words())

    def test_a_network_draws(self):
        self.open('DBN', reduced_motion='reduce')  # a picture a second
        self.assertIn('After 0 steps at the top: the image is taken for a 7', self.words())
        self.figure.get_by_role('button', name='one step').click()
        self.assertIn('After 1 steps', self.words())
        self.figure.get_by_role('button', name='from noise').click()
        self.assertIn('After 0 steps', self.words())
        self.move('steps a frame', 5)
        self.figure.get_by_role('button', name='run').click()
        self.page.wait_for_function(
            "Number(document.querySelector('.live-words').textContent.match(/\\d+/)[0]) > 5")
        self.figure.get_by_role('button', name='pause').click()
        self.figure.get_by_role('button', name='from the image').click()
        self.assertIn('After 0 steps at the top: the image is taken for a 7', self.words())

    def test_tunes_are_played_and_made_up(self):
        self.open('rnnrbm')
        self.assertIn('a training tune: 200 frames of 0.3 s', self.words())
        cursor = self.figure.get_by_label('cursor')
        self.move('cursor', 100)
        play = self.figure.get_by_role('button', name='play', exact=True)
        play.click()
        self.page.wait_for_function("document.querySelector('input[type=range]').value > 101")
        self.figure.get_by_role('button', name='pause').click()
        self.move('cursor', 50)
        go_on = self.figure.get_by_role('button', name='go on with it')
        go_on.click()
        self.page.wait_for_function("document.querySelector('.live-words').textContent"
                                    ".includes('50 frames were given, and 100 are made up')")
        self.assertEqual(cursor.input_value(), '50')
        self.figure.get_by_label('tune', exact=True).select_option(index=2)
        self.assertIn('made up after', self.words())
        self.assertEqual(cursor.input_value(), '0')

        keys = self.figure.locator('.live-piano button')
        keys.nth(4).click()
        self.page.keyboard.press('g')
        self.assertIn('your melody: 4 frames', self.words())
        play.click()
        self.page.wait_for_function("document.querySelector('input[type=range]').value == 4")
        play.wait_for()  # it has come to its end
        go_on.click()
        self.page.wait_for_function("document.querySelector('.live-words').textContent"
                                    ".includes('4 frames were given')")
        self.figure.get_by_role('button', name='clear your melody').click()
        self.assertIn('Play some keys', self.words())

    def test_lenet_reads_digits_of_many_hands(self):
        self.open('lenet')
        found = self.page.evaluate("""async strokes => {
            const lenet = await load('convolutional_mlp'), found = [];
            for (const lines of strokes) {
                const ink = new Float32Array(PAD ** 2);
                for (const line of lines) {
                    line.slice(1).forEach((place, i) => drawLine(ink, line[i], place));
                }
                const {p_y_given_x} = await inFrames(lenet.outputs(imageOf(ink, PAD)));
                found.push(argmax(p_y_given_x));
            }
            return found;
        }""", [strokes for label in range(10) for strokes in handwritten(label, n=10)])
        wrong = [(i // 10, label) for i, label in enumerate(found) if label != i // 10]
        self.assertLessEqual(len(wrong), 5, wrong)

    def test_a_digit_is_drawn_with_a_finger_and_nothing_blocks(self):
        self.open('lenet', has_touch=True)
        self.page.evaluate("""() => {
            globalThis.blocked = [];
            new PerformanceObserver(list => blocked.push(...list.getEntries().map(
                entry => entry.duration))).observe({type: 'longtask'});
        }""")
        pad = self.figure.locator('.live-pad')
        pad.scroll_into_view_if_needed()
        taps = []  # what took 50 ms or more at each: on a busy machine it may be another process
        while not taps or (taps[-1] and len(taps) < 5):
            self.page.evaluate('blocked.length = 0')
            pad.tap()
            self.assertIn('your drawing', self.figure.inner_text())
            self.words()
            taps.append(self.page.evaluate('blocked'))
        self.assertEqual(taps[-1], [], taps)

    def test_without_scripts_and_on_paper_there_is_a_picture(self):
        page = self.new_page(java_script_enabled=False)
        page.goto((self.project / 'html' / 'lenet.html').as_uri())
        self.assertTrue(page.locator('figure.live img').is_visible())
        self.open('lenet')
        picture, stage = (self.figure.locator(name) for name in ('img', '.live-stage'))
        self.assertEqual((picture.is_visible(), stage.is_visible()), (False, True))
        self.page.emulate_media(media='print')
        self.assertEqual((picture.is_visible(), stage.is_visible()), (True, False))

    def test_no_page_loads_weights_that_it_does_not_use(self):
        for path in self.project.glob('*.rst'):
            named = set(' '.join(re.findall(r':weights: (.*)', path.read_text())).split())
            html = (self.project / 'html' / f'{path.stem}.html').read_text(encoding='utf-8')
            self.assertEqual(set(re.findall(r'_static/weights/(\w+)\.js', html)), named)
            size = sum((LIVE / 'weights' / f'{name}.js').stat().st_size for name in named)
            self.assertLess(size, 1.5e6, path.stem)
        self.assertLess(sum(path.stat().st_size for path in (LIVE / 'weights').iterdir()), 4e6)


# The others need their own figures only, which are tested with the book's models.
QUICK_KINDS = 'convolutional_mlp', 'rbm', 'rnnrbm'


class TestPlayground(BrowserTestCase):
    """Pages of models of one's own: dark on white, of another size, with names that HTML minds."""

    CLASSES = ['<bars>', 'rings & dots']
    TRAINING = {
        'convolutional_mlp': (convolutional_mlp.train, {'n_epochs': 1, 'nkerns': (2, 3)}),
        'dA': (dA.train, {'training_epochs': 1, 'n_hidden': 100}),
        'cA': (cA.train, {'training_epochs': 1, 'n_hidden': 100}),
        'rbm': (rbm.train, {'training_epochs': 1, 'n_hidden': 100, 'k': 1, 'n_chains': 2,
                            'n_samples': 1, 'plot_every': 1}),
        'DBN': (DBN.train, {'pretraining_epochs': 1, 'training_epochs': 1,
                            'hidden_layers_sizes': (8, 6)}),
        'rnnrbm': (rnnrbm.train, {'num_epochs': 1, 'n_hidden': 8, 'n_hidden_recurrent': 5}),
    }

    def write_pictures(self):
        rng = numpy.random.RandomState(0)
        for part, n in (('train', 30), ('valid', 20), ('test', 20)):
            for label, name in enumerate(self.CLASSES):
                folder = self.folder / 'shapes' / part / name
                folder.mkdir(parents=True)
                for i in range(n):
                    pixels = rng.uniform(200, 255, size=(24, 20)).astype('uint8')
                    pixels[4:20, 5 + 5 * label:10] = 0
                    Image.fromarray(pixels).save(folder / f'{i}.png')

    def test_every_kind_of_model(self):
        self.write_pictures()
        write_tunes(self.folder / 'tunes.zip')
        names = self.TRAINING if os.environ.get('DLT_SLOW_TESTS') else QUICK_KINDS
        for name in names:
            train, settings = self.TRAINING[name]
            with self.subTest(name), printed(), contextlib.redirect_stderr(io.StringIO()):
                output = str(self.folder / name)
                data = 'tunes.zip' if name == 'rnnrbm' else 'shapes'
                train(**settings, dataset=self.folder / data, output_folder=output,
                      **({} if name == 'rnnrbm' else {'batch_size': 10}))
                file = playground.playground(output)
                page = self.new_page()
                page.goto(file.as_uri())
                page.wait_for_selector('figure.live')
                n_figures = page.locator('figure.live').count()
                page.locator('figure.live').last.scroll_into_view_if_needed()
                page.wait_for_function(
                    f'document.querySelectorAll("figure.live-runs").length === {n_figures}')
                text = page.inner_text('body')
                if name == 'rnnrbm':
                    self.assertIn('made up by the script', text)
                    continue
                self.assertEqual(page.evaluate('weights.images.classes'), self.CLASSES)
                self.assertEqual(page.evaluate('weights.images.image_shape'), [24, 20])
                drawn = page.evaluate("imageOf(new Float32Array(PAD ** 2), PAD)")
                self.assertEqual(set(drawn), {1})  # white paper
                if name == 'convolutional_mlp':
                    self.assertRegex(text, r'LeNet: (<bars>|rings & dots) \(')

    def test_no_page_for_what_is_no_model(self):
        with self.assertRaisesRegex(UserError, 'there is no .*run.json'):
            playground.playground(str(self.folder))


if __name__ == '__main__':
    unittest.main()
