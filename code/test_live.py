"""Tests of the figures that run in the page: their numbers against the Python, and their handling.

The page is that of a headless Chromium, which is driven by Playwright.
"""

import base64
import functools
import importlib.util
import json
import shutil
import sys
import unittest

from support.testing import CODE_FOLDER, TestCase

import numpy
import pytensor as theano
import pytensor.tensor as T

import logistic_sgd
import predict

BOOK = CODE_FOLDER.parent / 'doc'
sys.path[:0] = [str(BOOK), str(BOOK / 'extensions'), str(CODE_FOLDER / 'hmc')]
CHROMIUM = shutil.which('chromium')
MISSING = [name for name, is_here in (
    ('Playwright', importlib.util.find_spec('playwright')),
    ('Sphinx', importlib.util.find_spec('sphinx')), ('chromium', CHROMIUM)) if not is_here]
# The colours that the theme of the book would give.
COLOURS = '''<style>body { --color-foreground-primary: #000; --color-background-primary: #fff;
--color-brand-primary: #06c; --color-foreground-muted: #888; }</style>'''
# Runs a generator to its end at once; and what any classifier says.
FINISH = '''
const finish = work => {
    for (;;) {
        const {done, value} = work.next();
        if (done) return value;
    }
};
const p_y_given_x = (model, x) => model.outputs ? finish(model.outputs(x)).p_y_given_x
                                                : model.p_y_given_x(x);
'''


def setUpModule():
    """Say loudly what is missing."""
    if MISSING:
        print(f'NOT TESTED: the figures that run in the page, for want of {", ".join(MISSING)}',
              file=sys.stderr)


@functools.cache
def browser():
    """One for all tests, until the end of the process."""
    from playwright.sync_api import sync_playwright
    playwright = sync_playwright().start()
    unittest.addModuleCleanup(playwright.stop)
    started = playwright.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
    unittest.addModuleCleanup(started.close)
    return started


@unittest.skipIf(MISSING, f'needs {", ".join(MISSING)}')
class LiveTestCase(TestCase):
    """Tests in a page of their own, with no error in its console."""

    def open(self, figure, models='', **options):
        """Open a page with one figure, as the book would make it."""
        from book import live_scripts
        scripts = ''.join(f'<script defer src="{(BOOK / "live" / name).as_uri()}"></script>'
                          for name in live_scripts(figure, models))
        css = (BOOK / 'static' / 'book.css').as_uri()
        path = self.folder / 'page.html'
        path.write_text(f'<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="{css}">'
                        f'{COLOURS}{scripts}<body><figure><div class="live" data-figure="{figure}" '
                        f'data-models="{models}"></div></figure>')
        page = browser().new_page(**options)
        self.addCleanup(page.close)
        errors = []
        page.on('pageerror', lambda error: errors.append(str(error)))
        page.on('console', lambda message: errors.append(message.text))
        self.addCleanup(lambda: self.assertEqual(errors, []))
        page.goto(path.as_uri())
        return page

    def move(self, page, label, value):
        """Move the slider of this label."""
        page.get_by_label(label, exact=False).fill(str(value))


def stored_digits():
    """Images, (n, 784), and labels of those in the page."""
    import live
    content = live.read_weights('digits')
    images = numpy.frombuffer(base64.b64decode(content['images']), 'uint8') / 256
    return images.reshape(-1, 784).astype('float32'), numpy.array(content['labels'])


class TestClassifiers(LiveTestCase):
    def test_probabilities_are_those_of_the_python(self):
        import live
        images, labels = stored_digits()
        for name in ('logistic_sgd', 'mlp', 'convolutional_mlp'):
            with self.subTest(name):
                classifier = predict.BUILDERS[name](**live.read_weights(name)['sizes'])
                for param, array in zip(classifier.params, live.parameters(name), strict=True):
                    param.set_value(array)
                expected = numpy.asarray(logistic_sgd.get_p_y_given_x(classifier)(images))
                page = self.open('classify', name)
                got = page.evaluate(FINISH + '''name => {
                    const model = finish(load(name));
                    return storedDigits().map(({image}) => Array.from(p_y_given_x(model, image)));
                }''', name)
                numpy.testing.assert_allclose(got, expected, atol=1e-5)
                self.assertLess(numpy.mean(expected.argmax(axis=1) != labels), .1)

    def test_lenet_bears_a_move_of_three_pixels_as_the_book_says(self):
        names = ['logistic_sgd', 'mlp', 'convolutional_mlp']
        page = self.open('classify', ' '.join(names))
        templates, mlp, lenet = page.evaluate(FINISH + '''names => names.map(name => {
            const model = finish(load(name));
            const move = {right: 3, down: 0, degrees: 0, thicker: 0};
            return storedDigits().filter(({label, image}) => label === argmax(
                p_y_given_x(model, moved(image, move)))).length;
        })''', names)
        self.assertLess(max(templates, mlp), 20)
        self.assertGreater(lenet, 23)


class TestDigits(LiveTestCase):
    """What is drawn becomes an image as those of MNIST."""

    def setUp(self):
        super().setUp()
        self.page = self.open('classify', 'logistic_sgd')

    def test_drawing_fits_20_pixels_and_is_centred(self):
        for strokes in ([[[10, 20], [180, 40], [60, 90]]], [[[5, 5], [5, 9]], [[7, 5], [9, 9]]],
                        [[[100, 100]]]):
            with self.subTest(strokes=strokes):
                image = numpy.array(list(self.page.evaluate(
                    'strokes => Array.from(prepared(strokes))', strokes))).reshape(28, 28)
                rows, columns = numpy.nonzero(image > .5)
                side = max(numpy.ptp(rows), numpy.ptp(columns)) + 1
                if len(strokes[0]) > 1:
                    self.assertIn(side, (19, 20, 21))
                places = numpy.arange(28) + .5
                for axis in (0, 1):
                    mean = (image.sum(axis=1 - axis) * places).sum() / image.sum()
                    self.assertAlmostEqual(mean, 14, delta=.1)

    def test_moving(self):
        image = stored_digits()[0][0].reshape(28, 28)
        still = {'right': 0, 'down': 0, 'degrees': 0, 'thicker': 0}
        for change, expected in (
                ({}, image), ({'right': 2}, numpy.roll(image, 2, axis=1)),
                ({'down': -1}, numpy.roll(image, -1, axis=0)),
                ({'right': .5}, (image + numpy.roll(image, 1, axis=1)) / 2),
                ({'degrees': 90}, numpy.rot90(image, -1)),
                ({'thicker': 1}, numpy.max([image, *(numpy.roll(image, shift, axis) for shift, axis
                                                     in ((1, 0), (-1, 0), (1, 1), (-1, 1)))], 0))):
            with self.subTest(change=change):
                got = self.page.evaluate(
                    '([image, change]) => Array.from(moved(image, change))',
                    [image.ravel().tolist(), still | change])
                numpy.testing.assert_allclose(numpy.reshape(got, (28, 28)), expected, atol=1e-6)


class TestClassifyFigure(LiveTestCase):
    def answers(self, page):
        return [page.locator('.live-model strong').nth(i).inner_text() for i in range(3)]

    def setUp(self):
        super().setUp()
        self.page = self.open('classify', 'logistic_sgd mlp convolutional_mlp',
                              viewport={'width': 360, 'height': 800})
        self.settle()

    def settle(self):
        """Wait until every model has answered."""
        self.page.wait_for_selector('.live[aria-busy=false]')

    def test_drawing_by_mouse(self):
        x, y, side = (self.page.locator('.live-pad').bounding_box()[key]
                      for key in ('x', 'y', 'width'))
        self.page.mouse.move(x + .55 * side, y + .1 * side)
        self.page.mouse.down()
        self.page.mouse.move(x + .45 * side, y + .9 * side, steps=8)
        self.page.mouse.up()
        self.settle()
        self.assertEqual(self.answers(self.page)[1:], ['1', '1'])
        self.page.get_by_role('button', name='clear').click()
        self.settle()
        self.assertEqual(self.answers(self.page), ['–', '–', '–'])

    def test_drawing_by_keys(self):
        self.page.evaluate('''() => {
            window.turned = [];
            document.addEventListener('keydown', event => turned.push(event.key));
        }''')
        pad = self.page.locator('.live-pad')
        pad.press(' ')
        for _ in range(25):
            pad.press('ArrowDown')
        pad.press(' ')
        self.settle()
        self.assertEqual(self.answers(self.page)[1:], ['1', '1'])
        # The book would turn its pages by these.
        self.assertEqual(self.page.evaluate('window.turned'), [])
        pad.press('Delete')
        self.settle()
        self.assertEqual(self.answers(self.page), ['–', '–', '–'])

    def test_test_images_and_sliders(self):
        _, labels = stored_digits()
        self.assertIn(f'a {labels[0]}.', self.page.locator('.live-said').inner_text())
        self.assertEqual(self.answers(self.page), [str(labels[0])] * 3)
        shares = self.page.locator('.live-model').nth(0).inner_text()
        maps = 'document.querySelector(".live-maps").toDataURL()'
        before = self.page.evaluate(maps)
        for label, value in (('to the right', 4), ('down', 3), ('turned', 40), ('thicker', .5)):
            self.move(self.page, label, value)
            self.settle()
            after = self.page.evaluate(maps)
            self.assertNotEqual(after, before, label)
            before = after
        self.assertNotEqual(self.page.locator('.live-model').nth(0).inner_text(), shares)
        self.page.get_by_role('button', name='back').click()
        self.settle()
        self.assertEqual(self.page.locator('.live-model').nth(0).inner_text(), shares)

    def test_page_is_no_wider_than_a_phone(self):
        self.assertLessEqual(self.page.evaluate('document.documentElement.scrollWidth'), 360)

    def test_no_piece_of_work_is_longer_than_a_frame(self):
        longest = self.page.evaluate('''() => {
            const times = [];
            const timed = work => {
                for (;;) {
                    const start = performance.now();
                    const {done, value} = work.next();
                    times.push(performance.now() - start);
                    if (done) return value;
                }
            };
            for (const name of ['mlp', 'convolutional_mlp']) {
                const [model, {image}] = [timed(load(name)), storedDigits()[0]];
                if (model.outputs) timed(model.outputs(image));
            }
            return times.sort((a, b) => a - b).at(Math.floor(times.length * .9));
        }''')
        self.assertLess(longest, 16)


def energies_of_the_page():
    """The energy functions of the figure as graphs."""
    import gaussian

    def ring(pos):
        return (T.sqrt(T.sum(pos ** 2, axis=1)) - 1.8) ** 2 / (2 * .3 ** 2)

    def modes(pos):
        x, y = pos[:, 0], pos[:, 1]
        return -T.log((T.exp(-((x + 1.5) ** 2 + y ** 2) / .5)
                       + T.exp(-((x - 1.5) ** 2 + y ** 2) / .5)) / 2)

    covariance = numpy.array([[1, .85], [.85, 1]])
    return {'gaussian': gaussian.gaussian_energy(numpy.zeros(2), covariance), 'ring': ring,
            'modes': modes}


class TestHMC(LiveTestCase):
    def test_moves_are_those_of_the_python(self):
        import hmc
        page = self.open('trajectories')
        pos, vel = T.matrix('pos'), T.matrix('vel')
        starts = numpy.array([[-1.5, -1.1], [.2, 1.9], [1.4, .3]], 'float32')
        pushes = numpy.array([[.5, -.7], [-1.2, .1], [2.1, .4]], 'float32')
        for name, energy in energies_of_the_page().items():
            end = hmc.simulate_dynamics(pos, vel, .1, 12, energy)
            python = theano.function([pos, vel], [*end, hmc.hamiltonian(pos, vel, energy),
                                                  hmc.hamiltonian(*end, energy)])
            ends, speeds, before, after = map(numpy.asarray, python(starts, pushes))
            for chain in range(3):
                for uniform in (.01, .5, .999999):
                    with self.subTest(name, chain=chain, uniform=uniform):
                        got = page.evaluate('''([name, pos, vel, uniform]) => {
                            const given = [...vel];
                            const rng = {normal: () => given.shift(), uniform: () => uniform};
                            return hmc_move(rng, pos, ENERGIES[name], .1, 12, 1);
                        }''', [name, starts[chain].tolist(), pushes[chain].tolist(), uniform])
                        numpy.testing.assert_allclose(
                            got['path'][-1], [ends[chain], speeds[chain]], atol=2e-4)
                        numpy.testing.assert_allclose(
                            [got['energies'][0], got['energies'][-1]],
                            [before[chain], after[chain]], atol=2e-4)
                        self.assertEqual(got['accept'],
                                         bool(uniform < numpy.exp(before[chain] - after[chain])))

    def test_mass_is_another_unit_of_time(self):
        page = self.open('trajectories')
        light, heavy = page.evaluate('''() => [[1, .2], [4, .4]].map(([mass, stepsize]) =>
            simulate_dynamics([1, 0], [.6 / Math.sqrt(mass), .2 / Math.sqrt(mass)], stepsize, 9,
                              ENERGIES.ring, mass).map(([pos]) => pos))''')
        numpy.testing.assert_allclose(light, heavy, atol=1e-9)

    def test_leapfrog_is_stable_as_far_as_the_book_says(self):
        page = self.open('trajectories')
        errors = page.evaluate('''() => [[1, .76], [1, .79], [4, 1.52], [4, 1.58]].map(
            ([mass, stepsize]) => simulate_dynamics([1, -1], [0, 0], stepsize, 200,
                                                    ENERGIES.gaussian, mass)
                .map(([pos, vel]) => hamiltonian(pos, vel, ENERGIES.gaussian, mass)).at(-1))''')
        self.assertLess(max(errors[0], errors[2]), 1e3)
        self.assertGreater(min(errors[1], errors[3]), 1e9)

    def test_both_chains_have_the_moments_of_the_gaussian(self):
        page = self.open('trajectories')
        for sampler in ('hmc_move(rng, pos, ENERGIES.gaussian, .3, 8, 1)',
                        'random_walk_move(rng, pos, ENERGIES.gaussian, .9, 1)'):
            samples = numpy.array(page.evaluate('''() => {
                const rng = new RandomStreams(5);
                let pos = [0, 0];
                return [...Array(20000).keys()].map(() => {
                    const {path, end, accept} = ''' + sampler + ''';
                    if (accept) pos = end ?? path.at(-1)[0];
                    return pos;
                });
            }'''))
            numpy.testing.assert_allclose(samples.mean(axis=0), 0, atol=.1)
            numpy.testing.assert_allclose(numpy.cov(samples.T), [[1, .85], [.85, 1]], atol=.1)

    def test_figure(self):
        for motion in ('no-preference', 'reduce'):
            with self.subTest(motion):
                page = self.open('trajectories', viewport={'width': 360, 'height': 900},
                                 reduced_motion=motion)
                said = page.locator('.live-said').first
                self.assertEqual(said.inner_text(), 'no move yet')
                page.get_by_role('button', name='one move').click()
                self.assertIn('1 moves', said.inner_text())
                page.get_by_role('button', name='100 moves').click()
                self.assertRegex(said.inner_text(), r'101 moves, (9\d|100) % accepted')
                page.get_by_role('button', name='play').click()
                page.wait_for_function('!document.querySelector(".live-said").textContent'
                                       '.startsWith("101 moves")')
                page.get_by_role('button', name='pause').click()
                for label, value in (('step size', 1), ('steps', 30), ('mass', 1)):
                    page.get_by_label(label).fill(str(value))
                page.get_by_role('button', name='100 moves').click()
                self.assertRegex(said.inner_text(), '100 moves, 0 % accepted')
                for energy in ('ring', 'modes'):
                    page.locator('select').select_option(energy)
                    self.assertEqual(said.inner_text(), 'no move yet')
                    page.get_by_role('button', name='one move').click()
                self.assertLessEqual(page.evaluate('document.documentElement.scrollWidth'), 360)


def pseudo_code_of_the_book(validations, patience, patience_increase, improvement_threshold):
    """The rule of the chapter, update by update: best iteration, updates made, and its end."""
    errors = {updates: error for updates, error, _ in validations}
    best, best_iteration = numpy.inf, 0
    for iteration in range(max(errors)):
        error = errors.get(iteration + 1, numpy.inf)
        if error < best:
            if error < best * improvement_threshold:
                patience = max(patience, iteration * patience_increase)
            best, best_iteration = error, iteration + 1
        if patience <= iteration:
            return best_iteration, iteration + 1, True
    return best_iteration, max(errors), False


class TestEarlyStopping(LiveTestCase):
    PLAY = '''([name, settings]) => {
        const {best, updates, hasStopped} = early_stopping(weights.histories[name], settings);
        return [best[0], updates, hasStopped, best[2]];
    }'''

    def test_rule_is_that_of_the_book(self):
        import live
        page = self.open('early_stopping')
        histories = live.read_weights('histories')
        stopped = set()
        for name in ('logistic_sgd', 'convolutional_mlp'):
            for patience in (250, 777.5, 3000, 5000):
                for increase, threshold in ((1, .995), (1.5, .99), (2, .995), (2, 1), (3, .9)):
                    settings = {'patience': patience, 'patience_increase': increase,
                                'improvement_threshold': threshold}
                    with self.subTest(name, **settings):
                        expected = pseudo_code_of_the_book(histories[name]['validations'],
                                                           **settings)
                        *got, _ = page.evaluate(self.PLAY, [name, settings])
                        if expected[2] or not got[2]:
                            self.assertEqual(tuple(got), expected)
                        else:  # stopped after the last validation on record, before the next one
                            self.assertEqual(got[0], expected[0])
                            self.assertGreater(got[1], expected[1])
                        stopped.add(got[2])
        self.assertEqual(stopped, {True, False})

    def test_scripts_settings_give_what_is_on_record(self):
        import live
        page = self.open('early_stopping')
        for name, patience in live.HISTORIES.items():
            with self.subTest(name):
                scores = json.loads((BOOK / 'results' / f'{name}.json').read_text())['scores']
                best, updates, _, test_error = page.evaluate(self.PLAY, [name, {
                    'patience': patience, 'patience_increase': 2, 'improvement_threshold': .995}])
                n_train_batches = live.read_weights('histories')[name]['n_train_batches']
                self.assertEqual(best, scores['best_iteration'])
                self.assertAlmostEqual(test_error, scores['test_error'], places=6)
                self.assertEqual(-(-updates // n_train_batches), scores['epochs'])

    def test_figure(self):
        page = self.open('early_stopping', viewport={'width': 360, 'height': 900})
        said = page.locator('.live-said')
        self.assertIn('epoch 820', said.inner_text())
        page.get_by_label('increase').fill('1')
        self.assertIn('Stops after 10,001 updates', said.inner_text())
        self.assertIn('validation error 7.60 %', said.inner_text())  # as the answer says
        page.get_by_label('patience').fill('20000')
        self.assertIn('Stops after 20,001 updates', said.inner_text())
        page.get_by_role('button', name='as in the script').click()
        self.assertIn('epoch 820', said.inner_text())
        page.locator('select').select_option('logistic_sgd')
        self.assertIn('in epoch 74', said.inner_text())
        page.get_by_label('threshold').fill('1')
        self.assertIn('Does not stop', said.inner_text())
        self.assertLessEqual(page.evaluate('document.documentElement.scrollWidth'), 360)
