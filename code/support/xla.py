"""Without this file everything still works, only slower: it tunes graphs for one compiler, XLA.

Nothing here changes a number beyond rounding. To do without it, delete it and the two lines of
``engine`` that name it.
"""

from collections.abc import Sequence

import pytensor as theano
import pytensor.tensor as T
from pytensor.graph.basic import Variable
from pytensor.graph.rewriting.basic import node_rewriter
from pytensor.graph.traversal import ancestors, toposort
from pytensor.tensor.elemwise import DimShuffle
from pytensor.tensor.math import Dot
from pytensor.tensor.rewriting.basic import register_specialize


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
    if (row.type.ndim == 2 and row.type.shape[0] == 1 and transposed.owner is not None
            and isinstance(transposed.owner.op, DimShuffle)
            and transposed.owner.op.new_order == (1, 0)):
        W = transposed.owner.inputs[0]
        if W.type.shape[0] not in (1, None):  # or the result would be a row times a transpose again
            return [T.dot(W, row.T).T]
    return None
