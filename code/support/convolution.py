r"""Convolution and max-pooling as symbolic functions, with gradients.

The convolution of an image with a filter of :math:`k_h \times k_w` weights is

.. math::
    y_{ij} = \sum_{p=0}^{k_h - 1} \sum_{q=0}^{k_w - 1} x_{i - p, j - q} \, w_{pq}

summed over the channels of the image: the filter is flipped, and then moved over the image. On a
GPU there is a library for it. On a CPU, compilers turn these sums into loops that leave most of
its arithmetic units idle, and a matrix product is several times faster, even with more arithmetic.
What matrix? The convolution is linear in the image, so it is multiplication by a matrix, in which
each filter appears once for every place of the output, in between many zeros. Here the output is
cut into small blocks: a block needs only a patch of the image somewhat larger than itself, the
zeros are few, and the matrix is the same for all blocks:

.. math::
    \mathrm{block} = \mathrm{patch} \cdot B(w)

with one block of one image a row. Inside, arrays are (image, row, column, channel), so that what
is copied lies together; outside they are (image, channel, row, column), as is usual.

References:
    - K. Chellapilla, S. Puri, P. Simard, "High performance convolutional neural networks for
      document processing", 2006, where every block is a single place of the output
"""

import functools

from support import engine

import numpy
import pytensor as theano
import pytensor.tensor as T

# Copying a number into a patch takes about as long as this many multiplications in a product.
MULTIPLICATIONS_PER_COPY = 100
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
    if input.type.shape[0] is not None and _is_on_gpu():
        return _library_convolution(input, filters)
    return _block_convolution(input, filters, output_sizes)


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
    x = input.dimshuffle(0, 2, 3, 1)
    for axis, count, d in zip((1, 2), counts, ds, strict=True):
        x = _span(x, axis, 0, count * d, fill=-numpy.inf)
    x = x.reshape((_length(x), counts[0], ds[0], counts[1], ds[1], n_channels))
    # First the first maximum of each row of a window, then the first of the rows.
    x = _maximum(_maximum(x, axis=4), axis=2)  # (n_images, *counts, n_channels)
    return x.dimshuffle(0, 3, 1, 2)


def _is_on_gpu():
    if engine.mode_name() != 'JAX':
        return False
    import jax
    return jax.default_backend() == 'gpu'


def _library_convolution(images, filters):
    """Valid convolution by JAX's own function, which correlates: it does not flip."""
    from jax import lax

    @theano.wrap_jax
    def convolution(images, filters):
        return lax.conv_general_dilated(images, lax.rev(filters, (2, 3)), window_strides=(1, 1),
                                        padding='VALID')

    return convolution(images, filters)


def _block_convolution(input, filters, output_sizes):
    """Valid convolution as one product of patches with a matrix made from the filters."""
    n_filters, _, *filter_sizes = filters.type.shape
    block = _best_block(output_sizes, filter_sizes, n_filters)
    counts, patch = _division(output_sizes, filter_sizes, block)

    patches = _patches(input.dimshuffle(0, 2, 3, 1), counts, patch, block)
    blocks = T.dot(patches, _band_matrix(filters, patch, block))
    blocks = blocks.reshape((_length(input), *counts, *block, n_filters))
    output = blocks.dimshuffle(0, 1, 3, 2, 4, 5).reshape(
        (_length(input), counts[0] * block[0], counts[1] * block[1], n_filters))
    for axis, size in zip((1, 2), output_sizes, strict=True):
        output = _span(output, axis, 0, size)
    return output.dimshuffle(0, 3, 1, 2)


def _division(output_sizes, filter_sizes, block):
    """How many blocks cover the output, and the size of a patch, a whole number of blocks."""
    counts = [-(-size // b) for size, b in zip(output_sizes, block, strict=True)]
    patch = [-(-(b + k - 1) // b) * b for b, k in zip(block, filter_sizes, strict=True)]
    return counts, patch


def _best_block(output_sizes, filter_sizes, n_filters):
    """The size of a block for which the product, and the copying that it needs, take least time.

    Larger blocks need less copying, because patches overlap less, and more multiplications by 0.
    """
    def cost(block):
        counts, patch = _division(output_sizes, filter_sizes, block)
        multiplications = block[0] * block[1] * n_filters  # with each number of a patch
        return (counts[0] * counts[1] * patch[0] * patch[1]
                * (multiplications + MULTIPLICATIONS_PER_COPY))

    heights, widths = (range(1, min(size, LARGEST_BLOCK) + 1) for size in output_sizes)
    return min(((height, width) for height in heights for width in widths), key=cost)


def _patches(x, counts, patch, block):
    """The part of the image that each block of the output depends on.

    Patches begin a block apart and are a whole number of blocks in size, so the image is cut into
    blocks, and neighbours are put together: few slices, however large the filter is.

    :return: (n_images * counts[0] * counts[1], patch[0] * patch[1] * n_channels)
    """
    n_channels = x.type.shape[3]
    n_neighbours = [size // b for size, b in zip(patch, block, strict=True)]
    n_blocks = [count + n - 1 for count, n in zip(counts, n_neighbours, strict=True)]
    x = _span(_span(x, 1, 0, n_blocks[0] * block[0]), 2, 0, n_blocks[1] * block[1])
    x = x.reshape((_length(x), n_blocks[0], block[0], n_blocks[1], block[1], n_channels))
    x = x.dimshuffle(0, 1, 3, 2, 4, 5)  # (n_images, rows, columns of blocks, a block)
    for axis in (1, 2):
        x = T.join(axis + 2, *[_span(x, axis, start, start + counts[axis - 1])
                               for start in range(n_neighbours[axis - 1])])
    n_rows = -1 if x.type.shape[0] is None else x.type.shape[0] * counts[0] * counts[1]
    return x.reshape((n_rows, patch[0] * patch[1] * n_channels))


def _band_matrix(filters, patch, block):
    """The matrix that takes a patch, a row of :func:`_patches`, to a block of every feature map."""
    n_filters, n_channels, height, width = filters.type.shape
    rows = _shifts(patch[0], block[0], height, filters.dtype)
    columns = _shifts(patch[1], block[1], width, filters.dtype)
    w = filters.dimshuffle(2, 3, 1, 0).reshape((height, width * n_channels * n_filters))
    w = T.dot(rows, w).reshape((len(rows), width, n_channels * n_filters))
    w = w.dimshuffle(1, 0, 2).reshape((width, len(rows) * n_channels * n_filters))
    w = T.dot(columns, w).reshape((patch[1], block[1], patch[0], block[0], n_channels, n_filters))
    return w.dimshuffle(2, 0, 4, 3, 1, 5).reshape(
        (patch[0] * patch[1] * n_channels, block[0] * block[1] * n_filters))


def _shifts(patch_size, block_size, filter_size, dtype):
    """Which weight of a filter leads from a place of the patch to a place of the block: 0 or 1."""
    # In one dimension, the output at i is the sum of x[i + filter_size - 1 - p] w[p].
    place, i, p = numpy.ogrid[:patch_size, :block_size, :filter_size]
    leads = place == i + filter_size - 1 - p
    return leads.reshape(-1, filter_size).astype(dtype)


def _length(x):
    """The number of images, for ``reshape``, which finds it out if it is not known."""
    return -1 if x.type.shape[0] is None else x.type.shape[0]


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


def _maximum(x, axis):
    """The maximum along an axis; T.maximum passes the gradient to the first of equal numbers."""
    entries = [x[(slice(None),) * axis + (i,)] for i in range(x.type.shape[axis])]
    return functools.reduce(T.maximum, entries)
