"""Try a trained model in a browser: one HTML file in which it runs, without a network.

The model is what a script left in its output folder, trained on any data set. The file has the
figures of the book for this kind of model: to draw on and be classified, to be restored from
damage, to run a Gibbs chain, or to play and go on with a tune. Numbers are rounded to 8 bits.
"""

import base64
import html
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import checkpoints, command_line, datasets, likeness
from support.errors import UserError
from support.folders import read_record, written_atomically
from support.midi import midiread

import numpy
from pytensor.compile.sharedvalue import SharedVariable

import cA
import dA
import predict
import rbm
import rnnrbm
from DBN import load_rbms

LIVE = Path(__file__).resolve().parents[1] / 'doc' / 'live'
IMAGES_A_CLASS = 3
FRAMES = 200  # of a tune

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ max-width: 46rem; margin: 2rem auto; padding: 0 1rem; font-family: sans-serif;
       background: var(--live-ground); color: var(--live-ink);
       --color-foreground-primary: var(--live-ink); --color-foreground-muted: var(--live-grey);
       --color-background-secondary: var(--live-ground); }}
figure {{ margin: 2rem 0; }}
{style}
</style>
<h1>{title}</h1>
<p>{words}</p>
{figures}
{scripts}
"""


@dataclass
class Model:
    """A model for a page.

    :param script: by which the page knows what to do with the parameters
    :param title: how it is called there
    :param sizes: what its constructor has to know besides
    :param model: what can compute with the parameters
    """

    script: str
    title: str
    params: Sequence[SharedVariable]
    sizes: dict[str, Any]
    model: Any = None


# How classifiers are called, by their scripts.
TITLES = {'logistic_sgd': 'logistic regression', 'logistic_cg': 'logistic regression',
          'mlp': 'perceptron', 'convolutional_mlp': 'LeNet', 'SdA': 'SdA', 'DBN': 'DBN'}


def load_classifier(folder: Path) -> Model:
    """A classifier of any script."""
    classifier, _, _ = predict.load_classifier(str(folder))
    record = read_record(folder)
    script = {'logistic_cg': 'logistic_sgd', 'SdA': 'stacked', 'DBN': 'stacked'}.get(
        record['script'], record['script'])
    return Model(script, TITLES[record['script']], classifier.params, record['model'], classifier)


def load_auto_encoders(folder: Path) -> list[Model]:
    """Both models of a run of dA.py: trained on whole images, and with a corruption of 30 %."""
    corrupted, whole = checkpoints.load(
        folder, lambda **sizes: [dA.build(**sizes), dA.build(**sizes)], checkpoints.CHECKPOINT,
        params=lambda models: [param for model in models for param in model.params])
    sizes = read_record(folder)['model']
    return [Model('dA', 'trained on whole images', whole.params, sizes, whole),
            Model('dA', 'trained with 30 % put out', corrupted.params, sizes, corrupted)]


def load_contractive_auto_encoder(folder: Path) -> Model:
    """A contractive auto-encoder."""
    model = checkpoints.load(folder, cA.build)
    return Model('dA', 'contractive', model.params, read_record(folder)['model'], model)


def load_rbm(folder: Path) -> Model:
    """A restricted Boltzmann machine."""
    machine = checkpoints.load(folder, rbm.build)
    return Model('rbm', 'RBM', machine.params, read_record(folder)['model'], [machine])


def load_dbn(folder: Path) -> Model:
    """A deep belief network as pretraining has left it: its RBMs, from the bottom to the top."""
    machines = load_rbms(str(folder))
    return Model('DBN', 'DBN', [param for machine in machines for param in machine.params],
                 read_record(folder)['model'], machines)


def load_rnnrbm(folder: Path) -> Model:
    """A recurrent temporal RBM."""
    model = rnnrbm.load(str(folder))
    sizes = read_record(folder)['model']
    if model.steps_per_beat:
        sizes |= {'dt': 60 / rnnrbm.TEMPO / model.steps_per_beat}
    return Model('rnnrbm', 'RNN-RBM', model.params, sizes, model)


# By the script of a run: the figures of the page, and the models that each of them needs.
FIGURES = {
    **dict.fromkeys(TITLES, lambda folder: {'classify': [load_classifier(folder)]}),
    'dA': lambda folder: {'restore': load_auto_encoders(folder)},
    'cA': lambda folder: dict.fromkeys(('restore', 'contract'),
                                       [load_contractive_auto_encoder(folder)]),
    'rbm': lambda folder: {'chain': [load_rbm(folder)]},
    'DBN': lambda folder: {'classify': [load_classifier(folder)],
                           'dream': [load_dbn(folder), load_classifier(folder)]},
    'rnnrbm': lambda folder: {'tunes': [load_rnnrbm(folder)]},
}


def quantised(array: numpy.ndarray) -> tuple[numpy.ndarray, float]:
    """Whole numbers from -127 to 127 in int8, and what one of them is worth."""
    scale = float(abs(array).max()) / 127 or 1.
    return numpy.rint(array / scale).astype('int8'), scale


def in_base64(array: numpy.ndarray) -> str:
    """The bytes of an array as text."""
    return base64.b64encode(array.tobytes()).decode()


def weights_of(model: Model) -> dict[str, Any]:
    """What a page has to know of a model."""
    params = []
    for param in model.params:
        whole, scale = quantised(param.get_value())
        params.append({'shape': whole.shape, 'scale': scale, 'int8': in_base64(whole)})
    return {'script': model.script, 'title': model.title, 'sizes': model.sizes, 'params': params}


def images_of(data: datasets.ImageData) -> dict[str, Any]:
    """What a page has to know of a data set: the first test images of each class, and how the
    images are made.

    The ground is 1 where the edge of the mean training image is brighter than a half, or else 0.
    """
    images, labels = data.test
    chosen = numpy.sort(numpy.concatenate(
        [numpy.flatnonzero(labels == label)[:IMAGES_A_CLASS] for label in range(data.n_classes)]))
    mean = data.train[0].mean(axis=0)
    edge = numpy.ones(data.image_shape, dtype=bool)
    edge[1:-1, 1:-1] = False
    return {
        'labels': labels[chosen].tolist(),
        'images': in_base64(
            numpy.minimum(numpy.rint(images[chosen] * 256), 255).astype('uint8')),
        'image_shape': data.image_shape,
        'classes': [str(name) for name in data.classes or range(data.n_classes)],
        'is_like_mnist': likeness.is_like_mnist(mean, data.image_shape),
        'ground': int(mean[edge.ravel()].mean() > .5)}


def notes(roll: numpy.ndarray, r: tuple[int, int]) -> list[list[int]]:
    """The numbers of the notes that sound in each of the first frames of a tune."""
    return [(numpy.flatnonzero(frame) + r[0]).tolist() for frame in roll[:FRAMES]]


def tunes_of(model: rnnrbm.RnnRbm, tunes: datasets.TuneFiles, folder: Path) -> dict[str, Any]:
    """A tune that a model has learnt from, and one that it made up."""
    content = {'training': {'title': 'a training tune',
                            'frames': notes(model.read(tunes.train[:1])[0], model.r)}}
    sample = folder / 'sample1.mid'
    if sample.exists():
        roll, _ = midiread(sample, model.r, model.dt, model.steps_per_beat)
        content['sample'] = {'title': 'made up by the script', 'frames': notes(roll, model.r)}
    return content


def as_script(name: str, content: dict[str, Any]) -> str:
    """JavaScript that makes this ``weights[name]``; no text in it can end a script element."""
    text = json.dumps(content).replace('<', '\\u003c')
    return f'weights.{name} = {text};\n'


def scripts_of(name: str) -> list[Path]:
    """A script of ``doc/live`` after all those that it comes after, as its second line says."""
    path = LIVE / f'{name}.js'
    head = re.search(r'^// After: (.*)$', path.read_text(encoding='utf-8'), re.MULTILINE)
    below = [script for other in (head[1].split() if head else [])
             for script in scripts_of(other.removesuffix('.js'))]
    return [*dict.fromkeys(below), path]


def write_page(file: Path, title: str, words: str, figures: dict[str, list[str]],
               contents: dict[str, dict[str, Any]]) -> None:
    """Write a page that needs no other file.

    :param figures: by name, what of ``contents`` each needs
    :param contents: what becomes ``weights`` in the page
    """
    paths = dict.fromkeys(path for name in figures for path in scripts_of(name))
    texts: Iterable[str] = [*(path.read_text(encoding='utf-8') for path in paths),
                            *(as_script(name, content) for name, content in contents.items())]
    page = PAGE.format(
        title=html.escape(title), words=html.escape(words),
        style=(LIVE / 'live.css').read_text(encoding='utf-8'),
        figures='\n'.join(f'<figure class="live"><div class="live-stage" data-figure="{name}" '
                          f'data-weights="{" ".join(needed)}"></div></figure>'
                          for name, needed in figures.items()),
        scripts='\n'.join(f'<script>\n{text}</script>' for text in texts))
    with written_atomically(file) as stream:
        stream.write(page.encode())


def playground(output_folder: str, file: Path | None = None, dataset: str | None = None) -> Path:
    """Write a page in which a trained model can be tried.

    For example::

        python code/playground.py --output-folder mlp_output
        python code/playground.py --output-folder rbm_plots --file chain.html

    :param output_folder: of a run of a script
    :param file: the HTML file to write; playground.html in the output folder when left out
    :param dataset: what the model was trained on, where it is to be found now; when left out, what
        the run was given
    :return: the file
    """
    folder = Path(output_folder)
    record = read_record(folder)
    if record['script'] not in FIGURES:
        raise UserError(f'{output_folder} holds a run of {record["script"]}.py, for which there is '
                        f'no figure: name one of {", ".join(FIGURES)}')
    models = FIGURES[record['script']](folder)
    found = dataset or record['settings'].get('dataset')
    figures: dict[str, list[str]] = {}
    contents: dict[str, dict[str, Any]] = {}
    if record['script'] == 'rnnrbm':
        figures['tunes'] = ['rnnrbm', 'tunes']
        model = models['tunes'][0]
        contents = {'rnnrbm': weights_of(model), 'tunes': tunes_of(
            model.model, datasets.find_tunes(found), folder)}
    else:
        data = datasets.read(found)
        if data.sha256 != record['data']['sha256']:
            raise UserError(f'the model was trained on {record["data"]["name"]}, and what is here '
                            f'is {data.name}: name that data set as `dataset`')
        for figure, needed in models.items():
            figures[figure] = ['images']
            for model in needed:
                name = f'model{len(contents)}'
                contents[name] = weights_of(model)
                figures[figure].append(name)
        contents['images'] = images_of(data)
    file = file or folder / 'playground.html'
    write_page(file, f'{record["script"]}, trained on {record["data"]["name"]}',
               'The numbers of the model are rounded to 8 bits, and all of it is in this file.',
               figures, contents)
    print(f'{file}: {file.stat().st_size / 1e6:.1f} MB; open it in a browser')
    return file


if __name__ == '__main__':
    command_line.main(playground)
