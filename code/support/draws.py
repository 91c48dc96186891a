"""Random numbers in symbolic graphs: where they come from, and how they go on from call to call.

Every draw has a generator of its own, a shared variable. A function that draws anew each time is
one that updates it, so :func:`random_updates` belongs into the updates of every step that draws.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from support.engine import Updates, mode_name, substituted
from support.errors import check

import numpy
import pytensor as theano
import pytensor.tensor as T
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.basic import UniformRV
from pytensor.tensor.random.op import RNGConsumerOp


class RandomStreams:
    """Source of symbolic random draws, each with a generator of its own.

    The same seed and the same order of construction give the same numbers.

    :param seed: non-negative integer
    """

    def __init__(self, seed: int):
        self._seeds = numpy.random.RandomState(seed)

    def generator(self) -> SharedVariable:
        """A new shared generator, for graphs that thread it through a scan themselves."""
        return T.random.shared_rng(seed=int(self._seeds.randint(2 ** 30)))

    def uniform(self, size: Any) -> Variable:
        """Draws from U(0, 1) in floatX, of shape ``size``."""
        return self.generator().uniform(0, 1, size=size, dtype=theano.config.floatX)[1]

    def normal(self, size: Any) -> Variable:
        """Draws from N(0, 1) in floatX, of shape ``size``."""
        draws = self.generator().normal(0, 1, size=size, dtype=theano.config.floatX)[1]
        return T.cast(draws, theano.config.floatX)

    def bernoulli(self, size: Any, p: Any) -> Variable:
        """Draws that are 1 with probability ``p`` and 0 otherwise in floatX, of shape ``size``."""
        # One comparison is many times faster than the engine's own binomial draw. p comes first,
        # because the engine looks there for the shape of the result, which JAX has to know.
        uniform = self.uniform(size)
        uniform.tag.is_only_compared = True
        return T.cast(T.gt(p, uniform), theano.config.floatX)


def random_updates(*outputs: Variable, blockers: Sequence[Variable] = ()) -> Updates:
    """The updates by which the generators behind ``outputs`` go on from call to call.

    :param blockers: variables behind which not to look
    """
    updates = {}
    for variable in ancestors(outputs, blockers=blockers):
        if variable.owner is not None and isinstance(variable.owner.op, RNGConsumerOp):
            updates.update(variable.owner.op.update(variable.owner))
    return [(rng, new) for rng, new in updates.items() if isinstance(rng, SharedVariable)]


def chain(step: Callable[[Variable], list[Variable]], start: Variable,
          n_steps: int) -> tuple[list[Variable], Updates]:
    """A Markov chain: ``n_steps`` times, what ``step`` returns last goes into it again.

    :param step: from a state to a list of graphs that ends with the next state; its random draws
        are new at every step, from distributions that do not depend on the state
    :param start: the first state
    :param n_steps: at least 1
    :return: what the last step returns, and the updates of the generators that the steps use
    :raises UserError: when there is no step to take
    """
    check(1, k=n_steps)
    if n_steps == 1:
        outputs = step(start)
        return outputs, random_updates(*outputs, blockers=[start])
    state = start.type()
    outputs = step(state)
    inside = []  # what one step draws
    drawn, updates = [], []  # what all steps draw, at once: half the work of one after the other
    for rng, new in random_updates(*outputs):
        node = new.owner
        draw, size = node.outputs[1], substituted([node.inputs[1]], {state: start})[0]
        is_coarse = mode_name() == 'JAX' and getattr(draw.tag, 'is_only_compared', False)
        new, draws = (_coarse_uniform() if is_coarse else node.op).make_node(
            rng, [n_steps, *(size[i] for i in range(draw.type.ndim))], *node.inputs[2:]).outputs
        for axis in range(1, draws.type.ndim):
            # One too many, because a scan does not take a length of 1 where it knows none.
            first = draws[(slice(None),) * axis + (slice(1),)]
            draws = T.concatenate([draws, first], axis=axis)
        inside.append(draw)
        drawn.append(draws)
        updates.append((rng, new))

    def one_step(*arguments):
        *drawn_now, state_now = arguments
        drawn_now = [draws[(slice(-1),) * draws.type.ndim] for draws in drawn_now]
        return substituted(
            outputs, {state: state_now} | dict(zip(inside, drawn_now, strict=True)))

    def next_state(*arguments):
        return T.specify_shape(one_step(*arguments)[-1], start.type.shape)

    # The last step stands outside: a scan would keep what every step returns.
    before_last = theano.scan(next_state, sequences=[draws[:-1] for draws in drawn],
                              outputs_info=[start], n_steps=n_steps - 1, return_updates=False)
    return one_step(*[draws[-1] for draws in drawn], before_last[-1]), updates


@functools.cache
def _coarse_uniform():
    """U(0, 1) in steps of 2 ** -16 for JAX mode, in a third of the time.

    Random numbers take a fifth of a Gibbs step. A probability that is compared with these is
    rounded by at most 2 ** -17, and is 0 below that: fewer than one in a hundred draws of an image
    of 784 pixels come out otherwise.
    """
    import jax
    from pytensor.link.jax.dispatch.random import jax_sample_fn

    class CoarseUniformRV(UniformRV):
        pass

    @jax_sample_fn.register(CoarseUniformRV)
    def sample_function(op, node):
        def sample(key, shape, dtype, low, high):
            n_steps, *shape_of_step = shape
            bits = random_bits(jax.random.key_data(key), (-(-n_steps // 2), *shape_of_step))
            halves = jax.numpy.concatenate([bits >> 16, bits & 0xffff])[:n_steps]
            return low + (high - low) * (halves.astype(dtype) + 0.5) * 2. ** -16
        return sample

    return CoarseUniformRV(name='coarse_uniform')


def random_bits(key: Any, shape: Sequence[int]) -> Any:
    """The bits of ``jax.random.bits``, in a quarter of the time: the generator Threefry-2x32.

    JAX computes it round by round, each for all numbers; here XLA sees all rounds at once, and
    takes a few numbers through them at a time. (J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel
    random numbers: as easy as 1, 2, 3", 2011.)

    :param key: JAX array of two uint32
    :return: JAX array, uint32; the same as JAX's with ``jax_threefry_partitionable`` off, if their
        number is even
    """
    from jax import lax
    from jax import numpy as jnp

    n_pairs = -(-math.prod(shape) // 2)
    keys = [key[0], key[1], key[0] ^ key[1] ^ numpy.uint32(0x1bd11bda)]
    count = lax.iota('uint32', n_pairs)
    left, right = count + keys[0], count + numpy.uint32(n_pairs) + keys[1]
    for group in range(5):
        for rotation in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            left = left + right
            right = (right << rotation | right >> 32 - rotation) ^ left
        left = left + keys[(group + 1) % 3]
        right = right + keys[(group + 2) % 3] + numpy.uint32(group + 1)
    return jnp.concatenate([left, right])[:math.prod(shape)].reshape(shape)
