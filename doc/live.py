r"""Write the weights of the figures that run in the page: ``python doc/live.py FOLDER``.

The folder holds the output folders of default runs under their own names, as ``code/reproduce.py``
leaves them. All of them together may take 4 MB, so that these are of runs with fewer units::

    rbm.py --n-hidden 250 --output-folder rbm_pcd15
    rbm.py --n-hidden 250 --k 1 --no-persistent --output-folder rbm_cd1
    DBN.py --hidden-layers-sizes 250 250 --pretraining-epochs 20 --training-epochs 0
    SdA.py --hidden-layers-sizes 200 200 --corruption-levels 0.1 0.2 --batch-size 10 \
        --pretrain-lr 0.01 --pretraining-epochs 5 --training-epochs 10
    rnnrbm.py --num-epochs 1 --output-folder rnnrbm_epochs_1
    rnnrbm.py --num-epochs 30 --output-folder rnnrbm_epochs_30

What is missing is left as it was; MNIST is found as by the scripts. Each model becomes a script in
``live/weights``, since a page that was opened from a disk may load scripts and nothing else. Its
numbers are rounded to 8 bits, as base64. (Compressed by gzip, those of the perceptron would be
shorter by 11 %, and those of LeNet by 1 %.) What the rounding costs is measured on the test set and
written into ``results/live.json``; and so is what classifiers make of test images that were moved,
since the chapters speak of it.
"""

import base64
import csv
import functools
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'code'))

from support import command_line, datasets
from support.digits import SIDE
from support.errors import UserError
from support.folders import read_record, write_json, written_atomically

import figures
import numpy
import pytensor as theano
import pytensor.tensor as T
import tyro
from scipy import ndimage
from scipy.special import expit

import logistic_sgd
import playground
import rnnrbm
from playground import Model, as_script, images_of, weights_of

HERE = Path(__file__).resolve().parent
WEIGHTS, RESULTS = HERE / 'live' / 'weights', HERE / 'results'
RECORD = RESULTS / 'live.json'
# Runs of rnnrbm.py after ever more epochs; the last one is the model of the page.
MUSIC = ['rnnrbm_epochs_1', 'rnnrbm_epochs_30', 'rnnrbm_output']
FRAMES = 100  # of a test tune
CROSS = numpy.array([[[0, 1, 0], [1, 1, 1], [0, 1, 0]]])  # a pixel and its neighbours

# What the sliders do to images, (n_images, 28, 28).
MOVES: dict[str, Callable[[numpy.ndarray], numpy.ndarray]] = {
    'shifted by 1': lambda images: ndimage.shift(images, (0, 0, 1), order=1),
    'shifted by 3': lambda images: ndimage.shift(images, (0, 0, 3), order=1),
    'turned by 20': lambda images: ndimage.rotate(images, -20, (1, 2), reshape=False, order=1),
    'thicker by 1': lambda images: ndimage.grey_dilation(images, footprint=CROSS),
    'twice the ink': lambda images: 2 * images,
}

# From images, (n_images, n_pixels), labels, (n_images,), and whether this is the model in the page,
# of which the chapters say more, to how well it does.
Score = Callable[[numpy.ndarray, numpy.ndarray, bool], dict[str, float]]


def write_weights(name: str, content: dict[str, Any]) -> None:
    """Write what becomes ``weights[name]`` in the page."""
    with written_atomically(WEIGHTS / f'{name}.js') as file:
        file.write(as_script(name, content).encode())


def read_weights(name: str) -> dict[str, Any]:
    """What :func:`write_weights` has written."""
    text = (WEIGHTS / f'{name}.js').read_text(encoding='utf-8')
    return json.loads(text.removeprefix(f'weights.{name} = ').removesuffix(';\n'))


def parameters(name: str) -> list[numpy.ndarray]:
    """The arrays of a model as the page knows them, float32."""
    return [(numpy.frombuffer(base64.b64decode(array['int8']), 'int8').reshape(array['shape'])
             * array['scale']).astype('float32') for array in read_weights(name)['params']]


def export(name: str, model: Model, score: Callable[[bool], dict[str, float]]) -> dict[str, Any]:
    """Write a model, and give its parameters the values that the page knows.

    :param score: how well it does, given whether it is the model in the page
    :return: the scores of the model as it was trained, and as it is in the page
    """
    trained = score(False)
    write_weights(name, weights_of(model))
    for param, array in zip(model.params, parameters(name), strict=True):
        param.set_value(array)
    return {'trained': trained, 'live': score(True)}


def score_of_classifier(model: Model) -> Score:
    """Test errors in per cent, also of images that were moved, and the mean of the greatest
    probabilities for them."""
    p_y_given_x = logistic_sgd.get_p_y_given_x(model.model)

    def score(images, labels, is_in_page):
        scores = {}
        moves = MOVES if is_in_page else {}
        for name, move in {'error': lambda images: images, **moves}.items():
            p = p_y_given_x(move(images.reshape(-1, SIDE, SIDE)).reshape(images.shape))
            scores[name] = 100 * numpy.mean(p.argmax(axis=1) != labels)
            scores[f'{name}, certainty'] = 100 * numpy.mean(p.max(axis=1), dtype='float64')
        return scores

    return score


def score_of_machines(model: Model) -> Score:
    """The log-probability in nats of an image, rounded to black and white, given what the layers
    make of it, going up to the top and down again by the means of the units."""
    x = T.matrix('x')
    p = x
    for machine in model.model:
        p = machine.propup(p)[1]
    for machine in reversed(model.model):
        activation, p = machine.propdown(p)
    log_p = theano.function([x], T.mean(T.sum(x * activation - T.softplus(activation), axis=1)))
    return lambda images, labels, is_in_page: {
        'reconstruction': float(log_p((images >= 0.5).astype(theano.config.floatX)))}


def score_of_auto_encoder(model: Model) -> Score:
    """The cost in nats of test images, whole and with 30 % of the pixels put out."""
    seen = T.matrix('seen')
    cost = theano.function([model.model.x, seen], model.model.get_cost(seen))
    floatX = theano.config.floatX

    def score(images, labels, is_in_page):
        kept = numpy.random.RandomState(0).uniform(size=images.shape) < 0.7
        return {'cost': float(cost(images, images)),
                'cost of damaged': float(cost(images, (kept * images).astype(floatX)))}

    return score


@dataclass
class Exhibit:
    """A model for the page.

    :param folder: of the run
    :param load: from there to the model
    :param score: from the model to how well it does, which depends on the values of its parameters
    :param title: how the page calls it, if not as others of its kind
    """

    folder: str
    load: Callable[[Path], Model]
    score: Callable[[Model], Score]
    title: str | None = None


EXHIBITS = {
    **{name: Exhibit(f'{name}_output', playground.load_classifier, score_of_classifier)
       for name in ('logistic_sgd', 'mlp', 'convolutional_mlp', 'SdA')},
    'dA_0': Exhibit('dA_plots', lambda folder: playground.load_auto_encoders(folder)[0],
                    score_of_auto_encoder),
    'dA_30': Exhibit('dA_plots', lambda folder: playground.load_auto_encoders(folder)[1],
                     score_of_auto_encoder),
    'cA': Exhibit('cA_plots', playground.load_contractive_auto_encoder, score_of_auto_encoder),
    'rbm_cd1': Exhibit('rbm_cd1', playground.load_rbm, score_of_machines, 'CD-1'),
    'rbm_pcd15': Exhibit('rbm_pcd15', playground.load_rbm, score_of_machines, 'PCD-15'),
    'DBN': Exhibit('DBN_output', playground.load_dbn, score_of_machines),
}


# Of the histories in ``results``: what the run is called in the page, and the patience with which
# its script begins, in updates, or, as below one thousand, in epochs.
HISTORIES = {'logistic_sgd': ('logistic regression', 5000), 'mlp': ('perceptron', 10000),
             'convolutional_mlp': ('LeNet', 10000), 'SdA': ('SdA, finetuning', 10),
             'DBN': ('DBN, finetuning', 4)}


def history(name: str) -> dict[str, Any]:
    """What early stopping has seen: validation errors by epoch, and, where they were the best so
    far, test errors, in per cent; minibatches in an epoch; and the patience at first, in updates.
    """
    title, patience = HISTORIES[name]
    with (RESULTS / f'{name}.csv').open(encoding='utf-8', newline='') as file:
        rows = [row for row in csv.DictReader(file) if row['validation_error']]
    minibatches = int(rows[-1]['minibatch'])
    return {'title': title, 'minibatches': minibatches,
            'patience': patience if patience >= 1000 else patience * minibatches,
            'validation': [round(float(row['validation_error']), 4) for row in rows],
            'test': [round(float(row['test_error']), 4) if row['test_error'] else None
                     for row in rows]}


def write_small_rbm() -> None:
    """Write the RBM of the figure about annealing, whose Z can be summed."""
    machine = figures.small_rbm()
    sizes = {'n_visible': machine.n_visible, 'n_hidden': machine.n_hidden}
    export('small_rbm', Model('rbm', 'random weights', machine.params, sizes),
           lambda is_in_page: {})


def export_models(folder: Path, found: dict[str, Exhibit]) -> dict[str, dict[str, Any]]:
    """Write the models of images, and some images; return the scores of each."""
    if not found:
        return {}
    data = datasets.read()
    for exhibit in found.values():
        trained = read_record(folder / exhibit.folder)['data']
        if trained['sha256'] != data.sha256:
            raise UserError(f'{folder / exhibit.folder} was trained on {trained["name"]}, and what '
                            f'is here is {data.name}: set DLT_DATA_DIR to the folder that holds '
                            'MNIST, and train it on that')
    write_weights('images', images_of(data))
    scores = {}
    for name, exhibit in found.items():
        model = exhibit.load(folder / exhibit.folder)
        model.title = exhibit.title or model.title
        scores[name] = export(name, model, functools.partial(exhibit.score(model), *data.test))
    return scores


def score_of_music(model: rnnrbm.RnnRbm, rolls: numpy.ndarray) -> float:
    """The log-probability in nats of a frame given what the means of its hidden units know of it.

    :param rolls: (n_tunes, n_frames, n_visible)
    """
    p = {param.name: param.get_value() for param in model.params}
    u = numpy.tile(p.get('u0', 0 * p['bu']), (len(rolls), 1))  # of all tunes, side by side
    log_p = []
    for v in rolls.swapaxes(0, 1):
        h = expit(v @ p['W'] + p['bh'] + u @ p['Wuh'])
        activation = h @ p['W'].T + p['bv'] + u @ p['Wuv']
        log_p.append((v * activation - numpy.logaddexp(0, activation)).sum(axis=1).mean())
        u = numpy.tanh(p['bu'] + v @ p['Wvu'] + u @ p['Wuu'])
    return float(numpy.mean(log_p))


def export_music(folder: Path) -> dict[str, Any]:
    """Write the RNN-RBM, a tune that it has learnt from, and tunes of the model at several ages.

    :return: its scores, on the first frames of some test tunes
    """
    model = playground.load_rnnrbm(folder / MUSIC[-1])
    tunes = datasets.find_tunes()
    run = read_record(folder / MUSIC[-1])
    if run['data']['name'] != tunes.name:
        raise UserError(f'{folder / MUSIC[-1]} was trained on {run["data"]["name"]}, and what is '
                        f'here is {tunes.name}: set DLT_DATA_DIR to the folder that holds it')
    rolls = numpy.array([roll[:FRAMES] for roll in model.model.read(tunes.test)
                         if len(roll) >= FRAMES])
    content = {}
    for name in MUSIC:
        if (folder / name / 'sample1.mid').exists():
            epochs = read_record(folder / name)['scores']['epochs']
            training, sample = playground.tunes_of(model.model, tunes, folder / name).values()
            content['training'] = training
            content[f'epochs_{epochs}'] = {
                **sample, 'title': f'made up after {epochs} epoch{"s"[:epochs > 1]}'}
    write_weights('tunes', content)
    return export('rnnrbm', model, lambda is_in_page: {'frame': score_of_music(model.model, rolls)})


def main(folder: tyro.conf.Positional[Path | None] = None) -> None:
    """Write what the figures know: histories, and the weights from the runs in a folder.

    :param folder: where the output folders of the scripts are; none for what needs no run
    """
    write_weights('histories', {name: history(name) for name in HISTORIES})
    write_small_rbm()
    if folder is None:
        return
    found = {name: model for name, model in EXHIBITS.items()
             if (folder / model.folder / 'run.json').exists()}
    has_music = (folder / MUSIC[-1] / 'run.json').exists()
    if not found and not has_music:
        names = dict.fromkeys([*(model.folder for model in EXHIBITS.values()), MUSIC[-1]])
        raise UserError(f'{folder} holds none of {", ".join(names)}: name the folder in which the '
                        'scripts were run')
    record = json.loads(RECORD.read_text(encoding='utf-8')) if RECORD.exists() else {}
    for name, scores in {**export_models(folder, found),
                         **({'rnnrbm': export_music(folder)} if has_music else {})}.items():
        record[name] = scores
        key, value = next(iter(scores['trained'].items()))
        print(f'{name}, {(WEIGHTS / f"{name}.js").stat().st_size / 1e6:.2f} MB: {key} {value:.2f}, '
              f'in the page {scores["live"][key]:.2f}')
    write_json(RECORD, record)


if __name__ == '__main__':
    command_line.main(main)
