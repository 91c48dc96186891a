"""Draw the diagrams of the book, ``images/*.svg``: ``python doc/diagrams.py``.

Units are circles, layers are rows of them; dark ink on no ground, for the page to put a light one
behind.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

IMAGES = Path(__file__).resolve().parent / 'images'
INK, GREY, PALE = '#22303c', '#5b6874', '#8a97a3'
BLUE, ORANGE, GREEN = '#3a6ea5', '#c8642b', '#3f8f5b'
RADIUS = 0.28

Point = tuple[float, float]


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty drawing, whose unit is a third of an inch or so."""
    figure = Figure(figsize=(width * 0.55, height * 0.55))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height), aspect='equal')
    axes.axis('off')
    return figure, axes


def save(figure: Figure, name: str) -> None:
    """Write the SVG, the same bytes for the same drawing."""
    with matplotlib.rc_context({'svg.hashsalt': name, 'svg.fonttype': 'path'}):
        figure.savefig(IMAGES / f'{name}.svg', transparent=True, bbox_inches='tight',
                       pad_inches=0.05, metadata={'Date': None, 'Creator': None})


def row(n: int, centre: Point, spacing: float = 1.) -> list[Point]:
    """Places of n units side by side."""
    return [(centre[0] + (i - (n - 1) / 2) * spacing, centre[1]) for i in range(n)]


def units(axes: Axes, places: Iterable[Point], colour: str = BLUE, labels: Iterable[str] = (),
          radius: float = RADIUS) -> None:
    """Circles, with or without something written inside."""
    for place in places:
        axes.add_patch(Circle(place, radius, facecolor='white', edgecolor=colour, linewidth=1.6,
                              zorder=3))
    for place, label in zip(places, labels, strict=False):
        write(axes, place, label, size=9)


def write(axes: Axes, place: Point, text: str, size: float = 11, colour: str = INK,
          side: str = 'center') -> None:
    """Text around, left or right of a place."""
    axes.text(*place, text, fontsize=size, color=colour, ha=side, va='center', zorder=5)


def line(axes: Axes, start: Point, end: Point, colour: str = PALE, width: float = 0.9,
         style: str = '-') -> None:
    """A connection without direction."""
    axes.plot([start[0], end[0]], [start[1], end[1]], color=colour, linewidth=width,
              linestyle=style, zorder=1)


def arrow(axes: Axes, start: Point, end: Point, colour: str = INK, bend: float = 0.,
          gap: float = 12., style: str = '-', width: float = 1.3) -> None:
    """An arrow that keeps a gap, in points, from both its ends."""
    axes.add_patch(FancyArrowPatch(
        start, end, arrowstyle='-|>', mutation_scale=12, color=colour, linewidth=width,
        connectionstyle=f'arc3,rad={bend}', shrinkA=gap, shrinkB=gap, linestyle=style, zorder=2))


def connect(axes: Axes, below: list[Point], above: list[Point], colour: str = PALE) -> None:
    """Every unit of one layer with every unit of another."""
    for start in below:
        for end in above:
            line(axes, start, end, colour)


def box(axes: Axes, centre: Point, width: float, height: float, text: str,
        colour: str = BLUE) -> None:
    """A layer as a box with its name."""
    axes.add_patch(FancyBboxPatch((centre[0] - width / 2, centre[1] - height / 2), width, height,
                                  boxstyle='round,pad=0.02,rounding_size=0.15', facecolor='white',
                                  edgecolor=colour, linewidth=1.6, zorder=3))
    write(axes, centre, text)


def grid(axes: Axes, corner: Point, rows: int, columns: int, cell: float = 0.5,
         colour_of: Callable[[int, int], str] = lambda i, j: 'white') -> None:
    """Cells of an array, row by row from its top left corner."""
    for i in range(rows):
        for j in range(columns):
            axes.add_patch(Rectangle(
                (corner[0] + cell * j, corner[1] - cell * (i + 1)), cell, cell,
                facecolor=colour_of(i, j), edgecolor=PALE, linewidth=0.5))


def frame(axes: Axes, corner: Point, size: float, colour: str) -> None:
    """A square around cells, from its top left corner."""
    axes.add_patch(Rectangle((corner[0], corner[1] - size), size, size, facecolor='none',
                             edgecolor=colour, linewidth=2.2, zorder=4))


def mlp() -> Figure:
    """Input, hidden layer and softmax of a multilayer perceptron."""
    figure, axes = canvas(11, 6.4)
    layers = [row(5, (4, 1)), row(6, (4, 3.2)), row(3, (4, 5.4))]
    for below, above in zip(layers, layers[1:], strict=False):
        connect(axes, below, above)
    for places, colour in zip(layers, (INK, BLUE, ORANGE), strict=True):
        units(axes, places, colour)
    for height, text in ((1, '$x$: an image'), (3.2, r'$h = \tanh(x W^{(1)} + b^{(1)})$'),
                         (5.4, r'$\mathrm{softmax}(h W^{(2)} + b^{(2)})$')):
        write(axes, (7.1, height), text, side='left')
    write(axes, (7.1, 2.1), '$W^{(1)}, b^{(1)}$', colour=GREY, side='left')
    write(axes, (7.1, 4.3), '$W^{(2)}, b^{(2)}$', colour=GREY, side='left')
    return figure


def sparse_connectivity() -> Figure:
    """Three layers whose units look at three neighbours each."""
    figure, axes = canvas(10, 5.6)
    layers = [row(7, (4, 0.8)), row(5, (4, 2.7)), row(3, (4, 4.6))]
    for below, above in zip(layers, layers[1:], strict=False):
        for i, place in enumerate(above):
            seen = (i == 1) if above is layers[2] else (0 < i < 4)
            for j in range(i, i + 3):
                line(axes, below[j], place, ORANGE if seen else PALE, 1.5 if seen else 0.9)
    for places, colour in zip(layers, (INK, BLUE, BLUE), strict=True):
        units(axes, places, colour)
    units(axes, [layers[2][1]], ORANGE)
    units(axes, layers[1][1:4], ORANGE)
    units(axes, layers[0][1:6], ORANGE)
    for height, text in ((0.8, 'layer $l - 1$'), (2.7, 'layer $l$'), (4.6, 'layer $l + 1$')):
        write(axes, (7.7, height), text, side='left')
    return figure


def shared_weights() -> Figure:
    """Three units of a feature map, with equal weights in equal colours."""
    figure, axes = canvas(12, 3.8)
    below, above = row(5, (3.2, 0.8)), row(3, (3.2, 2.9))
    for i, place in enumerate(above):
        for j, colour in enumerate((GREEN, ORANGE, BLUE)):  # a convolution flips the filter
            line(axes, below[i + j], place, colour, 1.8)
    units(axes, below, INK, [f'$x_{i}$' for i in range(5)])
    units(axes, above, INK, [f'$h_{i}$' for i in range(3)])
    for j, (colour, text) in enumerate(((BLUE, '$w_0$'), (ORANGE, '$w_1$'), (GREEN, '$w_2$'))):
        line(axes, (6.4, 2.6 - 0.75 * j), (7.4, 2.6 - 0.75 * j), colour, 1.8)
        write(axes, (7.7, 2.6 - 0.75 * j), f'{text}, the same everywhere', side='left', size=9)
    return figure


def convolution_as_matrix() -> Figure:
    """The banded matrix by which a row of six pixels is convolved with three weights."""
    figure, axes = canvas(13, 6.2)
    n_in, n_out = 6, 4
    left, top = 3.4, 5.4
    for i in range(n_in):
        for j in range(n_out):
            weight = i - j
            inside = 0 <= weight < 3
            axes.add_patch(Rectangle(
                (left + 1.0 * j, top - 0.8 * (i + 1)), 1.0, 0.8, edgecolor=PALE, linewidth=0.8,
                facecolor=('#d7e4f1', '#f6ddcf', '#d6eadc')[weight] if inside else 'white'))
            write(axes, (left + 1.0 * j + 0.5, top - 0.8 * (i + 0.5)),
                  f'$w_{2 - weight}$' if inside else '0', size=10,
                  colour=INK if inside else GREY)
    write(axes, (1.5, top - 0.8 * 3), '$(x_0, \\ldots, x_5)$')
    write(axes, (2.95, top - 0.8 * 3), r'$\cdot$', size=16)
    write(axes, (left + 4.4, top - 0.8 * 3), '$=$')
    write(axes, (left + 6.6, top - 0.8 * 3), '$(a_0, \\ldots, a_3)$')
    write(axes, (left + 2, 0.25), '$a_j = w_0 x_{j+2} + w_1 x_{j+1} + w_2 x_j$', size=10)
    return figure


def patch_and_block() -> Figure:
    """The patch of an image from which a block of a map is computed, and the matrix between."""
    figure, axes = canvas(19, 6.6)

    image, out = (0.5, 5.4), (16.2, 4.4)
    grid(axes, image, 8, 8)
    frame(axes, image, 3, ORANGE)
    frame(axes, (image[0] + 1, image[1]), 3, BLUE)
    write(axes, (2.5, 5.9), 'image and two patches', size=10)
    # A row of the matrix for each place of the block, and a column for each pixel of the patch.
    grid(axes, (5.9, 4.0), 4, 36, 0.25, lambda i, j: '#f6ddcf' if (
        0 <= j // 6 - i // 2 < 5 and 0 <= j % 6 - i % 2 < 5) else 'white')
    write(axes, (10.4, 4.5), '$B(w)$: 4 rows, 36 columns', size=10)
    write(axes, (10.4, 2.5), 'white is 0; the same for all patches', size=10)
    arrow(axes, (4.5, 3.5), (5.9, 3.5), gap=3)
    arrow(axes, (14.9, 3.5), (16.2, 3.5), gap=3)
    grid(axes, out, 4, 4)
    frame(axes, out, 1, ORANGE)
    frame(axes, (out[0] + 1, out[1]), 1, BLUE)
    write(axes, (17.2, 4.9), 'map and two blocks', size=10)
    return figure


def lenet() -> Figure:
    """LeNet from the image at the bottom to the classes at the top, with the sizes of its maps."""
    figure, axes = canvas(10, 13.6)
    centre, right, bottom = 2.4, 4.9, 0.2
    before = None
    # Sizes are in pixels, drawn to one scale; a few maps stand for all of a layer.
    for n, size, colour, text, step in (
            (1, 28, INK, r'$28 \times 28$ pixels', ''),
            (5, 24, BLUE, r'20 maps, $24 \times 24$', r'convolution, $5 \times 5$'),
            (5, 12, BLUE, r'20 maps, $12 \times 12$', r'max-pooling, $2 \times 2$'),
            (9, 8, GREEN, r'50 maps, $8 \times 8$', r'convolution, $5 \times 5$'),
            (9, 4, GREEN, r'50 maps, $4 \times 4$', r'max-pooling, $2 \times 2$'),
            (12, 4, BLUE, '500 hidden units', '800 numbers, tanh'),
            (10, 4, ORANGE, '10 classes', 'softmax')):
        side = 0.07 * size
        if before is not None:
            arrow(axes, (centre, before), (centre, bottom), gap=11)
            write(axes, (right, (before + bottom) / 2), step, 12, GREY, 'left')
        if text.startswith(('500', '10')):
            units(axes, row(n, (centre, bottom + side / 2), 0.36), colour, radius=side / 2)
        else:
            for x, _ in reversed(row(n, (centre, bottom), 0.14)):  # the frontmost comes last
                axes.add_patch(Rectangle(
                    (x - side / 2, bottom + (x - centre) * 0.6), side, side, facecolor='white',
                    edgecolor=colour, linewidth=1.6, zorder=3))
        write(axes, (right, bottom + side / 2), text, 12, side='left')
        before, bottom = bottom + side, bottom + side + 1.2
    return figure


def one_filter() -> Figure:
    """One filter of LeNet's second layer: products, their sum over the channels, and pooling."""
    figure, axes = canvas(10, 8.2)
    above, maximum = (5.9, 5.2), (8.7, 4.8)
    for channel, top in ((1, 7.4), (2, 5.4), (20, 2.4)):
        grid(axes, (0.7, top), 12, 12, 0.13)
        frame(axes, (0.7 + 0.13 * 4, top - 0.13 * 2), 0.13 * 5, ORANGE)
        write(axes, (0.3, top - 0.78), f'{channel}', 12)
        write(axes, (2.6, top - 0.78), r'$\times$', 14)
        grid(axes, (2.95, top - 0.33), 5, 5, 0.18, lambda i, j: '#f6ddcf')
        arrow(axes, (3.6, top - 0.78), (4.9, 4.3), ORANGE, gap=16)
    for x in (1.48, 3.4):
        write(axes, (x, 3.1), r'$\vdots$', 16)
    units(axes, [(4.9, 4.3)], ORANGE, radius=0.36)
    write(axes, (4.9, 4.3), r'$\Sigma$', 12)
    grid(axes, above, 8, 8, 0.22)
    frame(axes, (above[0] + 0.22 * 4, above[1] - 0.22 * 2), 0.22, ORANGE)
    frame(axes, (above[0] + 0.22 * 4, above[1] - 0.22 * 2), 0.22 * 2, BLUE)
    arrow(axes, (5.26, 4.36), (above[0] + 0.22 * 4, above[1] - 0.22 * 2.5), ORANGE, gap=2)
    grid(axes, maximum, 4, 4, 0.25)
    frame(axes, (maximum[0] + 0.25 * 2, maximum[1] - 0.25), 0.25, BLUE)
    arrow(axes, (above[0] + 0.22 * 6, above[1] - 0.22 * 3),
          (maximum[0] + 0.25 * 2, maximum[1] - 0.25 * 1.5), BLUE, gap=3)
    for x, height, text, colour in (
            (1.48, 7.8, r'$12 \times 12$', INK), (3.4, 7.8, r'$5 \times 5$', INK),
            (6.78, 5.6, r'one map, $8 \times 8$', INK), (9.2, 5.2, r'$4 \times 4$', INK),
            (1.48, 0.4, '20 maps', INK), (3.7, 0.4, '500 weights', INK),
            (6.9, 7.0, '500 products, one sum', ORANGE), (7.9, 3.0, 'the largest of four', BLUE)):
        write(axes, (x, height), text, 12, colour)
    return figure


def rbm() -> Figure:
    """Visible and hidden units of an RBM: no connections within a layer."""
    figure, axes = canvas(9.5, 4.4)
    visible, hidden = row(5, (3.3, 0.9)), row(4, (3.3, 3.2))
    connect(axes, visible, hidden)
    units(axes, visible, INK, [f'$v_{i + 1}$' for i in range(5)])
    units(axes, hidden, BLUE, [f'$h_{i + 1}$' for i in range(4)])
    for height, text, colour in ((0.9, 'visible units, vbias $b_v$', INK),
                                 (2.05, 'weights $W$', GREY),
                                 (3.2, 'hidden units, hbias $b_h$', INK)):
        write(axes, (6.1, height), text, side='left', size=10, colour=colour)
    return figure


def gibbs_chain() -> Figure:
    """A Gibbs chain that begins at an example: up, down, up, down."""
    figure, axes = canvas(14, 4.2)
    visible = [(1 + 3.4 * i, 0.9) for i in range(3)] + [(12.3, 0.9)]
    hidden = [(2.7 + 3.4 * i, 3.1) for i in range(3)]
    for i in range(2):
        arrow(axes, visible[i], hidden[i], BLUE, gap=17)
        arrow(axes, hidden[i], visible[i + 1], ORANGE, gap=17)
    arrow(axes, visible[2], hidden[2], BLUE, gap=17)
    arrow(axes, hidden[2], visible[3], ORANGE, gap=17, style='--')
    units(axes, visible, INK, ['$v^{(0)}$', '$v^{(1)}$', '$v^{(2)}$', '$v^{(k)}$'], 0.5)
    units(axes, hidden, BLUE, ['$h^{(0)}$', '$h^{(1)}$', '$h^{(2)}$'], 0.5)
    write(axes, (1, 0.1), 'an example', size=9)
    write(axes, (12.3, 0.1), 'nearly a sample', size=9)
    write(axes, (0.6, 2.3), r'$P(h \mid v)$', size=10, colour=BLUE)
    write(axes, (4.95, 2.4), r'$P(v \mid h)$', size=10, colour=ORANGE)
    return figure


def dbn() -> Figure:
    """A deep belief network: directed layers under an RBM."""
    figure, axes = canvas(12, 7)
    layers = [row(5, (3.3, 0.8 + 1.8 * i)) for i in range(4)]
    for below, above in zip(layers[:2], layers[1:3], strict=True):
        for start in above:
            for end in below:
                line(axes, start, end)
    connect(axes, layers[2], layers[3], ORANGE)
    for places, colour in zip(layers, (INK, BLUE, BLUE, BLUE), strict=True):
        units(axes, places, colour)
    for i, text in enumerate(('$x$', '$h^{(1)}$', '$h^{(2)}$', '$h^{(3)}$')):
        write(axes, (6.1, 0.8 + 1.8 * i), text, side='left')
    for height, text, colour in ((1.7, r'$P(x \mid h^{(1)})$', INK),
                                 (3.5, r'$P(h^{(1)} \mid h^{(2)})$', INK)):
        arrow(axes, (7.4, height + 0.7), (7.4, height - 0.7), colour, gap=0)
        write(axes, (7.8, height), text, side='left', size=10)
    write(axes, (7.8, 5.3), '$p(h^{(2)}, h^{(3)})$, an RBM', side='left', size=10, colour=ORANGE)
    return figure


def rnnrbm() -> Figure:
    """An RNN-RBM unrolled over three time steps."""
    figure, axes = canvas(14, 7.2)
    steps = [3.5, 7.3, 11.1]
    states = [(x, 1) for x in (0.6, *steps)]
    for t, x in enumerate(steps):
        v, h, u = (x, 3.5), (x, 6.2), (x, 1)
        line(axes, v, h, ORANGE, 2)
        arrow(axes, v, u, BLUE, gap=18)
        before = states[t]
        arrow(axes, before, u, BLUE, gap=18)
        arrow(axes, before, v, GREEN, gap=18)
        arrow(axes, before, h, GREEN, gap=18, bend=-0.12)
        units(axes, [h], ORANGE, [f'$h_{t + 1}$'], 0.5)
        units(axes, [v], INK, [f'$v_{t + 1}$'], 0.5)
        units(axes, [u], BLUE, [f'$u_{t + 1}$'], 0.5)
    units(axes, [states[0]], BLUE, ['$u_0$'], 0.5)
    write(axes, (11.75, 4.85), '$W$', size=10, colour=ORANGE)
    write(axes, (11.75, 2.3), '$W_{vu}$', size=10, colour=BLUE)
    write(axes, (9.2, 0.6), '$W_{uu}$', size=10, colour=BLUE)
    write(axes, (9.75, 2.1), '$W_{uv}$', size=10, colour=GREEN)
    write(axes, (7.7, 5.0), '$W_{uh}$', size=10, colour=GREEN)
    return figure


def sda_facades() -> Figure:
    """Two views on the same weights: a stack of dAs, and an MLP."""
    figure, axes = canvas(16, 8.6)
    levels = [0.8, 2.8, 4.8, 6.8]
    names = ['$x$', '$h^{(1)}$', '$h^{(2)}$', '$h^{(3)}$']
    for level, name in zip(levels, names, strict=True):
        box(axes, (3, level), 2.6, 0.8, name, INK if level == levels[0] else BLUE)
        box(axes, (12.4, level), 2.6, 0.8, name, INK if level == levels[0] else BLUE)
    box(axes, (12.4, 8.1), 2.6, 0.7, 'softmax', ORANGE)
    for i in range(3):
        arrow(axes, (2.6, levels[i]), (2.6, levels[i + 1]), BLUE, gap=13)
        arrow(axes, (3.4, levels[i + 1]), (3.4, levels[i]), GREEN, gap=13)
        arrow(axes, (12.4, levels[i]), (12.4, levels[i + 1]), BLUE, gap=13)
        write(axes, (7.7, levels[i] + 1), f'$W^{{({i + 1})}}, b^{{({i + 1})}}$', colour=BLUE)
        line(axes, (4.4, levels[i] + 1), (6.5, levels[i] + 1), style=':')
        line(axes, (8.9, levels[i] + 1), (11.6, levels[i] + 1), style=':')
        write(axes, (0.7, levels[i] + 1), f'dA {i + 1}')
    arrow(axes, (12.4, levels[3]), (12.4, 8.1), ORANGE, gap=12)
    write(axes, (3, 0.1), 'dA_layers: pretraining, one after the other', size=9)
    write(axes, (12.4, 0.1), 'sigmoid_layers and logLayer: finetuning', size=9)
    return figure


DIAGRAMS: list[Callable[[], Figure]] = [
    mlp, sparse_connectivity, shared_weights, convolution_as_matrix, patch_and_block, lenet,
    one_filter, rbm, gibbs_chain, dbn, rnnrbm, sda_facades]


if __name__ == '__main__':
    for diagram in DIAGRAMS:
        save(diagram(), diagram.__name__)
