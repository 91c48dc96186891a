"""Make the figures and records of the book from finished runs: ``python doc/figures.py FOLDER``.

The folder holds the output folders of the scripts under their own names, as ``code/reproduce.py``
leaves them, or whoever starts them there: ``mlp_output``, ``rbm_plots`` and so on; and
``rbm_cd1``, ``rbm_pcd15``, ``rbm_cd25`` and ``rnnrbm_best``, of commands in the chapters.
What is missing there is left as it is; MNIST is found as by the scripts. Without a folder, only the
figures are drawn that need none: the curves, from the histories in ``results``, and what a script
computes in seconds.
"""

import csv
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'code'))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'code' / 'hmc'))

from support import checkpoints, datasets
from support.checkpoints import load_arrays
from support.tiles import save_picture, tile_raster_images

import experiments
import matplotlib
import numpy
import pytensor as theano
import pytensor.tensor as T
import records
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

import ais
import convolution_demo
import dA
import gaussian
import hmc
import stacked
from rbm import RBM

HERE = Path(__file__).resolve().parent
IMAGES, RESULTS = HERE / 'images', HERE / 'results'
BLUE, ORANGE, GREY = '#3a6ea5', '#c8642b', '#8a97a3'

# Pictures that the scripts themselves have drawn.
PICTURES = {'filters_corruption_0.png': 'dA_plots/filters_corruption_0.png',
            'filters_corruption_30.png': 'dA_plots/filters_corruption_30.png',
            'cae_filters.png': 'cA_plots/cae_filters.png',
            'lenet_filters.png': 'convolutional_mlp_output/filters.png',
            'rbm_filters.png': 'rbm_plots/filters_at_epoch_14.png',
            'rbm_samples.png': 'rbm_plots/samples.png',
            'vae_samples.png': 'vae_output/samples.png',
            'rbm_pcd15_samples.png': 'rbm_pcd15/samples.png',
            'piano_roll.png': 'rnnrbm_output/sample1.png',
            'DBN_generative.png': 'DBN_generative/drawn.png'}
# What the old book printed of these curves, by epoch from 1: for the RBM all of it.
OLD_RBM = [-90.65, -81.24, -74.91, -73.02, -68.41, -63.27, -66.00, -68.12, -68.32, -64.29, -61.52,
           -61.65, -63.55, -63.38, -62.76]
OLD_RNNRBM = {1: -15.03, 2: -10.49, 3: -10.24, 4: -10.14, 5: -9.70, 6: -8.60, 7: -8.35, 8: -8.26,
              9: -8.21, 10: -8.17, 200: -4.7}


def keep_pictures(folder: Path) -> None:
    """Copy the pictures that finished runs drew."""
    for name, path in PICTURES.items():
        if (folder / path).exists():
            shutil.copyfile(folder / path, IMAGES / name)
    logistic = folder / 'logistic_sgd_output' / 'model.npz'
    if logistic.exists():
        W = next(array for array in load_arrays(logistic).values() if array.ndim == 2)
        save_picture(IMAGES / 'logreg_filters.png',
                     tile_raster_images(W.T, (28, 28), (2, 5), tile_spacing=(1, 1)))


def draw_data() -> None:
    """The first image of each class in the training sets of MNIST and of the project's digits."""
    rows = []
    for name in ('mnist.pkl.gz', 'digits'):
        data = datasets.read(name)
        images, labels = data.train
        first = [numpy.flatnonzero(labels == label)[0] for label in range(10)]
        rows.append(tile_raster_images(images[first], data.image_shape, (1, 10), (1, 1),
                                       scale_rows_to_unit_interval=False))
    save_picture(IMAGES / 'data.png', numpy.vstack([rows[0], 0 * rows[0][:4], rows[1]]))


def draw_restored(folder: Path) -> None:
    """Test digits, with 30 % of their pixels masked, and as the denoising model restores them."""
    model = checkpoints.load(str(folder / 'dA_plots'), dA.build)
    images, labels = datasets.read('mnist').test
    whole = images[[numpy.flatnonzero(labels == label)[0] for label in range(10)]]
    damaged = whole * (numpy.random.RandomState(0).uniform(size=whole.shape) > 0.3)
    restore = theano.function(
        [model.x], model.get_reconstructed_input(model.get_hidden_values(model.x)))
    restored = numpy.asarray(restore(damaged.astype(whole.dtype)))
    save_picture(IMAGES / 'restored.png', tile_raster_images(
        numpy.concatenate([whole, damaged, restored]), (28, 28), (3, 10), (1, 1),
        scale_rows_to_unit_interval=False))


def draw_exciting(folder: Path) -> None:
    """For some units of each layer of the SdA, the test images that excite them most."""
    network = checkpoints.load(str(folder / 'SdA_output'), stacked.build)
    images, _ = datasets.read('mnist').test
    figure = Figure(figsize=(5, 5.7), layout='constrained')
    for i, (panel, layer) in enumerate(zip(figure.subplots(3), network.sigmoid_layers,
                                           strict=True)):
        activities = numpy.asarray(theano.function([network.x], layer.output)(images))
        # Units that are on for some images and off for others, at even distances.
        varied = numpy.flatnonzero(activities.std(axis=0) > 0.2)
        units = varied[numpy.linspace(0, len(varied) - 1, 4).astype(int)]
        best = numpy.argsort(-activities[:, units], axis=0)[:12].T.ravel()
        panel.imshow(tile_raster_images(images[best], (28, 28), (4, 12), (1, 1),
                                        scale_rows_to_unit_interval=False), cmap='gray')
        panel.set(xticks=[], yticks=[], title=f'layer {i}')
    save(figure, 'sda_units')


def draw_walk() -> None:
    """One coordinate of a Gaussian of ten dimensions along two chains, by evaluations."""
    rng = numpy.random.RandomState(3)
    mean, cov = gaussian.gaussian_target(rng, 10)
    start = rng.multivariate_normal(mean, cov, size=1)
    n = 2000
    walk = experiments.random_walk(rng, start, mean, cov, n)
    sampler = hmc.HMC_sampler.new_from_shared_positions(
        hmc.sharedX(start, 'positions'), gaussian.gaussian_energy(mean, cov), 0.1,
        stepsize_max=1., n_steps=20)
    sampler.sample(500)
    moves = sampler.sample(n // 20).positions
    figure = Figure(figsize=(5, 4), layout='constrained')
    panels = figure.subplots(2, sharex=True, sharey=True)
    panels[0].plot(range(20, n + 1, 20), moves[:, 0, 0], '.-', color=BLUE, linewidth=0.8)
    panels[1].plot(range(1, n + 1), walk[:, 0, 0], color=ORANGE, linewidth=0.8)
    for panel, title in zip(panels, ('Hybrid Monte Carlo', 'random walk'), strict=True):
        panel.spines[['top', 'right']].set_visible(False)
        panel.set(title=title, ylabel='$s_1$')
    panels[1].set_xlabel('gradients, or energies')
    save(figure, 'hmc_walk')


def draw_overview() -> None:
    """Filters of a dA and samples of an RBM side by side: the picture of the README."""
    pictures = [numpy.asarray(Image.open(IMAGES / name))
                for name in ('filters_corruption_30.png', 'rbm_pcd15_samples.png')]
    height = min(map(len, pictures))
    gap = numpy.full((height, 12), 255, dtype='uint8')
    left, right = (picture[:height] for picture in pictures)
    save_picture(IMAGES / 'overview.png', numpy.hstack([left, gap, right]))


@dataclass
class Curve:
    """A column of a history."""

    epochs: list[float]
    values: list[float]


def curves_of(name: str) -> dict[str, dict[str, Curve]]:
    """The curves of a record, by the part of the run and the column."""
    found: dict = defaultdict(lambda: defaultdict(lambda: Curve([], [])))
    with (RESULTS / f'{name}.csv').open(encoding='utf-8', newline='') as file:
        for row in csv.DictReader(file):
            for column, value in row.items():
                if column not in ('stage', 'epoch', 'minibatch') and value:
                    curve = found[row['stage']][column]
                    curve.epochs.append(float(row['epoch']))
                    curve.values.append(float(value))
    return found


def figure_of(n_panels: int) -> tuple[Figure, Sequence[Axes]]:
    """Panels one above the other, as wide as a phone can show with letters to read."""
    figure = Figure(figsize=(5, 3.2 * n_panels), layout='constrained')
    panels = figure.subplots(n_panels, squeeze=False)[:, 0]
    for panel in panels:
        panel.spines[['top', 'right']].set_visible(False)
        panel.set_xlabel('epoch')
    return figure, panels


def save(figure: Figure, name: str) -> None:
    """Write the SVG, the same bytes for the same figure."""
    with matplotlib.rc_context({'svg.hashsalt': name, 'svg.fonttype': 'path'}):
        figure.savefig(IMAGES / f'{name}.svg', transparent=True,
                       metadata={'Date': None, 'Creator': None})


def draw_errors(name: str) -> None:
    """Validation and test error by epoch, and the pretraining costs if there are any."""
    stages = curves_of(name)
    *pretraining, finetuning = stages
    figure, panels = figure_of(2 if pretraining else 1)
    if pretraining:
        for i, stage in enumerate(pretraining):
            curve = stages[stage]['cost']
            panels[0].plot(curve.epochs, curve.values, '.-', label=f'layer {i}')
        panels[0].set_ylabel('pretraining cost (nats)')
        panels[0].legend(frameon=False)
    errors = stages[finetuning]
    validation, test = errors['validation_error'], errors['test_error']
    panels[-1].plot(validation.epochs, validation.values, color=BLUE, label='validation')
    panels[-1].plot(test.epochs, test.values, '.', color=ORANGE,
                    label='test, at each new best')
    panels[-1].set(ylabel='error (%)', yscale='log')
    panels[-1].yaxis.set_major_formatter('{x:g}')
    panels[-1].yaxis.set_minor_formatter('{x:g}')
    panels[-1].legend(frameon=False)
    save(figure, f'{name}_curves')


def draw_rbm() -> None:
    """The pseudo-likelihood of PCD-15 by epoch, here and in the old book."""
    figure, (panel,) = figure_of(1)
    (columns,) = curves_of('rbm').values()
    curve = columns['cost']
    panel.plot(curve.epochs, curve.values, '.-', color=BLUE, label='measured')
    panel.plot(range(1, 16), OLD_RBM, 'x', color=ORANGE, label='the old book')
    panel.set_ylabel('log pseudo-likelihood (nats)')
    panel.legend(frameon=False)
    save(figure, 'rbm_curve')


def draw_rnnrbm() -> None:
    """The monitor of the RNN-RBM by epoch, here and in the old book."""
    figure, (panel,) = figure_of(1)
    curve = list(curves_of('rnnrbm').values())[-1]['monitor']
    panel.plot(curve.epochs, curve.values, color=BLUE, label='measured')
    panel.plot(list(OLD_RNNRBM), list(OLD_RNNRBM.values()), 'x', color=ORANGE,
               label='the old book')
    panel.set(ylabel='monitor (nats a frame)', xscale='log')
    panel.xaxis.set_major_formatter('{x:g}')
    panel.legend(frameon=False)
    save(figure, 'rnnrbm_curve')


def draw_likelihood_of_tunes() -> None:
    """What the monitor of an RNN-RBM does while the likelihood of other tunes rises."""
    figure, (panel,) = figure_of(1)
    (columns,) = curves_of('rnnrbm_adam').values()
    cost, monitor = columns['validation_cost'], columns['monitor']
    panel.plot(cost.epochs, [-value for value in cost.values], '.-', color=BLUE,
               label='log-likelihood, tunes for validation')
    panel.plot(monitor.epochs, monitor.values, '.-', color=ORANGE, label='monitor')
    panel.set_ylabel('nats a frame')
    panel.legend(frameon=False)
    save(figure, 'rnnrbm_likelihood')


def draw_ways_to_train() -> None:
    """What momentum, Adam, rectifiers and dropout do to the training cost and to the errors."""
    figure, panels = figure_of(2)
    for i, name in enumerate(('the defaults', 'momentum', 'Adam', '… 500, 300 rectifiers',
                              '… dropout 0.2', '… dropout 0.5')):
        (columns,) = curves_of(f'ways_to_train_{i}').values()
        for panel, column in zip(panels, ('cost', 'validation_error'), strict=True):
            curve = columns[column]
            panel.plot(curve.epochs, curve.values, label=name)
    panels[0].set(ylabel='training cost (nats)', ylim=(0, 0.5))
    panels[1].set(ylabel='validation error (%)', ylim=(1.5, 6))
    panels[1].legend(frameon=False)
    save(figure, 'ways_to_train')


def small_rbm() -> RBM:
    """An RBM with random weights whose Z can be summed."""
    rng = numpy.random.RandomState(1)
    rbm = RBM(n_visible=100, n_hidden=12, numpy_rng=rng)
    rbm.W.set_value(rng.normal(0, 1, size=(100, 12)).astype(theano.config.floatX))
    return rbm


def draw_annealing() -> None:
    """How log Z by AIS comes to its exact value as there are more temperatures."""
    rbm = small_rbm()
    numbers = [3, 10, 30, 100, 300, 1000, 3000]
    estimates = [ais.ais_log_partition(rbm, numpy.zeros(100), n_temperatures=n) for n in numbers]
    figure, (panel,) = figure_of(1)
    panel.axhline(ais.exact_log_partition(rbm), color=ORANGE, label='exact')
    panel.plot(numbers, [estimate.value for estimate in estimates], '.-', color=BLUE, label='AIS')
    panel.set(xlabel='temperatures', ylabel='log Z', xscale='log')
    panel.xaxis.set_major_formatter('{x:g}')
    panel.legend(frameon=False)
    save(figure, 'annealing')


def draw_trajectories() -> None:
    """Paths of leapfrog steps over the contours of a Gaussian with correlation."""
    covariance = numpy.array([[1., 0.85], [0.85, 1.]])
    energy = gaussian.gaussian_energy(numpy.zeros(2), covariance)
    position, velocity = T.matrix('position'), T.matrix('velocity')
    leapfrog_step = theano.function(
        [position, velocity], hmc.simulate_dynamics(position, velocity, 0.12, 1, energy))
    rng = numpy.random.RandomState(3)
    figure = Figure(figsize=(5, 4.6), layout='constrained')
    axes = figure.subplots()
    grid = numpy.linspace(-3, 3, 121)
    x, y = numpy.meshgrid(grid, grid)
    points = numpy.stack([x.ravel(), y.ravel()], axis=1)
    heights = 0.5 * numpy.sum(points @ numpy.linalg.inv(covariance) * points, axis=1)
    axes.contour(x, y, heights.reshape(x.shape), levels=[.25, .5, 1, 2, 4, 8], colors=GREY,
                 linewidths=0.7)
    place = numpy.array([[-1.8, -2.2]], dtype=theano.config.floatX)
    for colour in (BLUE, ORANGE, '#3f8f5b', '#7a4fa3'):
        speed = rng.randn(1, 2).astype(theano.config.floatX)
        path = [place[0]]
        for _ in range(20):
            place, speed = map(numpy.asarray, leapfrog_step(place, speed))
            path.append(place[0])
        axes.plot(*zip(*path, strict=True), '.-', color=colour, markersize=4)
        axes.plot(*path[0], 'o', color=colour, markerfacecolor='white', markersize=8)
    axes.set(xlabel='$s_1$', ylabel='$s_2$', aspect='equal')
    save(figure, 'hmc_trajectories')


def main(folder: tyro.conf.Positional[Path | None] = None, elsewhere: str | None = None) -> None:
    """Make the figures of the book, and its records from the runs in a folder.

    :param folder: where the output folders of the scripts are; none to draw only the rest
    :param elsewhere: the runs are from another machine, such as `gpu`: only keep their scores and
        seconds, in the record of that name
    """
    if folder is not None and elsewhere is not None:
        records.keep_elsewhere(folder, elsewhere)
        return
    IMAGES.mkdir(exist_ok=True)
    if folder is not None:
        records.keep_records(folder)
        records.keep_seeds(folder)
        records.keep_memory(folder)
        records.keep_study(folder)
        keep_pictures(folder)
        draw_data()
        for output, draw_model in (('dA_plots', draw_restored), ('SdA_output', draw_exciting)):
            if (folder / output / 'model.npz').exists():
                draw_model(folder)
    for name in ('logistic_sgd', 'logistic_cg', 'mlp', 'convolutional_mlp', 'SdA', 'DBN'):
        if (RESULTS / f'{name}.csv').exists():
            draw_errors(name)
    for name, draw in (('rbm', draw_rbm), ('rnnrbm', draw_rnnrbm),
                       ('rnnrbm_adam', draw_likelihood_of_tunes)):
        if (RESULTS / f'{name}.csv').exists():
            draw()
    draw_ways_to_train()
    draw_overview()
    draw_annealing()
    draw_trajectories()
    draw_walk()
    with tempfile.TemporaryDirectory() as output:  # an output folder holds nothing else
        convolution_demo.edges(output_folder=output)
        shutil.copyfile(Path(output) / 'edges.png', IMAGES / 'edges.png')


if __name__ == '__main__':
    tyro.cli(main)
