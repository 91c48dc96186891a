"""Write the weights of the figures that run in the page: ``python doc/live.py FOLDER``.

The folder holds the output folders of the scripts under their own names, as ``code/reproduce.py``
leaves them, or whoever starts them there. What is missing there is left as it is; MNIST is found as
by the scripts. Each model becomes a script in ``live/weights``, since a page that was opened from a
disk may load scripts and nothing else. Its numbers are rounded to 8 bits, as base64. (Compressed
by gzip, those of the perceptron would be shorter by 11 %, and those of LeNet by 1 %.) What the
rounding costs is measured on the test set, and written into ``results/live.json``.
"""

import base64
import csv
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'code'))

from support import datasets
from support.errors import UserError
from support.folders import read_record, write_json, written_atomically

import numpy
import tyro
from pytensor.compile.sharedvalue import SharedVariable

import logistic_sgd
import predict

HERE = Path(__file__).resolve().parent
WEIGHTS, RECORD = HERE / 'live' / 'weights', HERE / 'results' / 'live.json'
DIGITS_A_CLASS = 3
# The histories in ``results`` that the page plays with, and the patience that their scripts set.
HISTORIES = {'mlp': 10000, 'logistic_sgd': 5000, 'convolutional_mlp': 10000}

# From images, (n_images, n_pixels), and labels, (n_images,), to how well a model does.
Score = Callable[[numpy.ndarray, numpy.ndarray], float]


def quantised(array: numpy.ndarray) -> tuple[numpy.ndarray, float]:
    """Whole numbers from -127 to 127 in int8, and what one of them is worth."""
    scale = float(abs(array).max()) / 127 or 1.
    return numpy.rint(array / scale).astype('int8'), scale


def in_base64(array: numpy.ndarray) -> str:
    """The bytes of an array as text."""
    return base64.b64encode(array.tobytes()).decode()


def write_weights(name: str, content: dict[str, Any]) -> None:
    """Write what becomes ``weights[name]`` in the page."""
    with written_atomically(WEIGHTS / f'{name}.js') as file:
        file.write(f'weights.{name} = {json.dumps(content)};\n'.encode())


def read_weights(name: str) -> dict[str, Any]:
    """What :func:`write_weights` has written."""
    text = (WEIGHTS / f'{name}.js').read_text(encoding='utf-8')
    return json.loads(text.removeprefix(f'weights.{name} = ').removesuffix(';\n'))


def parameters(name: str) -> list[numpy.ndarray]:
    """The arrays of a model as the page knows them, float32."""
    return [(numpy.frombuffer(base64.b64decode(array['int8']), 'int8').reshape(array['shape'])
             * array['scale']).astype('float32') for array in read_weights(name)['params']]


def export(name: str, sizes: dict[str, Any], params: Sequence[SharedVariable],
           score: Callable[[], float]) -> dict[str, float]:
    """Write the parameters of a model, and give them the values that the page knows.

    :param sizes: what its constructor has to know besides
    :return: the score of the model as it was trained, and as it is in the page
    """
    trained = score()
    arrays = []
    for param in params:
        whole, scale = quantised(param.get_value())
        arrays.append({'shape': whole.shape, 'scale': scale, 'int8': in_base64(whole)})
    write_weights(name, {'sizes': sizes, 'params': arrays})
    for param, array in zip(params, parameters(name), strict=True):
        param.set_value(array)
    return {'trained': trained, 'live': score()}


def load_classifier(folder: Path) -> tuple[Sequence[SharedVariable], Score]:
    """The parameters of a classifier, and its test error in per cent."""
    classifier, _, _ = predict.load_classifier(str(folder))
    p_y_given_x = logistic_sgd.get_p_y_given_x(classifier)
    return classifier.params, lambda images, labels: float(
        100 * numpy.mean(p_y_given_x(images).argmax(axis=1) != labels))


@dataclass
class Model:
    """A model for the page.

    :param folder: of the run
    :param load: from there to the parameters, and a score, which depends on their values
    """

    folder: str
    load: Callable[[Path], tuple[Sequence[SharedVariable], Score]]


MODELS = {
    'logistic_sgd': Model('logistic_sgd_output', load_classifier),
    'mlp': Model('mlp_output', load_classifier),
    'convolutional_mlp': Model('convolutional_mlp_output', load_classifier),
}


def write_digits(images: numpy.ndarray, labels: numpy.ndarray) -> None:
    """Write the first test images of each class, to begin with one of them."""
    chosen = numpy.sort(numpy.concatenate(
        [numpy.flatnonzero(labels == label)[:DIGITS_A_CLASS] for label in range(10)]))
    write_weights('digits', {
        'labels': labels[chosen].tolist(),
        'images': in_base64(numpy.rint(images[chosen] * 256).astype('uint8'))})


def write_histories() -> None:
    """Write the validations of the runs on record, for the figure of early stopping."""
    histories = {}
    for name, patience in HISTORIES.items():
        with open(HERE / 'results' / f'{name}.csv', encoding='utf-8', newline='') as file:
            rows = list(csv.DictReader(file))
        n_train_batches = max(int(row['minibatch']) for row in rows)
        histories[name] = {
            'patience': patience, 'n_train_batches': n_train_batches,
            # The test error was measured only where the model was the best so far.
            'validations': [[(int(row['epoch']) - 1) * n_train_batches + int(row['minibatch']),
                             float(row['validation_error']),
                             float(row['test_error']) if row['test_error'] else None]
                            for row in rows]}
    write_weights('histories', histories)


def main(folder: tyro.conf.Positional[Path]) -> None:
    """Write the weights of the figures from the runs in a folder.

    :param folder: where the output folders of the scripts are
    """
    found = {name: model for name, model in MODELS.items()
             if (folder / model.folder / 'run.json').exists()}
    if not found:
        raise UserError(f'{folder} holds none of {", ".join(m.folder for m in MODELS.values())}: '
                        'name the folder in which the scripts were run')
    WEIGHTS.mkdir(exist_ok=True)
    images, labels = datasets.read().test
    write_digits(images, labels)
    write_histories()
    record = json.loads(RECORD.read_text(encoding='utf-8')) if RECORD.exists() else {}
    for name, model in found.items():
        params, score = model.load(folder / model.folder)
        sizes = read_record(folder / model.folder)['model']
        record[name] = export(name, sizes, params, partial(score, images, labels))
        size = (WEIGHTS / f'{name}.js').stat().st_size
        print(f'{name}: {record[name]["trained"]:.2f}, in the page {record[name]["live"]:.2f}; '
              f'{size / 1e6:.2f} MB')
    write_json(RECORD, record)


if __name__ == '__main__':
    try:
        tyro.cli(main)
    except UserError as error:
        sys.exit(f'live.py: {error}')
