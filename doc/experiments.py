"""What the sections "What to try next" of the book have found: ``python doc/experiments.py codes``.

An experiment is a function of a folder and a seed. It returns a table, numbers by row and column.
What it trains lies in the folder, and a run that has finished is not run again: the same command
goes on where it was stopped. ``results/try_codes.json`` has the numbers of all seeds for the book,
where ``.. outcome:: codes`` shows them. Options and figures are those of MNIST.
"""

import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'code'))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'code' / 'hmc'))

from support import checkpoints, command_line, datasets, engine
from support.checkpoints import Run
from support.errors import UserError, check
from support.folders import read_record, write_json

import numpy
import pytensor as theano
import pytensor.tensor as T
import records
import tyro

import ais
import cA
import convolutional_mlp
import DBN
import gaussian
import hmc
import likelihood
import logistic_sgd
import mlp
import rbm
import rnnrbm
import rnnrbm_likelihood
import SdA
import stacked
import vae
from dA import AutoEncoder, dA
from predict import load_classifier

Table = dict[str, dict[str, float]]
Experiment = Callable[[Path, int], Table]


def scores(train: Callable, folder: Path, **settings: Any) -> dict[str, float]:
    """What a run comes to; where it has finished before, what it came to."""
    is_there = (folder / 'run.json').exists()
    if not (is_there and read_record(folder)['status'] == 'finished'):
        train(output_folder=str(folder), resume=is_there, **settings)
    return read_record(folder)['scores']


def errors(found: dict[str, float]) -> dict[str, float]:
    """The columns of a classifier."""
    return {'validation error (%)': found['best_validation_error'],
            'test error (%)': found['test_error']}


def kept(folder: Path, name: str, data: datasets.ImageData) -> str:
    """Write a data set, and return where it is."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f'{name}.npz'
    numpy.savez(path, **{f'{split}_{part}': array for split in datasets.SPLITS
                         for part, array in zip('xy', getattr(data, split), strict=True)})
    return str(path)


def with_images(data: datasets.ImageData, function: Callable) -> datasets.ImageData:
    """A data set whose images are what a function makes of them."""
    return dataclasses.replace(data, **{
        split: (function(images), labels) for split in datasets.SPLITS
        for images, labels in [getattr(data, split)]})


def with_few(data: datasets.ImageData, n: int, seed: int) -> datasets.ImageData:
    """A data set with so many training images, chosen at random."""
    images, labels = data.train
    chosen = numpy.random.RandomState(seed).permutation(len(labels))[:n]
    return dataclasses.replace(data, train=(images[chosen], labels[chosen]))


def number_of_images(folder: Path, seed: int) -> Table:
    """Logistic regression on fewer images."""
    data, table = datasets.read('mnist'), {}
    for n in (500, 2000, 10_000, 50_000):
        path = kept(folder, f'{n}', with_few(data, n, seed))
        table[f'{n:,} images'] = errors(scores(logistic_sgd.train, folder / f'run_{n}', seed=seed,
                                               dataset=path, batch_size=100))
    return table


def shuffled_pixels(folder: Path, seed: int) -> Table:
    """LeNet and an MLP on images whose pixels have changed places, the same in all images."""
    data = datasets.read('mnist')
    order = numpy.random.RandomState(seed).permutation(data.n_in)
    paths = {'pixels in their places': kept(folder, 'whole', data),
             'pixels shuffled': kept(folder, 'shuffled', with_images(data, lambda x: x[:, order]))}
    return {f'{model}, {what}': errors(scores(train, folder / f'{model}_{Path(path).stem}',
                                              dataset=path, n_epochs=20, seed=seed))
            for model, train in (('LeNet', convolutional_mlp.train), ('MLP', mlp.train))
            for what, path in paths.items()}


def hidden_units(folder: Path, seed: int) -> Table:
    """The MLP by the number of its hidden units."""
    return {f'--n-hidden {n}': errors(scores(mlp.train, folder / f'run_{n}', n_hidden=n,
                                             n_epochs=30, dataset='mnist', seed=seed))
            for n in (10, 50, 250, 1000)}


def ways_to_train(folder: Path, seed: int) -> Table:
    """The MLP by other optimisers, with other units and with dropout."""
    adam: dict[str, Any] = {'optimiser': 'adam', 'learning_rate': 0.001}
    larger = adam | {'n_hidden': (500, 300), 'activation': 'relu'}
    rows = {'the defaults': {},
            '--optimiser momentum': {'optimiser': 'momentum'},
            '--optimiser adam --learning-rate 0.001': adam,
            '… --n-hidden 500 300 --activation relu': larger,
            '… --dropout 0.2': larger | {'dropout': 0.2},
            '… --dropout 0.5': larger | {'dropout': 0.5}}
    table = {}
    for i, (row, settings) in enumerate(rows.items()):
        run = folder / f'run_{i}'
        table[row] = errors(scores(mlp.train, run, n_epochs=30, seed=seed, dataset='mnist',
                                   **settings))
        if seed == 1:  # for a figure
            shutil.copyfile(run / 'history.csv', records.RESULTS / f'ways_to_train_{i}.csv')
    return table


def errors_by_code(folder: Path, name: str, data: datasets.ImageData, model: AutoEncoder,
                   seed: int) -> dict[str, float]:
    """How well logistic regression does when it gets the codes of an auto-encoder."""
    encode = theano.function([model.x], model.get_hidden_values(model.x))
    path = kept(folder, name, with_images(data, lambda x: numpy.asarray(encode(x))))
    return errors(scores(logistic_sgd.train, folder / f'run_{name}', dataset=path, n_epochs=200,
                         seed=seed))


def codes(folder: Path, seed: int) -> Table:
    """Logistic regression on the codes of denoising auto-encoders, by level of corruption."""
    data = datasets.read('mnist')
    images = engine.shared_data(data.train[0])
    x, index = T.matrix('x'), T.lscalar('index')
    table = {'pixels': errors(scores(logistic_sgd.train, folder / 'pixels', n_epochs=200,
                                     dataset='mnist', seed=seed))}
    for level in (None, 0., .1, .3, .5, .7, .9):
        model = dA(numpy.random.RandomState(seed), input=x)
        if level is not None:
            cost, updates = model.get_cost_updates(level, learning_rate=0.1)
            step = engine.function([index], cost, updates,
                                   {x: engine.minibatch(images, index, 20)})
            for _ in range(15):
                step.over(range(step.n_minibatches))
        row = 'codes with random weights' if level is None else f'codes, {level:.0%} corruption'
        table[row] = errors_by_code(folder, f'code_{level}', data, model, seed)
    return table


def contraction(folder: Path, seed: int) -> Table:
    """Logistic regression on the codes of contractive auto-encoders, by weight of the penalty."""
    data, table = datasets.read('mnist'), {}
    for level in (0., .1, .5):
        found = scores(cA.train, folder / f'cA_{level}', contraction_level=level, seed=seed,
                       dataset='mnist')
        model = checkpoints.load(str(folder / f'cA_{level}'), cA.build)
        table[f'--contraction-level {level:g}'] = {
            'norm of the Jacobian': found['jacobian_norm'],
            **errors_by_code(folder, f'code_{level}', data, model, seed)}
    return table


def labels(folder: Path, seed: int) -> Table:
    """The stacked auto-encoders with and without pretraining, by number of labels.

    All images are there for pretraining, which needs no label.
    """
    data, table = datasets.read('mnist'), {}
    sizes: dict[str, Any] = {'n_ins': data.n_in, 'hidden_layers_sizes': [1000, 1000, 1000],
                             'n_outs': data.n_classes}

    def network():
        return SdA.SdA(numpy.random.RandomState(seed), corruption_levels=(.1, .2, .3), **sizes)

    def pretrain(**settings):
        everything, sda = logistic_sgd.SharedDataSets(data), network()
        with Run('SdA', settings, everything, sda.params, sizes) as run:
            stacked.pretrain(run, sda, everything[0][0],
                             lambda i, inputs: sda.pretraining_function(i, inputs, 1), 15, 0.001)
            run.keep_model()
            run.finish({})

    scores(pretrain, folder / 'pretrained', overwrite=False)
    for n in (100, 1000, 10_000):
        few = logistic_sgd.SharedDataSets(with_few(data, n, seed))
        for is_pretrained in (False, True):
            def finetune(n=n, few=few, is_pretrained=is_pretrained, **settings):
                sda = network()
                if is_pretrained:
                    saved = checkpoints.load(str(folder / 'pretrained'), stacked.build)
                    for param, value in zip(sda.params, saved.params, strict=True):
                        param.set_value(value.get_value())
                with Run('SdA', settings | {'n': n}, few, sda.params, sizes) as run:
                    stacked.finetune(run, sda, few, n_epochs=1000, lr=0.1, batch_size=1,
                                     patience_epochs=10)
            row = f'{n:,} labels, {"pretrained" if is_pretrained else "from random weights"}'
            table[row] = errors(scores(finetune, folder / f'run_{n}_{is_pretrained}',
                                       overwrite=False))
    return table


def chains_of_contrastive_divergence(folder: Path, seed: int) -> Table:
    """What the likelihood of an RBM owes to its chains, and to a learning rate that falls."""
    rows = {'--no-persistent --k 1': {'k': 1, 'persistent': False},
            '--no-persistent --k 15': {'k': 15, 'persistent': False},
            '--k 1': {'k': 1}, '--k 15': {'k': 15},
            '--k 15 --lr-decay 0.8': {'k': 15, 'lr_decay': 0.8}}
    table = {}
    for i, (row, settings) in enumerate(rows.items()):
        run = folder / f'run_{i}'
        found = scores(rbm.train, run, seed=seed, dataset='mnist', **settings)
        measured = likelihood.log_likelihood(run, 'mnist', n_reverse=200)
        table[row] = {
            'cost while training': found['cost'],
            'by AIS (nats)': measured['log-probability'].value,
            'by reverse AIS (nats)': measured['log-probability of the chosen, reverse AIS'].value}
    return table


def ways_to_a_likelihood(folder: Path, seed: int) -> Table:
    """What becomes of the likelihood of an RBM in 10,000 updates of PCD-1, by what is made of the
    gradient."""
    schedule: dict[str, Any] = {'k': 1, 'batch_size': 100, 'sample_pixels': True, 'lr_decay': 0.8,
                                'training_epochs': 20}
    rows: dict[str, dict[str, Any]] = {
        'none of them': {},
        '--weight-decay 0.0002': {'weight_decay': 0.0002},
        '--optimiser momentum --learning-rate 0.01': {'optimiser': 'momentum',
                                                      'learning_rate': 0.01},
        '--average 2000': {'average': 2000},
        '--centred': {'centred': True},
        '--centred --average 2000': {'centred': True, 'average': 2000}}
    table = {}
    for i, (row, settings) in enumerate(rows.items()):
        run = folder / f'run_{i}'
        scores(rbm.train, run, seed=seed, dataset='mnist', **schedule, **settings)
        measured = likelihood.log_likelihood(run, 'mnist', n_temperatures=5000, n_reverse=0)
        table[row] = {'by AIS (nats)': measured['log-probability'].value}
    return table


def classes_of_chains(folder: Path, seed: int) -> Table:
    """Which digits the chains of the trained RBMs show, as LeNet reads them."""
    scores(convolutional_mlp.train, folder / 'LeNet', n_epochs=20, dataset='mnist', seed=seed)
    classifier, *_ = load_classifier(str(folder / 'LeNet'))
    images, _ = datasets.read('mnist').test
    table = {}
    for row, run in (('CD-1', 'run_0'), ('PCD-15', 'run_3'), ('PCD-15, falling rate', 'run_4')):
        model = checkpoints.load(
            str(folder.parent / f'chains_of_contrastive_divergence_{seed}' / run), rbm.build)
        sampler = rbm.Sampler(model, images[:100])
        read = numpy.array([logistic_sgd.classify(classifier, sampler.advance(1000))
                            for _ in range(20)])  # (n_rows, n_chains)
        counts = numpy.bincount(read[10:].ravel(), minlength=10) / read[10:].size
        table[row] = {'most frequent (%)': 100 * counts.max(),
                      'least frequent (%)': 100 * counts.min(),
                      'changes of class (%)': 100 * float(numpy.mean(read[1:] != read[:-1]))}
    return table


def epochs_of_pretraining(folder: Path, seed: int) -> Table:
    """The deep belief network by epochs of pretraining, and 20 of finetuning."""
    return {f'--pretraining-epochs {n}': errors(scores(
        DBN.train, folder / f'run_{n}', pretraining_epochs=n, training_epochs=20, dataset='mnist',
        seed=seed)) for n in (0, 1, 10)}


def steps_a_move(folder: Path, seed: int) -> Table:
    """Effective samples for a thousand gradients, of Hybrid Monte Carlo and of a random walk."""
    table = {}
    for dim in (2, 10, 50):
        rng = numpy.random.RandomState(seed)
        mean, cov = gaussian.gaussian_target(rng, dim)
        energy = gaussian.gaussian_energy(mean, cov)
        start = rng.multivariate_normal(mean, cov, size=200)
        row = {}
        for n_steps in (5, 20):
            positions = hmc.sharedX(start, 'positions')
            settings: dict[str, Any] = {'n_steps': n_steps, 'stepsize_max': 1., 'seed': seed}
            sampler = hmc.HMC_sampler.new_from_shared_positions(positions, energy, 0.1, **settings)
            sampler.sample(500)
            sampler = hmc.HMC_sampler.new_from_shared_positions(
                positions, energy, float(sampler.stepsize.get_value()), stepsize_inc=1.,
                stepsize_dec=1., **settings)
            row[f'{n_steps} leapfrog steps a move'] = effective(
                sampler.sample(500).positions, cov) / 500 / n_steps * 1000
        walk = random_walk(rng, start, mean, cov, 10_000)
        table[f'{dim} dimensions'] = row | {'random walk': effective(walk, cov) / 10}
    return table


def random_walk(rng: numpy.random.RandomState, start: numpy.ndarray, mean: numpy.ndarray,
                cov: numpy.ndarray, n: int) -> numpy.ndarray:
    """Metropolis with steps of N(0, 2.38^2 / dim), which suit a Gaussian of variances 1 (Roberts,
    Gelman and Gilks, 1997): positions, (n, n_chains, dim)."""
    precision = numpy.linalg.inv(cov)
    length = 2.38 / numpy.sqrt(len(mean)) * numpy.sqrt(numpy.linalg.eigvalsh(cov)[0])

    def energy(position):
        return numpy.einsum('ij,jk,ik->i', position - mean, precision, position - mean) / 2

    positions, here, height = [], start, energy(start)
    for _ in range(n):
        there = here + length * rng.normal(size=here.shape)
        new = energy(there)
        accepted = rng.uniform(size=len(here)) < numpy.exp(height - new)
        here = numpy.where(accepted[:, None], there, here)
        height = numpy.where(accepted, new, height)
        positions.append(here)
    return numpy.array(positions)


def effective(positions: numpy.ndarray, cov: numpy.ndarray) -> float:
    """How many independent draws would give the mean as precisely as a chain has: the variance of
    the target over that of the means of independent chains, both summed over the dimensions.

    :param positions: (n, n_chains, dim)
    """
    means = positions.mean(axis=0, dtype='float64')
    return float(numpy.trace(cov) / numpy.var(means, axis=0, ddof=1).sum())


def start_of_annealing(folder: Path, seed: int) -> Table:
    """log Z of an RBM by two models to start from, and by temperatures."""
    trained = f'chains_of_contrastive_divergence_{seed}'
    model = checkpoints.load(str(folder.parent / trained / 'run_3'), rbm.build)
    base = rbm.base_rate_biases(datasets.read('mnist').train[0])
    return {f'{n:,} temperatures': {
        'from the mean image (nats)': ais.ais_log_partition(model, base, 100, n, seed).value,
        'from even pixels (nats)': ais.ais_log_partition(model, 0 * base, 100, n, seed).value}
        for n in (100, 1000, 10_000)}


def few_tunes(folder: Path, seed: int) -> Table:
    """The RNN-RBM on 120 tunes: ways to train it."""
    adam = {'optimiser': 'adam'}
    return ways_with_tunes(folder, 'tunes', 500, {
        'none': {'num_epochs': 8},
        '--optimiser adam': adam | {'num_epochs': 8},
        '--optimiser adam --num-epochs 48': adam | {'num_epochs': 48},
        '--optimiser adam --augment --num-epochs 4': adam | {'num_epochs': 4, 'augment': True},
    }, k=5, n_hidden=60, n_hidden_recurrent=50, seed=seed)


def chorales(folder: Path, seed: int) -> Table:
    """The RNN-RBM on Bach's chorales, in frames of a crotchet."""
    adam = {'optimiser': 'adam'}
    return ways_with_tunes(folder, 'chorales', 2000, {
        'none': {},
        '--optimiser adam --num-epochs 40': adam | {'num_epochs': 40},
        '--optimiser adam --augment --num-epochs 16': adam | {'num_epochs': 16, 'augment': True},
    }, steps_per_beat=1, seed=seed)


def ways_with_tunes(folder: Path, dataset: str, n_temperatures: int,
                    rows: dict[str, dict[str, Any]], **settings: Any) -> Table:
    """How well tunes are foretold after a training with these settings, and with those of a row."""
    table = {}
    for i, (row, more) in enumerate(rows.items()):
        run = folder / f'run_{i}'
        monitor = scores(rnnrbm.train, run, dataset=dataset, **settings, **more)['monitor']
        found = rnnrbm_likelihood.log_likelihood(str(run), dataset=dataset, n_frames=1000,
                                                 n_temperatures=n_temperatures)
        seconds = read_record(run)['seconds']
        table[row] = {'monitor': monitor, 'nats a frame': found.log_likelihood.value,
                      'accuracy (%)': found.accuracy.value,
                      'minutes': sum(seconds.values()) / 60}
    return table


def size_of_code(folder: Path, seed: int) -> Table:
    """The variational auto-encoder by the size of its code, after 20 epochs."""
    table = {}
    for n in (2, 10, 50):
        found = scores(vae.train, folder / f'run_{n}', n_latent=n, training_epochs=20, seed=seed,
                       dataset='mnist')
        table[f'--n-latent {n}'] = {'lower bound (nats)': found['test_bound'],
                                    'log-likelihood (nats)': found['test_log_likelihood']}
    return table


EXPERIMENTS: dict[str, Experiment] = {function.__name__: function for function in (
    number_of_images, hidden_units, ways_to_train, shuffled_pixels, codes, contraction, labels,
    chains_of_contrastive_divergence, ways_to_a_likelihood, classes_of_chains,
    epochs_of_pretraining, steps_a_move, start_of_annealing, few_tunes, chorales, size_of_code)}


def numbers_of(name: str, folder: Path, seed: int) -> dict[str, Any]:
    """The table of an experiment with a seed, and the minutes that it took."""
    path = folder / f'{name}_{seed}' / 'numbers.json'
    if not path.exists():
        began = time.monotonic()
        table = EXPERIMENTS[name](path.parent, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {'minutes': (time.monotonic() - began) / 60, 'table': table})
    return json.loads(path.read_text(encoding='utf-8'))


def experiments(names: tyro.conf.Positional[tuple[str, ...]], seeds: int = 1,
                folder: Path = Path('experiments')) -> None:
    """Measure what a section "What to try next" tells, and put it on record.

    For example::

        python doc/experiments.py steps_a_move
        python doc/experiments.py codes contraction --seeds 3

    :param names: of experiments
    :param seeds: 1, 2 ... up to this one
    :param folder: for what is trained
    """
    check(1, seeds=seeds)
    for name in names:
        if name not in EXPERIMENTS:
            raise UserError(f'there is no experiment {name}, only {", ".join(EXPERIMENTS)}')
    for name in names:
        found = [numbers_of(name, folder, seed) for seed in range(1, seeds + 1)]
        write_json(records.RESULTS / f'try_{name}.json', {
            'command': f'python doc/experiments.py {name} --seeds {seeds}',
            'minutes': sum(one['minutes'] for one in found),
            'rows': {row: {column: [one['table'][row][column] for one in found]
                           for column in columns}
                     for row, columns in found[0]['table'].items()}})


if __name__ == '__main__':
    command_line.main(experiments)
