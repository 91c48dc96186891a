r"""Convolution and max-pooling as symbolic functions, with gradients.

The convolution of an image with a filter of :math:`k_h \times k_w` weights is

.. math::
    y_{ij} = \sum_{p=0}^{k_h - 1} \sum_{q=0}^{k_w - 1} x_{i - p, j - q} \, w_{pq}

summed over the channels of the image: the filter is flipped, and then moved over the image. On a
GPU there is a library for it. On a CPU, compilers turn these sums into loops that leave most of
its arithmetic units idle, and matrix products are several times faster, even with more arithmetic.
There are two forms, and the one with less arithmetic is taken.

**Blocks.** The convolution is linear in the image, so it is multiplication by a matrix, in which
each filter appears once for every place of the output, in between many zeros. Here the output is
cut into small blocks: a block needs only a patch of the image somewhat larger than itself, the
zeros are few, and the matrix is the same for all blocks: :math:`\mathrm{block} = B(w) \,
\mathrm{patch}`.

**Frequencies.** A discrete Fourier transform, too, is multiplication by a matrix, and it turns the
convolution into a product for each frequency, of a small matrix with the channels: :math:`y =
F^{-1} (U(w) \cdot F x)`. This takes less when there are many channels. The images are taken to
repeat, so that the filter reaches over their border to the other side, but not at the places of a
valid convolution.

Inside, arrays are (row, column, channel, image): what is done to a place of a map is done to long
rows of memory. Outside they are (image, channel, row, column), as is usual.

References:
    - K. Chellapilla, S. Puri, P. Simard, "High performance convolutional neural networks for
      document processing", 2006, where every block is a single place of the output
    - M. Mathieu, M. Henaff, Y. LeCun, "Fast training of convolutional networks through FFTs", 2014
"""

import functools
import math

from support import engine

import numpy
import pytensor as theano
import pytensor.tensor as T
from pytensor.compile.builders import OpFromGraph

# Copying a number into a patch takes about as long as this many multiplications in a product.
MULTIPLICATIONS_PER_COPY = 50
LARGEST_BLOCK = 8


def conv2d(input: T.TensorVariable, filters: T.TensorVariable,
           border_mode: str = 'valid') -> T.TensorVariable:
    """Convolution of images with filters: flipped filters, and steps of one.

    :param input: images, (n_images, n_channels, height, width), of which the last three are known
        when the graph is built
    :param filters: (n_filters, n_channels, filter_height, filter_width), all known
    :param border_mode: 'valid' for the places where the filter lies within the image; 'full' for
        all places where they overlap, the image being 0 outside
    :return: feature maps, (n_images, n_filters, height - filter_height + 1,
        width - filter_width + 1); with 'full', + filter_height - 1 and + filter_width - 1
    :raises ValueError: when the shapes do not fit, or are not known
    """
    if input.ndim != 4 or filters.ndim != 4 or None in input.type.shape[1:] + filters.type.shape:
        raise ValueError('conv2d needs 4 dimensions of known size, and got images '
                         f'{input.type} and filters {filters.type}: use reshape or specify_shape')
    _, n_channels, *sizes = input.type.shape
    _, n_filter_channels, *filter_sizes = filters.type.shape
    if border_mode == 'full':
        for axis, size, k in zip((2, 3), sizes, filter_sizes, strict=True):
            input = _span(input, axis, 1 - k, size + k - 1)
    elif border_mode != 'valid':
        raise ValueError(f"`border_mode` is {border_mode!r}: give 'valid' or 'full'")
    output_sizes = [size - k + 1
                    for size, k in zip(input.type.shape[2:], filter_sizes, strict=True)]
    if n_channels != n_filter_channels or min(output_sizes) < 1:
        raise ValueError(f'filters {filters.type} do not fit images {input.type}: give as many '
                         'channels, and no larger filters')
    # The library wants to know the number of images as well.
    if input.type.shape[0] is not None and engine.device() == 'gpu':
        return _library_convolution(input, filters)
    form = _best_form(input.type.shape[1:], filters.type.shape)
    return form(input.dimshuffle(2, 3, 1, 0), filters).dimshuffle(3, 2, 0, 1)


def max_pool_2d(input: T.TensorVariable, ds: tuple[int, int],
                ignore_border: bool = True) -> T.TensorVariable:
    """The maximum of each of the windows that divide an image, which do not overlap.

    Where several entries are the maximum, the gradient goes to the first of them, row by row.

    :param input: images, as for :func:`conv2d`
    :param ds: (height, width) of a window
    :param ignore_border: leave out the rows and columns that do not fill a window; if False, they
        make smaller windows
    :return: (n_images, n_channels, height // ds[0], width // ds[1]), rounded up if the border is
        not ignored
    :raises ValueError: when the shapes do not fit, or are not known
    """
    if input.ndim != 4 or None in input.type.shape[1:]:
        raise ValueError(f'max_pool_2d needs 4 dimensions of known size, and got {input.type}: use '
                         'reshape or specify_shape')
    _, n_channels, *sizes = input.type.shape
    counts = [size // d if ignore_border else -(-size // d)
              for size, d in zip(sizes, ds, strict=True)]
    if min(counts) < 1:
        raise ValueError(f'windows of {ds[0]} x {ds[1]} do not fit into images {input.type}')
    x = input.dimshuffle(2, 3, 1, 0)
    for axis, (count, d) in enumerate(zip(counts, ds, strict=True)):
        x = _span(x, axis, 0, count * d, fill=-numpy.inf)
    x = x.reshape((counts[0], ds[0], counts[1], ds[1], n_channels, _length(x)))
    return _maximum(x).dimshuffle(3, 2, 0, 1)


def _library_convolution(images, filters):
    """Valid convolution by JAX's own function, which correlates: it does not flip."""
    from jax import lax

    @theano.wrap_jax
    def convolution(images, filters):
        return lax.conv_general_dilated(images, lax.rev(filters, (2, 3)), window_strides=(1, 1),
                                        padding='VALID')

    return convolution(images, filters)


def _best_form(image_shape, filter_shape):
    """What takes an image, of (channels, height, width), to its maps in the least time."""
    n_channels, *sizes = image_shape
    n_filters, _, *filter_sizes = filter_shape
    output_sizes = [size - k + 1 for size, k in zip(sizes, filter_sizes, strict=True)]

    def cost(block):
        # Larger blocks need less copying, because patches overlap less, and more products with 0.
        counts, patch = _division(output_sizes, filter_sizes, block)
        multiplications = math.prod(block) * n_filters  # with each number of a patch
        return (math.prod(counts) * math.prod(patch) * n_channels
                * (multiplications + MULTIPLICATIONS_PER_COPY))

    heights, widths = (range(1, min(size, LARGEST_BLOCK) + 1) for size in output_sizes)
    block = min(((height, width) for height in heights for width in widths), key=cost)
    n_places = math.prod(sizes)  # and as many real numbers in a transform
    if n_places * (n_places * n_channels + 2 * n_channels * n_filters
                   + math.prod(output_sizes) * n_filters) < cost(block):
        return _frequency_convolution
    return functools.partial(_block_convolution, block=block)


def _division(output_sizes, filter_sizes, block):
    """How many blocks cover the output, and the size of a patch, a whole number of blocks."""
    counts = [-(-size // b) for size, b in zip(output_sizes, block, strict=True)]
    patch = [-(-(b + k - 1) // b) * b for b, k in zip(block, filter_sizes, strict=True)]
    return counts, patch


def _block_convolution(x, filters, block):
    """Valid convolution as one product of a matrix made from the filters with patches.

    :param x: images, (height, width, n_channels, n_images)
    :param block: (height, width) of a block
    :return: (height, width, n_filters, n_images)
    """
    n_filters, _, *filter_sizes = filters.type.shape
    output_sizes = [size - k + 1 for size, k in zip(x.type.shape, filter_sizes, strict=False)]
    counts, patch = _division(output_sizes, filter_sizes, block)
    blocks = T.dot(_band_matrix(filters, patch, block), _patches(x, counts, patch, block))
    blocks = blocks.reshape((*block, n_filters, *counts, _length(x)))
    y = blocks.dimshuffle(3, 0, 4, 1, 2, 5).reshape(
        (counts[0] * block[0], counts[1] * block[1], n_filters, _length(x)))
    return _span(_span(y, 0, 0, output_sizes[0]), 1, 0, output_sizes[1])


def _patches(x, counts, patch, block):
    """The part of the image that each block of the output depends on.

    Patches begin a block apart and are a whole number of blocks in size, so the image is cut into
    blocks, and neighbours are put together: few slices, however large the filter is.

    :return: (patch[0] * patch[1] * n_channels, counts[0] * counts[1] * n_images)
    """
    n_channels = x.type.shape[2]
    n_neighbours = [size // b for size, b in zip(patch, block, strict=True)]
    n_blocks = [count + n - 1 for count, n in zip(counts, n_neighbours, strict=True)]
    x = _span(_span(x, 0, 0, n_blocks[0] * block[0]), 1, 0, n_blocks[1] * block[1])
    x = x.reshape((n_blocks[0], block[0], n_blocks[1], block[1], n_channels, _length(x)))
    x = x.dimshuffle(1, 3, 4, 0, 2, 5)  # (a block, channels, rows, columns of blocks, images)
    for axis in (0, 1):
        x = T.join(axis, *[_span(x, axis + 3, start, start + counts[axis])
                           for start in range(n_neighbours[axis])])
    n_columns = -1 if x.type.shape[5] is None else x.type.shape[5] * math.prod(counts)
    return x.reshape((math.prod(patch) * n_channels, n_columns))


def _band_matrix(filters, patch, block):
    """The matrix that takes a patch, a column of :func:`_patches`, to a block of every map."""
    n_filters, n_channels, height, width = filters.type.shape
    # Which weight leads from a place of the patch to a place of the block.
    leads = numpy.einsum('arp,bsq->rsabpq',
                         _shifts(patch[0], block[0], height), _shifts(patch[1], block[1], width))
    w = filters.reshape((n_filters * n_channels, height * width))
    w = T.dot(leads.reshape(-1, height * width).astype(filters.dtype), w.T)
    w = w.reshape((math.prod(block), *patch, n_filters, n_channels))
    return w.dimshuffle(0, 3, 1, 2, 4).reshape(
        (math.prod(block) * n_filters, math.prod(patch) * n_channels))


def _shifts(patch_size, block_size, filter_size):
    """Which weight of a filter leads from a place of the patch to a place of the block: 0 or 1."""
    # In one dimension, the output at i is the sum of x[i + filter_size - 1 - p] w[p].
    place, i, p = numpy.ogrid[:patch_size, :block_size, :filter_size]
    return (place == i + filter_size - 1 - p).astype('int8')


def _frequency_convolution(x, filters):
    """Valid convolution by way of the frequencies; ``x`` and result as for blocks."""
    height, width, n_channels, _ = x.type.shape
    n_filters, _, *filter_sizes = filters.type.shape
    matrices = _fourier_matrices((height, width), tuple(filter_sizes))
    transform, of_filters, inverse = (matrix.astype(x.dtype) for matrix in matrices)
    n_slots = len(transform) // 2
    many = _length(x)

    x = T.dot(transform, x.reshape((height * width, max(-1, n_channels * many))))
    x = x.reshape((n_slots, 2 * n_channels, many))
    u = T.dot(of_filters, filters.reshape((n_filters * n_channels, math.prod(filter_sizes))).T)
    u = u.reshape((n_slots, 2, 2, n_filters, n_channels)).dimshuffle(0, 1, 3, 2, 4)
    y = T.matmul(u.reshape((n_slots, 2 * n_filters, 2 * n_channels)), x)
    y = T.dot(inverse, y.reshape((2 * n_slots, max(-1, n_filters * many))))
    return y.reshape((height - filter_sizes[0] + 1, width - filter_sizes[1] + 1, n_filters, many))


@functools.cache
def _fourier_matrices(sizes, filter_sizes):
    r"""Discrete Fourier transforms in two dimensions as real matrices.

    Of real images, frequency :math:`(-k, -l)` holds the conjugate of :math:`(k, l)`, so one of the
    two is enough, as a slot of two numbers, the real and the imaginary part. A filter multiplies
    them by :math:`u + iv`, which is the matrix :math:`(u, -v; v, u)`. A frequency that is its own
    conjugate has no imaginary part; two of these share a slot, with the matrix :math:`(u, 0; 0,
    u')`.

    :return: from images to slots, (2 * n_slots, height * width); from filters to the 2 x 2 numbers
        of a slot, (4 * n_slots, filter_height * filter_width); and back from slots to the places
        of a valid convolution, (n_places, 2 * n_slots)
    """
    height, width = sizes
    rows, columns = numpy.divmod(numpy.arange(height * width), width)
    conjugates = -rows % height * width + -columns % width
    of_two = numpy.flatnonzero(conjugates > numpy.arange(height * width))
    own = numpy.flatnonzero(conjugates == numpy.arange(height * width))

    def waves(frequencies, shape):
        """exp(-2 pi i (k row / height + l column / width)), (n_frequencies, n_places)."""
        row, column = numpy.divmod(numpy.arange(math.prod(shape)), shape[1])
        return numpy.exp(-2j * numpy.pi * (numpy.outer(rows[frequencies], row) / height
                                           + numpy.outer(columns[frequencies], column) / width))

    def paired(real):
        """Two frequencies in a slot; the last one's partner is 0 if there is an odd number."""
        real = numpy.concatenate([real, numpy.zeros((len(real) % 2, real.shape[1]))])
        return real.reshape(-1, 2, real.shape[1])

    wave, single = waves(of_two, sizes), paired(waves(own, sizes).real)
    transform = numpy.concatenate([numpy.stack([wave.real, wave.imag], axis=1), single])
    # Back: what stands for two frequencies counts twice.
    counts = numpy.repeat([2, 1], [len(of_two), len(single)])[:, None, None]
    inverse = (transform * counts / (height * width)).reshape(-1, height, width)
    inverse = inverse[:, filter_sizes[0] - 1:, filter_sizes[1] - 1:]

    wave, single = waves(of_two, filter_sizes), paired(waves(own, filter_sizes).real)
    zero = numpy.zeros_like(single[:, 0])
    of_filters = numpy.concatenate([
        numpy.stack([wave.real, -wave.imag, wave.imag, wave.real], axis=1),
        numpy.stack([single[:, 0], zero, zero, single[:, 1]], axis=1)])
    return (transform.reshape(-1, height * width),
            of_filters.reshape(-1, math.prod(filter_sizes)), inverse.reshape(len(inverse), -1).T)


def _length(x):
    """The number of images, for ``reshape``, which finds it out if it is not known."""
    return -1 if x.type.shape[-1] is None else x.type.shape[-1]


def _span(x, axis, start, stop, fill=0.):
    """``x[start:stop]`` along an axis of known length, with ``fill`` beyond its ends."""
    length = x.type.shape[axis]

    def part(start, stop):
        return x[(slice(None),) * axis + (slice(start, stop),)]

    def constant(size):
        shape = [size if i == axis else 1 for i in range(x.ndim)]
        # Made from x, because the number of images may be unknown: JAX does not fill arrays of
        # unknown size. No square is less than 0, so the switch always takes the constant.
        never = T.sqr(part(0, 1)) < 0
        return T.switch(never, numpy.ones(shape, x.dtype), numpy.full(shape, fill, x.dtype))

    inside = part(max(start, 0), min(stop, length))
    before = [constant(-start)] if start < 0 else []
    after = [constant(stop - length)] if stop > length else []
    return T.join(axis, *before, inside, *after)


def _maximum(x):
    """The maxima of windows, (rows, window height, columns, window width, channels, images).

    Left to itself, the engine would make the gradient from one array of mostly zeros for each
    entry of a window.
    """
    def entries(x):
        return [x[:, i, :, j] for i in range(height) for j in range(width)]

    def gradient(inputs, outputs, output_gradients):
        """That of the maximum goes to the first of the entries that are as large."""
        first_entry, *others = entries(inputs[0])
        largest, first = first_entry, numpy.int8(0)
        for k, entry in enumerate(others, start=1):
            first = T.switch(T.gt(entry, largest), numpy.int8(k), first)
            largest = T.maximum(largest, entry)
        places = numpy.arange(height * width, dtype='int8').reshape(1, height, 1, width, 1, 1)
        is_first = T.eq(T.shape_padaxis(T.shape_padaxis(first, 1), 3), places)
        return [T.switch(is_first, T.shape_padaxis(T.shape_padaxis(output_gradients[0], 1), 3),
                         numpy.zeros((), x.dtype))]

    _, height, _, width, _, _ = x.type.shape
    if height * width == 1:
        return x[:, 0, :, 0]
    windows = x.type()
    maximum = functools.reduce(T.maximum, entries(windows))
    return OpFromGraph([windows], [maximum], inline=True, pullback=gradient)(x)
