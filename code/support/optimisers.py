"""What makes updates of gradients: descent, momentum, clipping.

Each function returns pairs of a shared variable and its new value, as ``theano.function`` takes
them. State of their own, such as a velocity, is among them, and so part of every checkpoint.
"""

from collections.abc import Sequence

from support.engine import Updates

import pytensor as theano
import pytensor.tensor as T
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable


def sgd_updates(cost: Variable, params: Sequence[SharedVariable],
                learning_rate: Variable | float) -> Updates:
    """Stochastic gradient descent: ``param - learning_rate * d cost / d param`` for each one.

    :param cost: scalar
    """
    return momentum_updates(params, T.grad(cost, list(params)), learning_rate)


def momentum_updates(params: Sequence[SharedVariable], gradients: Sequence[Variable],
                     learning_rate: Variable | float, momentum: float = 0.) -> Updates:
    """Descent with inertia: velocity' = momentum * velocity - learning_rate * gradient, and
    param' = param + velocity'."""
    updates = []
    for param, gradient in zip(params, gradients, strict=True):
        step = T.cast(learning_rate, param.dtype) * gradient
        if momentum == 0:
            updates.append((param, param - step))
            continue
        velocity = theano.shared(0 * param.get_value(), name=f'{param.name}_velocity')
        new_velocity = T.cast(momentum, param.dtype) * velocity - step
        updates += [(velocity, new_velocity), (param, param + new_velocity)]
    return updates


def clipped(gradients: Sequence[Variable], longest: float) -> list[Variable]:
    """The gradients, all made shorter by one factor where together they are longer than that.

    :param longest: greatest length that is left alone, of all gradients taken as one vector
    """
    length = T.sqrt(sum(T.sum(T.sqr(gradient)) for gradient in gradients))
    factor = T.minimum(1, longest / T.maximum(length, 1e-12))
    return [T.cast(factor, gradient.dtype) * gradient for gradient in gradients]
