"""Without this file everything still works, only slower: it tunes graphs for one compiler, XLA.

Nothing here changes a number beyond rounding. To do without it, delete it and the three lines of
``engine`` that name it.
"""

from collections.abc import Sequence
from typing import Any

import pytensor as theano
import pytensor.tensor as T
from pytensor.compile.mode import Mode, get_mode, optdb
from pytensor.graph.basic import Variable
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.graph.traversal import ancestors, toposort
from pytensor.link.jax import JAXLinker
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.math import Dot, Sum
from pytensor.tensor.rewriting.basic import register_specialize

NARROW = range(2, 33)  # columns


class EigenLinker(JAXLinker):
    """All products are computed by Eigen, none by YNNPACK, the other library that XLA has."""

    def jit_compile(self, fn: Any) -> Any:
        import jax

        if self.scalar_shape_inputs:  # numbers of which shapes are made: they cannot be traced
            return super().jit_compile(fn)
        return jax.jit(fn, compiler_options={'xla_cpu_experimental_ynn_fusion_type': ''})


def mode_for(outputs: Sequence[Variable]) -> Mode | None:
    """The mode in which to compile a function with these outputs; None for the default one.

    XLA gives most products of float32 to YNNPACK, which is somewhat faster than Eigen at a single
    product, and takes twice as long for a batch of products. (72 products of 100 x 500 by 500 x
    40 take 4.8 against 2.6 ms on two cores.)
    """
    mode = get_mode(None)
    if isinstance(mode.linker, JAXLinker) and any(
            isinstance(node.op, Blockwise) and isinstance(node.op.core_op, Dot)
            for node in toposort(outputs)):
        return Mode(EigenLinker(), mode.provided_optimizer)
    return None


def update_last(new_values: Sequence[Variable], states: Sequence[Variable]) -> list[Variable]:
    """The new values of weights, none of them ready before the last product with the old ones.

    XLA changes a matrix in place if it is sure that nobody wants the old one any more, and copies
    it first if not. Backpropagation through several layers leaves it unsure: the weights of a
    layer might change before the error has passed down through them. Adding a zero that is
    computed from that product decides it, and saves a quarter of the time of a step.

    :param new_values: of the variables that a step updates
    :param states: their old values, in the same order
    """
    if str(theano.config.mode) != 'JAX':
        return list(new_values)
    products = [node.out for node in toposort(new_values, blockers=states)
                if isinstance(node.op, Dot) and node.out.type.ndim == 2]
    ready = list(new_values)
    for i, (new, state) in enumerate(zip(new_values, states, strict=True)):
        if not (isinstance(state.type, T.TensorType) and state.type.ndim == 2):
            continue
        awaited = set(ancestors([new], blockers=states))
        others = [product for product in products if product not in awaited
                  and state in ancestors(product.owner.inputs, blockers=[*states, *products])]
        # No optimiser takes this for 0, since it is not if the product is not a number.
        zeros = [T.minimum(T.sqr(product[0, 0]), 0) for product in others]
        ready[i] = sum(zeros, start=new)
    return ready


@register_specialize
@node_rewriter([Dot])
def local_row_times_transpose(fgraph, node):
    """``dot(row, W.T)`` -> ``dot(W, row.T).T``: XLA would write out ``W.T``, element by element.

    For one example at a time that copy takes longer than all of the arithmetic.
    """
    row, transposed = node.inputs
    W = _transposed(transposed)
    if (W is not None and row.type.ndim == 2 and row.type.shape[0] == 1
            # Or the result would be a row times a transpose again.
            and W.type.shape[0] not in (1, None)):
        return [T.dot(W, row.T).T]
    return None


def _transposed(x):
    """The matrix of which ``x`` is the transpose, or None."""
    if (x.owner is not None and isinstance(x.owner.op, DimShuffle)
            and x.owner.op.new_order == (1, 0)):
        return x.owner.inputs[0]
    return None


@node_rewriter([Dot])
def local_narrow_product(fgraph, node):
    """``dot(x.T, d)`` -> ``dot(d.T, x).T`` where ``d`` has few columns, as errors of classes do.

    Both of XLA's libraries are slow at a narrow product with a transpose on the left. XLA would
    turn ours into that one, if there were not a sum between product and transpose.
    """
    transposed, d = node.inputs
    x = _transposed(transposed)
    if (x is None or x.type.shape[1] is None or d.type.ndim != 2
            or d.type.shape[1] not in NARROW or x.type.shape[1] < 4 * d.type.shape[1]):
        return None
    # As in update_last, a zero that is not known to be one.
    return [(T.dot(d.T, x) + T.minimum(T.sqr(d[0, 0]), 0)).T]


# Last of all, or the engine would exchange the sum and the transpose.
optdb.register('local_narrow_product', dfs_rewriter(local_narrow_product), 'jax', position=48.9)


@register_specialize
@node_rewriter([Sum])
def local_sum_of_maps(fgraph, node):
    """Sum the maps of a convolution as they lie in memory, where the images are the last axis.

    The engine moves transposition down to what a map is computed from. XLA would write out, for
    the gradient of a bias, all maps in the order (image, map, row, column) before it sums them.
    """
    maps, = node.inputs
    if maps.type.ndim == 4 and node.op.axis == (0, 2, 3) and _has_images_last(maps):
        return [T.sum(_with_images_last(maps), axis=(0, 1, 3))]
    return None


def _has_images_last(maps):
    if maps.owner is not None and isinstance(maps.owner.op, Elemwise):
        return any(map(_has_images_last, maps.owner.inputs))
    return (maps.owner is not None and isinstance(maps.owner.op, DimShuffle)
            and maps.owner.op.new_order == (3, 2, 0, 1))


def _with_images_last(maps):
    if maps.owner is not None and isinstance(maps.owner.op, Elemwise):
        return maps.owner.op(*map(_with_images_last, maps.owner.inputs))
    return maps.dimshuffle(2, 3, 1, 0)  # which takes back a transposition
