"""What makes updates of gradients: descent, momentum, RMSprop, Adam; decay, clipping, averages.

Each function named ``..._updates`` returns pairs of a shared variable and its new value, as
``theano.function`` takes them. State of their own, such as a velocity, is among them, and so part
of every checkpoint. In the formulas p is a parameter, g its gradient, lr the learning rate, and
what has a dash is new; all of them are meant entry by entry.

References:
    - Y. Nesterov, "A method for solving the convex programming problem with convergence rate
      O(1/k^2)", 1983
    - Y. Bengio, N. Boulanger-Lewandowski, R. Pascanu, "Advances in optimizing recurrent networks",
      2013
    - I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the importance of initialization and
      momentum in deep learning", 2013
    - T. Tieleman, G. Hinton, "Lecture 6.5 - RMSProp", 2012
    - D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", 2015
    - I. Loshchilov, F. Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017, for
      the cosine, and "Decoupled weight decay regularization", 2019
    - R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural
      networks", 2013, for clipping
    - B. T. Polyak, A. B. Juditsky, "Acceleration of stochastic approximation by averaging", 1992
"""

import functools
import math
from collections.abc import Callable, Sequence

from support.engine import Updates

import numpy
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
        velocity = zeros_like(param, 'velocity')
        new_velocity = T.cast(momentum, param.dtype) * velocity - step
        updates += [(velocity, new_velocity), (param, param + new_velocity)]
    return updates


def nesterov_updates(params: Sequence[SharedVariable], gradients: Sequence[Variable],
                     learning_rate: Variable | float, momentum: float = 0.9) -> Updates:
    """Momentum that looks ahead, in the form of Nesterov (1983) that takes the gradient where the
    parameters are (Bengio et al., 2013): velocity' = momentum * velocity - lr * g, and
    p' = p + momentum * velocity' - lr * g."""
    updates = []
    for param, gradient in zip(params, gradients, strict=True):
        step = T.cast(learning_rate, param.dtype) * gradient
        velocity = zeros_like(param, 'velocity')
        new_velocity = momentum * velocity - step
        updates += [(velocity, new_velocity), (param, param + momentum * new_velocity - step)]
    return updates


def rmsprop_updates(params: Sequence[SharedVariable], gradients: Sequence[Variable],
                    learning_rate: Variable | float, decay: float = 0.9,
                    epsilon: float = 1e-8) -> Updates:
    """RMSprop (Tieleman and Hinton, 2012): square' = decay * square + (1 - decay) * g ** 2, and
    p' = p - lr * g / (sqrt(square') + epsilon)."""
    updates = []
    for param, gradient in zip(params, gradients, strict=True):
        square = zeros_like(param, 'square')
        new_square = decay * square + (1 - decay) * T.sqr(gradient)
        step = T.cast(learning_rate, param.dtype) * gradient / (T.sqrt(new_square) + epsilon)
        updates += [(square, new_square), (param, param - step)]
    return updates


def adam_updates(params: Sequence[SharedVariable], gradients: Sequence[Variable],
                 learning_rate: Variable | float, beta1: float = 0.9, beta2: float = 0.999,
                 epsilon: float = 1e-8) -> Updates:
    """Adam (Kingma and Ba, 2015), with t' = t + 1 the number of the update, from 1:
    mean' = beta1 * mean + (1 - beta1) * g, square' = beta2 * square + (1 - beta2) * g ** 2, and
    p' = p - lr * mean' / (1 - beta1 ** t') / (sqrt(square' / (1 - beta2 ** t')) + epsilon)."""
    t = theano.shared(numpy.array(0, dtype='int32'), name='t')
    updates = [(t, t + 1)]
    for param, gradient in zip(params, gradients, strict=True):
        mean, square = zeros_like(param, 'mean'), zeros_like(param, 'square')
        new_mean = beta1 * mean + (1 - beta1) * gradient
        new_square = beta2 * square + (1 - beta2) * T.sqr(gradient)
        # The averages begin with zeros; this takes out how much they weigh.
        unbiased_mean, unbiased_square = (
            average / (1 - beta ** T.cast(t + 1, param.dtype))
            for average, beta in ((new_mean, beta1), (new_square, beta2)))
        step = (T.cast(learning_rate, param.dtype) * unbiased_mean
                / (T.sqrt(unbiased_square) + epsilon))
        updates += [(mean, new_mean), (square, new_square), (param, param - step)]
    return updates


def zeros_like(param: SharedVariable, name: str) -> SharedVariable:
    """What an optimiser remembers for each entry of a parameter, zero at first."""
    return theano.shared(numpy.zeros_like(param.get_value()), name=f'{param.name}_{name}')


# What a script may be told to train with. Each takes parameters, gradients and learning rate.
OPTIMISERS: dict[str, Callable[..., Updates]] = {
    'sgd': momentum_updates, 'momentum': functools.partial(momentum_updates, momentum=0.9),
    'nesterov': nesterov_updates, 'rmsprop': rmsprop_updates, 'adam': adam_updates,
}


# Of gradients, updates and learning rates -------------------------------------------------------

def clipped(gradients: Sequence[Variable], longest: float) -> list[Variable]:
    """The gradients, all made shorter by one factor where together they are longer than that.

    :param longest: greatest length that is left alone, of all gradients taken as one vector
    """
    length = T.sqrt(sum(T.sum(T.sqr(gradient)) for gradient in gradients))
    factor = T.minimum(1, longest / T.maximum(length, 1e-12))
    return [T.cast(factor, gradient.dtype) * gradient for gradient in gradients]


def decayed(updates: Updates, weights: Sequence[SharedVariable],
            learning_rate: Variable | float, weight_decay: float) -> Updates:
    """The updates of any optimiser with decoupled weight decay (Loshchilov and Hutter, 2019):
    p' - lr * weight_decay * p for each of the weights. The decay does not go through what the
    optimiser makes of gradients, as that of a penalty in the cost does.

    :param weights: those of the updated variables that are to decay, usually without the biases
    """
    return [(variable, new - T.cast(learning_rate * weight_decay, variable.dtype) * variable
             if variable in weights else new) for variable, new in updates]


def averaged(updates: Updates, params: Sequence[SharedVariable],
             n_updates: int) -> tuple[list[SharedVariable], Updates]:
    """Averages of parameters over the updates, in which the noise of the single ones goes out
    (Polyak and Juditsky, 1992): average' = average + (p' - average) / t, where t counts the
    updates up to ``n_updates``, and then stays there, so that the old ones fade.

    :return: the averages, named as the parameters are, and their updates
    """
    t = theano.shared(numpy.array(0, dtype='int32'), name='n_averaged')
    new_t = T.minimum(t + 1, n_updates)
    averages = [theano.shared(param.get_value(), name=param.name) for param in params]
    of = dict(updates)
    return averages, [(t, new_t)] + [
        (average, average + (of[param] - average) / T.cast(new_t, param.dtype))
        for average, param in zip(averages, params, strict=True)]


def step_decay(start: float, factor: float, n_epochs: int = 1) -> Callable[[int], float]:
    """A schedule: the learning rate is start * factor ** floor(epoch / n_epochs). With steps of
    one epoch it decays exponentially, and with a factor of 1 it is constant.

    :return: gives the rate in an epoch, counted from 0, for ``scalars`` of the training loops
    """
    return lambda epoch: start * factor ** (epoch // n_epochs)


def cosine_decay(start: float, n_epochs: int) -> Callable[[int], float]:
    """A schedule (Loshchilov and Hutter, 2017): the learning rate is
    start * (1 + cos(pi * epoch / n_epochs)) / 2, and 0 from epoch ``n_epochs`` on.

    :return: as in :func:`step_decay`
    """
    return lambda epoch: start * (1 + math.cos(math.pi * min(1, epoch / n_epochs))) / 2
