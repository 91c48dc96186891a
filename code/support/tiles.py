"""Pictures: many small images side by side, such as the filters of a layer or samples of a model.

A filter is the column of weights that lead from all pixels to one hidden unit. It has as many
entries as an image has pixels, so it can be looked at as an image: of what the unit responds to.
"""

import math
import os
from pathlib import Path

from support.errors import UserError, check
from support.folders import written_atomically

import numpy
from PIL import Image, ImageDraw, ImageFont


def scale_to_unit_interval(ndar: numpy.ndarray, eps: float = 1e-8) -> numpy.ndarray:
    """Scale the values of an array: `(x - min) / (max - min + eps)`, so that they lie in [0, 1].

    :param eps: makes an array of equal values 0 everywhere, instead of dividing by 0
    :returns: a new array, float32 or float64, whichever holds the type of the old one
    """
    # At least float32: eps would be 0 in a float16, and integers have no fractions.
    ndar = ndar.astype(numpy.result_type(ndar, numpy.float32))
    # Weights that have diverged (NaN, infinity) give NaN without a warning: the picture shows it.
    with numpy.errstate(invalid='ignore', over='ignore'):
        ndar -= ndar.min()
        ndar /= ndar.max() + eps
    return ndar


def tile_raster_images(
    X: numpy.ndarray | tuple[numpy.ndarray | None, ...],
    img_shape: tuple[int, int],
    tile_shape: tuple[int, int],
    tile_spacing: tuple[int, int] = (0, 0),
    scale_rows_to_unit_interval: bool = True,
    output_pixel_vals: bool = True,
) -> numpy.ndarray:
    """Arrange images in a grid, row by row, from the top left, with nothing around it.

    Places without an image, and the space between images, are 0. Images for which there is no
    place are left out.

    :param X: one image a row, (n_images, height * width); or a tuple of four such arrays of one
        shape: red, green, blue and alpha. Instead of an array there may be None: a colour that is
        0, an alpha that is opaque, over the whole picture
    :param img_shape: (height, width) of an image
    :param tile_shape: how many images there are (above each other, side by side)
    :param tile_spacing: how many pixels lie between (rows, columns) of images
    :param scale_rows_to_unit_interval: scale each row of X, in each channel for itself, from its
        own minimum and maximum to [0, 1]; otherwise the values should lie there already
    :param output_pixel_vals: give pixels, uint8 from 0 to 255: what lies outside [0, 1] is cut
        off, and NaN is 0. Otherwise give the values in the dtype of X, an opaque alpha being 1;
        where integers are scaled, in the float type they are scaled to
    :returns: (out_height, out_width), or (out_height, out_width, 4) for four channels, with
        out_height = (height + spacing) * tiles - spacing, and the same for the width
    :raises UserError: for shapes that do not fit
    """
    check(1, img_shape=img_shape, tile_shape=tile_shape)
    check(0, tile_spacing=tile_spacing)

    def tiled(x: numpy.ndarray) -> numpy.ndarray:
        return tile_channel(numpy.asarray(x), img_shape, tile_shape, tile_spacing,
                            scale_rows_to_unit_interval, output_pixel_vals)

    if not isinstance(X, tuple):
        return tiled(X)
    shapes = {numpy.shape(x) for x in X if x is not None}
    if len(X) != 4 or len(shapes) != 1:
        raise UserError(f'`X` is a tuple of {len(X)} channels, of the shapes {sorted(shapes)}: '
                        'give red, green, blue and alpha, each None or of one and the same shape.')
    channels = [None if x is None else tiled(x) for x in X]
    example = next(channel for channel in channels if channel is not None)
    defaults = (0, 0, 0, 255 if output_pixel_vals else 1)
    return numpy.stack([numpy.full_like(example, default) if channel is None else channel
                        for channel, default in zip(channels, defaults, strict=True)], axis=-1)


def tile_channel(x: numpy.ndarray, img_shape: tuple[int, int], tile_shape: tuple[int, int],
                 tile_spacing: tuple[int, int], scale_rows_to_unit_interval: bool,
                 output_pixel_vals: bool) -> numpy.ndarray:
    """What :func:`tile_raster_images` does, for one channel."""
    height, width = img_shape
    n_rows, n_columns = tile_shape
    if x.dtype.kind not in 'biuf' or x.ndim != 2 or x.shape[1] != height * width:
        raise UserError(f'`X` is {x.dtype} of shape {x.shape}: give numbers of shape (n_images, '
                        f'{height * width}), for images of {height} x {width}.')
    dtype = x.dtype
    if output_pixel_vals:
        dtype = numpy.dtype(numpy.uint8)
    elif scale_rows_to_unit_interval and dtype.kind != 'f':
        dtype = numpy.result_type(dtype, numpy.float32)  # of [0, 1], integers would keep nothing

    # Each cell holds one image, and the space that follows it below and on the right.
    full_height, full_width = height + tile_spacing[0], width + tile_spacing[1]
    cells = numpy.zeros((n_rows * n_columns, full_height, full_width), dtype)
    for cell, values in zip(cells, x, strict=False):  # until the places or the images end
        if scale_rows_to_unit_interval:
            values = scale_to_unit_interval(values)
        if output_pixel_vals:
            values = numpy.nan_to_num(255.0 * numpy.clip(values, 0, 1))  # and rounded down
        cell[:height, :width] = values.reshape(img_shape)

    grid = cells.reshape(n_rows, n_columns, full_height, full_width)
    grid = grid.swapaxes(1, 2)  # (n_rows, full_height, n_columns, full_width)
    picture = grid.reshape(n_rows * full_height, n_columns * full_width)
    # No space follows the last images.
    return picture[:len(picture) - tile_spacing[0], :picture.shape[1] - tile_spacing[1]]


def save_filters(path: str | os.PathLike, W: numpy.ndarray, img_shape: tuple[int, int],
                 tile_shape: tuple[int, int] = (10, 10)) -> None:
    """Write a picture of the first filters of a layer, each scaled for itself, one pixel apart.

    :param W: weights, (n_visible, n_hidden); the filters are its columns
    :param img_shape: (height, width) of an image, with height * width = n_visible
    :param tile_shape: how many filters there are (above each other, side by side)
    :raises UserError: for shapes that do not fit
    """
    save_picture(path, tile_raster_images(W.T, img_shape, tile_shape, tile_spacing=(1, 1)))


def save_with_words(path: str | os.PathLike, X: numpy.ndarray, img_shape: tuple[int, int],
                    words: list[str]) -> None:
    """Write a picture of images, enlarged to at least 84 pixels, with words beside each.

    :param X: one image a row, (n_images, height * width), from 0 to 1
    :param words: for each image; what stands behind a semicolon goes into a line of its own
    """
    times = -(-84 // min(img_shape))
    images = tile_raster_images(X, img_shape, (len(X), 1), scale_rows_to_unit_interval=False)
    images = images.repeat(times, axis=0).repeat(times, axis=1)
    font = ImageFont.load_default(16)
    texts = [text.replace('; ', '\n') for text in words]
    room = max(font.getlength(line) for text in texts for line in text.split('\n'))
    picture = Image.new('L', (images.shape[1] + 16 + math.ceil(room), len(images)))
    picture.paste(Image.fromarray(images), (0, 0))
    for i, text in enumerate(texts):
        ImageDraw.Draw(picture).multiline_text(
            (images.shape[1] + 8, i * times * img_shape[0] + 8), text, fill=255, font=font)
    save_picture(path, numpy.asarray(picture))


def save_picture(path: str | os.PathLike, pixels: numpy.ndarray) -> None:
    """Write a picture as PNG, so that under this name there is never half a picture.

    :param path: where the file goes, whatever its name; its folder must exist
    :param pixels: uint8, (height, width) for grey or (height, width, 4) for RGBA
    """
    image = Image.fromarray(pixels)
    # Not durable: a picture that a power cut takes can be drawn again from the model.
    with written_atomically(Path(path), durable=False) as file:
        image.save(file, format='PNG')


def save_piano_roll(path: Path, piano_roll: numpy.ndarray, r: tuple[int, int],
                    dt: float) -> None:
    """Draw a piano-roll (time steps, r[1] - r[0]): time to the right, pitch upwards."""
    from matplotlib.figure import Figure  # slow to import, and needed only here

    figure = Figure(figsize=(10, 5), layout='constrained')
    axes = figure.subplots()
    # A frame lies between its time and the next one's, a note half above and half below its number.
    axes.imshow(piano_roll.T, origin='lower', aspect='auto', interpolation='nearest',
                cmap='gray_r', vmin=0, vmax=1,
                extent=(0, dt * len(piano_roll), r[0] - 0.5, r[1] - 0.5))
    axes.set(xlabel='time (s)', ylabel='MIDI note number', title='generated piano-roll')
    with written_atomically(path, durable=False) as file:
        figure.savefig(file, format='png', dpi=100)
