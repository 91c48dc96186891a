r"""Convolutional network: LeNet, whose features are the same at every place of an image.

A hidden unit of a convolutional layer looks at a small part of its input, and the units of one
feature map all do so with the same weights, each at its own place. The map with the number k is

.. math::
    h^k = \tanh(\mathrm{maxpool}(W^k * x) + b_k)

where :math:`*` is the convolution of the images, or of all the maps of the layer below, with a
filter :math:`W^k`,

.. math::
    (W^k * x)_{ij} = \sum_l \sum_{p, q} W^{kl}_{pq} \, x^l_{i - p, j - q}

and max-pooling keeps the largest number of each window of 2 x 2: what was found matters more than
where exactly. Two such layers, each with smaller and more numerous maps than the one before, lie
under a multilayer perceptron:

    1 image of 28 x 28 -> 20 maps of 12 x 12 -> 50 maps of 4 x 4 -> 500 units -> 10 classes

Two demonstrations show the parts. ``convolutional_mlp.py edges`` convolves a photo with random
filters, which turn out to find edges; ``convolutional_mlp.py pooling`` prints what max-pooling
makes of a small array.

References:
    - Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document
      recognition", 1998
    - X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
      networks", 2010, for the initial weights
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy
import pytensor as theano
import pytensor.tensor as T
from PIL import Image, ImageDraw, ImageOps

from logistic_sgd import LogisticRegression, load_data, minibatch_givens, scoring_functions
from mlp import HiddenLayer
from support import checkpoints, command_line, engine, training
from support.checkpoints import Run, written_atomically
from support.convolution import conv2d, max_pool_2d
from support.errors import UserError
from utils import save_filters

FILTER_SIZE = (5, 5)
POOL_SIZE = (2, 2)
N_HIDDEN = 500
LARGEST_PHOTO = 640  # pixels in height or width; a larger one is scaled down


class LeNetConvPoolLayer:
    r"""A convolutional layer with max-pooling, :math:`\tanh(\mathrm{maxpool}(W * x) + b)`.

    :param rng: where the initial weights are drawn from
    :param input: symbolic images or feature maps, of shape ``image_shape``
    :param filter_shape: (n_filters, n_input_maps, filter_height, filter_width)
    :param image_shape: (batch_size, n_input_maps, image_height, image_width); the first may be
        None, for any number
    :param poolsize: (height, width) of the windows of which the maximum is kept
    """

    def __init__(self, rng: numpy.random.RandomState, input: T.TensorVariable,
                 filter_shape: tuple[int, int, int, int],
                 image_shape: tuple[int | None, int, int, int],
                 poolsize: tuple[int, int] = (2, 2)):
        # As in a HiddenLayer: each unit has this many inputs, and feeds about so many units above.
        fan_in = math.prod(filter_shape[1:])
        fan_out = filter_shape[0] * math.prod(filter_shape[2:]) // math.prod(poolsize)
        bound = numpy.sqrt(6. / (fan_in + fan_out))
        W_values = rng.uniform(low=-bound, high=bound, size=filter_shape)
        self.W = theano.shared(W_values.astype(theano.config.floatX), name='W',
                               shape=tuple(filter_shape))
        self.b = theano.shared(numpy.zeros(filter_shape[0], dtype=theano.config.floatX), name='b')
        self.input = input

        convolved = conv2d(T.specify_shape(input, image_shape), self.W)
        pooled = max_pool_2d(convolved, poolsize, ignore_border=True)
        # One bias for all of a map, and tanh after pooling: the same numbers from a quarter of
        # the work.
        self.output = T.tanh(pooled + self.b.dimshuffle('x', 0, 'x', 'x'))
        self.params = [self.W, self.b]


class LeNet:
    """Two convolutional layers under a multilayer perceptron.

    :param rng: where the initial weights are drawn from, the lowest layer's first
    :param input: symbolic minibatch, (batch_size, height * width), one flattened image a row
    :param image_shape: (height, width) of an image
    :param nkerns: number of feature maps of the two convolutional layers
    :param n_out: number of classes
    :param batch_size: number of rows of ``input``; None for any number
    :param n_hidden: number of units in the fully connected layer
    :raises UserError: when the images are too small
    """

    def __init__(self, rng: numpy.random.RandomState, input: T.TensorVariable,
                 image_shape: tuple[int, int], nkerns: tuple[int, int], n_out: int,
                 batch_size: int | None = None, n_hidden: int = N_HIDDEN):
        maps_0 = pooled_size(image_shape)  # 28 x 28 -> 12 x 12
        maps_1 = pooled_size(maps_0)  # 12 x 12 -> 4 x 4
        if min(maps_1) < 1:
            least = [((1 * p + k - 1) * p + k - 1) for p, k in zip(POOL_SIZE, FILTER_SIZE,
                                                                  strict=True)]
            raise UserError(f'images of {image_shape[0]} x {image_shape[1]} pixels are too small '
                            f'for LeNet, which needs {least[0]} x {least[1]}')
        self.layer0 = LeNetConvPoolLayer(
            rng, input.reshape((-1 if batch_size is None else batch_size, 1, *image_shape)),
            filter_shape=(nkerns[0], 1, *FILTER_SIZE),
            image_shape=(batch_size, 1, *image_shape), poolsize=POOL_SIZE)
        self.layer1 = LeNetConvPoolLayer(
            rng, self.layer0.output,
            filter_shape=(nkerns[1], nkerns[0], *FILTER_SIZE),
            image_shape=(batch_size, nkerns[0], *maps_0), poolsize=POOL_SIZE)
        # From here on, where a number stands in a map makes no difference to what it is.
        n_in = nkerns[1] * math.prod(maps_1)
        self.layer2 = HiddenLayer(
            rng, self.layer1.output.reshape((-1 if batch_size is None else batch_size, n_in)),
            n_in, n_hidden, activation=T.tanh)
        self.layer3 = LogisticRegression(self.layer2.output, n_hidden, n_out)

        self.negative_log_likelihood = self.layer3.negative_log_likelihood
        self.errors = self.layer3.errors
        self.p_y_given_x = self.layer3.p_y_given_x
        self.y_pred = self.layer3.y_pred
        self.params = (self.layer3.params + self.layer2.params + self.layer1.params
                       + self.layer0.params)
        self.input = input


def pooled_size(image_shape: Sequence[int]) -> tuple[int, int]:
    """Height and width of the maps that a layer of LeNet makes of images of ``image_shape``."""
    height, width = ((size - k + 1) // p for size, k, p
                     in zip(image_shape, FILTER_SIZE, POOL_SIZE, strict=True))
    return height, width


def load_classifier(output_folder: str) -> LeNet:
    """The classifier that a run of this script left in its output folder, for any batch size.

    :raises UserError: when there is none, or it is not such a network
    """
    (n_hidden, n_out), _, _, _, W1_shape, _, W0_shape, _ = checkpoints.model_shapes(
        output_folder, ndims=[2, 1, 2, 1, 4, 1, 4, 1])
    image_shape = checkpoints.read_description(output_folder)['image_shape']
    rng = numpy.random.RandomState()  # whatever it draws is replaced
    classifier = LeNet(rng, T.matrix('x'), image_shape, (W0_shape[0], W1_shape[0]), n_out,
                       n_hidden=n_hidden)
    checkpoints.load_model(output_folder, classifier.params)
    return classifier


def save_first_filters(path: Path, classifier: LeNet) -> None:
    """Write a picture of the filters of the lowest layer, ten in a row, eight times as large."""
    W = numpy.asarray(classifier.layer0.W.get_value())[:, 0]  # (n_filters, height, width)
    W = W.repeat(8, axis=1).repeat(8, axis=2)
    n_filters, height, width = W.shape
    save_filters(path, W.reshape(n_filters, height * width).T, (height, width),
                 tile_shape=(math.ceil(n_filters / 10), min(n_filters, 10)))


def evaluate_lenet5(learning_rate: float = 0.1, n_epochs: int = 200, dataset: str | None = None,
                    nkerns: tuple[int, int] = (20, 50), batch_size: int = 500,
                    seed: int | None = None, output_folder: str = 'convolutional_mlp_output',
                    resume: bool = False, overwrite: bool = False) -> training.Result:
    """Train LeNet by minibatch stochastic gradient descent.

    The words "edges" and "pooling", in the place of any option, run a demonstration instead.

    :param learning_rate: length of a step down the gradient
    :param n_epochs: passes through the training set, at most
    :param dataset: MNIST when left out; a file or a folder of images, or digits
    :param nkerns: number of feature maps of the two convolutional layers
    :param batch_size: examples in a minibatch
    :param seed: of the initial weights; 23455 when left out
    :param output_folder: for checkpoints, the best model, the history and a picture of filters
    :param resume: go on with the run in the output folder
    :param overwrite: give up an unfinished run in the output folder
    """
    settings = training.check_settings(locals())
    data = load_data(dataset)

    print('... building the model', flush=True)
    index = T.lscalar('index')  # of a minibatch
    x = T.matrix('x')  # images, one flattened image a row
    y = T.ivector('y')  # labels
    rng = numpy.random.RandomState(23455 if seed is None else seed)
    classifier = LeNet(rng, x, data.image_shape, nkerns, data.n_classes, batch_size)
    cost = classifier.negative_log_likelihood(y)

    train_model = engine.function(
        inputs=[index], outputs=cost,
        updates=training.sgd_updates(cost, classifier.params, learning_rate),
        givens=minibatch_givens(x, y, data[0], index, batch_size))
    validate_model, test_model = scoring_functions(classifier.errors(y), x, y, data, batch_size)

    with Run('convolutional_mlp', settings, data, classifier.params) as run:
        print('... training', flush=True)
        scores = training.train_with_early_stopping(
            run, train_model, validate_model, test_model, n_epochs, patience=10000)
        save_first_filters(run.folder / 'filters.png', classifier)
        return training.result(run, classifier, scores)


# Demonstrations ---------------------------------------------------------------------------------

def edges(photo: Path | None = None,
          output_folder: str = 'convolutional_mlp_output') -> numpy.ndarray:
    """Convolve a colour photo with two random filters, and draw what they make of it.

    :param photo: any image file; a picture that is drawn here when left out
    :param output_folder: where edges.png goes: the photo and the two feature maps
    :return: the two feature maps, floatX (2, height - 8, width - 8)
    """
    pixels = numpy.asarray(draw_landscape() if photo is None else read_photo(photo))
    height, width, n_channels = pixels.shape
    filter_shape = (2, n_channels, 9, 9)
    if min(height, width) < 9:
        raise UserError(f'the photo has {height} x {width} pixels: give one of at least 9 x 9')

    rng = numpy.random.RandomState(23455)
    bound = 1 / numpy.sqrt(math.prod(filter_shape[1:]))
    W = rng.uniform(low=-bound, high=bound, size=filter_shape).astype(theano.config.floatX)
    b = rng.uniform(low=-.5, high=.5, size=2).astype(theano.config.floatX)
    images = T.tensor('images', shape=(1, n_channels, height, width), dtype=theano.config.floatX)
    feature_maps = T.sigmoid(conv2d(images, T.constant(W)) + b[:, None, None])
    convolve = theano.function([images], feature_maps)

    # (height, width, channel) -> (1, channel, height, width), from 0 to 1
    image = (pixels.transpose(2, 0, 1)[None] / 256).astype(theano.config.floatX)
    maps = numpy.asarray(convolve(image))[0]
    checkpoints.make_output_folder(Path(output_folder))
    path = Path(output_folder) / 'edges.png'
    plot_side_by_side(path, [pixels, *maps], ['photo', 'first filter', 'second filter'])
    print(f'The photo and its two feature maps are in {path}')
    return maps


def plot_side_by_side(path: Path, pictures: Sequence[numpy.ndarray],
                      titles: Sequence[str]) -> None:
    """Draw pictures in one row.

    :param path: the PNG to write
    :param pictures: (height, width), drawn in grey, or (height, width, 3)
    """
    from matplotlib.figure import Figure  # slow to import, and needed only here

    figure = Figure(figsize=(4 * len(pictures), 3.5), layout='constrained')
    for axes, picture, title in zip(figure.subplots(1, len(pictures)), pictures, titles,
                                    strict=True):
        axes.imshow(picture, cmap='gray')
        axes.set(title=title)
        axes.axis('off')
    with written_atomically(path, durable=False) as file:
        figure.savefig(file, format='png', dpi=100)


def read_photo(path: Path) -> Image.Image:
    """A photo in colour, scaled down if it is very large.

    :raises UserError: when it is no image
    """
    try:
        with Image.open(path) as picture:
            photo = ImageOps.exif_transpose(picture).convert('RGB')
    except FileNotFoundError:
        raise UserError(f'there is no image {path}') from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f'{path} cannot be read as an image: {error}') from None
    photo.thumbnail((LARGEST_PHOTO, LARGEST_PHOTO))
    return photo


def draw_landscape(width: int = 480, height: int = 360) -> Image.Image:
    """A house under the sun, with edges of many directions and contrasts."""
    picture = Image.new('RGB', (width, height), (125, 180, 235))
    pen = ImageDraw.Draw(picture)

    def scaled(*points):
        return [(x * width, y * height) for x, y in points]

    pen.ellipse(scaled((.78, .06), (.94, .27)), fill=(255, 220, 70))
    pen.polygon(scaled((0, .7), (.25, .3), (.5, .7)), fill=(120, 120, 140))
    pen.polygon(scaled((.2, .7), (.55, .2), (.9, .7)), fill=(90, 95, 120))
    pen.polygon(scaled((.46, .33), (.55, .2), (.64, .33)), fill=(240, 240, 250))
    pen.rectangle(scaled((0, .65), (1, 1)), fill=(70, 150, 70))
    pen.polygon(scaled((.3, 1), (.42, .8), (.48, .8), (.5, 1)), fill=(190, 170, 130))
    pen.rectangle(scaled((.32, .52), (.58, .82)), fill=(225, 205, 170))
    pen.polygon(scaled((.28, .54), (.45, .36), (.62, .54)), fill=(165, 60, 45))
    pen.rectangle(scaled((.42, .65), (.48, .82)), fill=(95, 60, 35))
    for left in (.35, .51):
        pen.rectangle(scaled((left, .6), (left + .05, .68)), fill=(60, 80, 120))
    for i in range(12):  # a fence
        pen.rectangle(scaled((.64 + .03 * i, .74), (.655 + .03 * i, .86)), fill=(245, 245, 240))
    return picture


def pooling() -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """Print what max-pooling over windows of 2 x 2 makes of 5 x 5 numbers, with and without border.

    :return: the numbers, floatX (3, 2, 5, 5), and the maxima without the border, (3, 2, 2, 2), and
        with it, (3, 2, 3, 3)
    """
    numbers = numpy.random.RandomState(1).rand(3, 2, 5, 5).astype(theano.config.floatX)
    images = T.tensor('images', shape=numbers.shape, dtype=theano.config.floatX)
    pool = theano.function([images], [max_pool_2d(images, (2, 2), ignore_border=True),
                                      max_pool_2d(images, (2, 2), ignore_border=False)])
    without_border, with_border = map(numpy.asarray, pool(numbers))
    with numpy.printoptions(precision=4, suppress=True):
        for title, maxima in (('ignore_border=True', without_border),
                              ('ignore_border=False', with_border)):
            print(f'With {title}:')
            for n, c in ((0, 0), (1, 0)):
                print(f'images[{n}, {c}] =\n{numbers[n, c]}')
                print(f'maxima[{n}, {c}] =\n{maxima[n, c]}')
    return numbers, without_border, with_border


DEMONSTRATIONS = {'edges': edges, 'pooling': pooling}


if __name__ == '__main__':
    if sys.argv[1:2] and sys.argv[1] in DEMONSTRATIONS:
        command_line.run(DEMONSTRATIONS[sys.argv.pop(1)])
    else:
        command_line.run(evaluate_lenet5)
