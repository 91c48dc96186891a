"""What is peculiar to today's Theano, kept in one place so that the chapters need not mention it.

The chapters describe a training step once, as in Theano: inputs, outputs, ``updates`` and
``givens`` on a symbolic minibatch ``index``. :func:`function` compiles that description twice,
each time on first use: into a function of one index, to play with, and into one that runs many
minibatches in a single call, which is what training uses. On a CPU the second one is several
times faster, because a step of these models takes less time than calling a compiled function.
"""

import atexit
import functools
import importlib.util
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy
import pytensor as theano
import pytensor.tensor as T
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from pytensor.graph.replace import vectorize_graph
from pytensor.graph.rewriting.basic import node_rewriter
from pytensor.graph.traversal import ancestors, toposort
from pytensor.tensor.elemwise import DimShuffle
from pytensor.tensor.math import Dot
from pytensor.tensor.random.basic import UniformRV
from pytensor.tensor.random.op import RNGConsumerOp
from pytensor.tensor.random.type import RandomType
from pytensor.tensor.rewriting.basic import register_specialize

from support.errors import UserError

Updates = list[tuple[SharedVariable, Variable]]

# A scoring function looks at about this many examples in one call: enough for the matrix products
# to run at full speed, few enough for the activations to take little memory.
EXAMPLES_PER_SCORING_CALL = 1000

# What JAX mode warns of, and why that does no harm here.
HARMLESS_WARNINGS = (
    # Each compiled function works on a copy of a generator: MinibatchFunction sees to it.
    'The RandomType SharedVariables',
    # Sums ask for a float64 accumulator and argmax for int64, which JAX has with floatX=float64.
    'Explicitly requested dtype (float|int)64',
    # JAX knows every shape when it compiles, and checks what the skipped assertion would.
    'Skipping Assert',
)


def set_default_flags() -> None:
    """Set the engine's flags that the user left unset: float32, and the fastest mode installed.

    Flags given in ``PYTENSOR_FLAGS`` or ``.pytensorrc`` are left alone.
    """
    flags = theano.config._config_var_dict
    if flags['floatX'].is_default:
        theano.config.floatX = 'float32'
    if flags['mode'].is_default:
        theano.config.mode = 'JAX' if importlib.util.find_spec('jax') else 'NUMBA'
    if flags['base_compiledir'].is_default and not _is_writable(theano.config.base_compiledir):
        # The engine makes this folder when it compiles its first function, and stops if it can't.
        # The flag counts as constant after the import, so it has no setter.
        folder = tempfile.mkdtemp(prefix='pytensor-')
        flags['base_compiledir'].val = Path(folder)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


def ignore_harmless_warnings() -> None:
    """Do not show ``HARMLESS_WARNINGS``, whatever the present filters say."""
    for message in HARMLESS_WARNINGS:
        warnings.filterwarnings('ignore', message=message)


def _is_writable(folder: os.PathLike) -> bool:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


set_default_flags()
ignore_harmless_warnings()


def mode_name() -> str:
    """Name of the mode in which functions are compiled, such as ``'JAX'``."""
    return str(theano.config.mode)


# Data -------------------------------------------------------------------------------------------

def shared_data(array: numpy.ndarray, name: str | None = None) -> SharedVariable:
    """Shared variable with ``floatX`` values that stays on the device between calls.

    :param array: numbers, any shape; the shape becomes part of the variable's type
    """
    array = numpy.asarray(array, dtype=theano.config.floatX)
    variable = theano.shared(array, name=name, shape=array.shape, borrow=True)
    if mode_name() == 'JAX':
        # JAX keeps the results of a function on the device, but copies to it, at every call, what
        # lies in NumPy's memory, and a data set is never a result.
        import jax
        variable.container.storage[0] = jax.device_put(array)
    return variable


def minibatch(data: Variable, index: Variable, batch_size: int) -> Variable:
    """Rows ``index * batch_size`` up to ``(index + 1) * batch_size`` of ``data``, as a graph.

    The number of rows is known when the graph is built, which a slice with symbolic bounds does
    not give: JAX needs it, and the other modes produce faster code from it.

    :param data: (n_examples, ...), with a static number of examples
    :param index: integer scalar, the number of the minibatch
    :return: (batch_size, ...); an incomplete last minibatch is out of reach
    :raises UserError: when there is not one complete minibatch
    """
    n_examples = data.type.shape[0]
    if batch_size < 1 or n_examples < batch_size:
        raise UserError(f'a batch size of {batch_size} does not fit a data set of {n_examples} '
                        f'examples: choose one from 1 to {n_examples}')
    rows = data[index * batch_size + T.arange(batch_size)]
    rows.tag.n_minibatches = n_examples // batch_size
    return rows


# Random numbers ---------------------------------------------------------------------------------

class RandomStreams:
    """Source of symbolic random draws, each with a generator of its own.

    The same seed and the same order of construction give the same numbers. A compiled function
    advances a generator only when it is told to: add :func:`random_updates` to its updates.

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


def repeat(step: Callable[[Variable], list[Variable]], start: Variable,
           n_steps: int) -> tuple[list[Variable], Updates]:
    """A Markov chain: ``n_steps`` times, what ``step`` returns last goes into it again.

    :param step: from a state to a list of graphs that ends with the next state; its random draws
        are new at every step, from distributions that do not depend on the state
    :param start: the first state
    :param n_steps: at least 1
    :return: what the last step returns, and the updates of the generators that the steps use
    """
    if n_steps == 1:
        outputs = step(start)
        return outputs, random_updates(*outputs, blockers=[start])
    state = start.type()
    outputs = step(state)
    generators = random_updates(*outputs)
    inside = []  # what one step draws
    drawn, updates = [], []  # what all steps draw, at once: half the work of one after the other
    for rng, new in generators:
        node = new.owner
        draw, size = node.outputs[1], _rebuild([node.inputs[1]], {state: start})[0]
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
        return _rebuild(outputs, {state: state_now} | dict(zip(inside, drawn_now, strict=True)))

    results = theano.scan(one_step, sequences=drawn, n_steps=n_steps, return_updates=False,
                          outputs_info=[None] * (len(outputs) - 1) + [start])
    results = results if isinstance(results, (list, tuple)) else [results]
    return [values[-1] for values in results], updates


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
            # JAX's "partitionable" numbers take twice the work, to be the same on many devices.
            with jax.threefry_partitionable(False):
                bits = jax.random.bits(key, (-(-n_steps // 2), *shape_of_step), 'uint32')
            halves = jax.numpy.concatenate([bits >> 16, bits & 0xffff])[:n_steps]
            return low + (high - low) * (halves.astype(dtype) + 0.5) * 2. ** -16
        return sample

    return CoarseUniformRV(name='coarse_uniform')


# Compiled functions -----------------------------------------------------------------------------

def function(inputs: Sequence[Variable], outputs: Variable | list[Variable],
             updates: Updates = (), givens: dict[Variable, Variable] | None = None,
             defaults: dict[Variable, float] | None = None) -> 'MinibatchFunction':
    """What ``theano.function`` does for a step on one minibatch, and the same for many at once.

    :param inputs: the symbolic minibatch index, then any further scalars such as a learning rate
    :param outputs: a scalar or several, such as the cost or the error of the minibatch
    :param updates: pairs of a shared variable and its new value, random generators included
    :param givens: what takes the place of the model's symbolic inputs
    :param defaults: values of the further scalars, for calls that leave them out
    """
    return MinibatchFunction(inputs, outputs, updates, givens or {}, defaults or {})


class MinibatchFunction:
    """A step that is compiled when it is first used; see :func:`function`.

    ``f(index)`` runs one minibatch, ``f.run(indices)`` many in their order. Both do the same
    arithmetic, and shared variables and generators go on from one kind of call to the other.
    """

    def __init__(self, inputs: Sequence[Variable], outputs: Variable | list[Variable],
                 updates: Updates, givens: dict[Variable, Variable],
                 defaults: dict[Variable, float]):
        self.index, *self.scalars = inputs
        self.defaults = {scalar.name: value for scalar, value in defaults.items()}
        self.returns_list = isinstance(outputs, (list, tuple))
        outputs = list(outputs) if self.returns_list else [outputs]
        minibatches = [rows for rows in givens.values() if hasattr(rows.tag, 'n_minibatches')]
        # Without minibatches the index only counts, such as the steps of a Markov chain.
        self.n_minibatches = min((rows.tag.n_minibatches for rows in minibatches), default=None)
        self.batch_size = minibatches[0].type.shape[0] if minibatches else None
        updates = _without_unused_draws(updates, outputs)
        # The shared variables of the step, each with its present shape as part of its type.
        self.shared = [variable for variable, _ in updates]
        new_values = [new for _, new in updates]
        self.static = {variable: _with_static_shape(variable)
                       for variable in ancestors([*outputs, *new_values, *givens.values(),
                                                 *self.shared])
                       if isinstance(variable, SharedVariable)}
        givens = dict(zip(givens, _rebuild(list(givens.values()), self.static), strict=True))
        step = _rebuild([*outputs, *new_values], self.static | givens)
        self.outputs, self.new_values = step[:len(outputs)], step[len(outputs):]
        self._one = self._latest = None
        self._many = {}  # by the number of minibatches, where that has to be known

    def __call__(self, index: int, *scalars: float, **named_scalars: float) -> Any:
        """Run one minibatch.

        :return: the output as a NumPy value, or a list of them
        :raises IndexError: when there is no minibatch of that number
        """
        if self._one is None:
            self._one = theano.function(
                [self.index, *self.scalars], self.outputs, on_unused_input='ignore',
                updates=list(zip(self.shared, map(_that_fits, self.new_values, self.shared),
                                 strict=True)))
        self._check_indices(numpy.asarray(index))
        return self._call(self._one, index, scalars, named_scalars)

    def run(self, indices: Iterable[int], *scalars: float, **named_scalars: float) -> Any:
        """Run the minibatches ``indices`` in this order, in one call.

        :return: the output of every minibatch, as an array of shape (len(indices),), or a list
            of such arrays
        :raises IndexError: when there is no minibatch of one of these numbers
        """
        indices = numpy.fromiter(indices, dtype='int64')
        self._check_indices(indices)
        if self.shared:
            return self._call(self._compile_many(), indices, scalars, named_scalars)
        # Every new length of the call is compiled anew, so the last part is filled up.
        size = max(1, min(len(indices), EXAMPLES_PER_SCORING_CALL // (self.batch_size or 1)))
        filled = numpy.concatenate([indices, numpy.repeat(indices[:1], -len(indices) % size)])
        parts = [self._call(self._compile_many(size), part, scalars, named_scalars)
                 for part in filled.reshape(-1, size)]
        if self.returns_list:
            return [numpy.concatenate(output)[:len(indices)] for output in zip(*parts, strict=True)]
        return numpy.concatenate(parts)[:len(indices)]

    def generator_states(self) -> list:
        """State of each random generator, in terms that JSON can hold; empty before any call."""
        return [] if self._latest is None else [
            _generator_state(cell[0]) for cell in self._generator_cells(self._latest)]

    def set_generator_states(self, states: list) -> None:
        """Let the generators go on from where :func:`generator_states` was taken."""
        if states:
            self._latest = self._compile_many()
            for cell, state in zip(self._generator_cells(self._latest), states, strict=True):
                cell[0] = _generator_in_state(cell[0], state)

    def _check_indices(self, indices):
        if self.n_minibatches is None or not indices.size:
            return
        if not 0 <= indices.min() <= indices.max() < self.n_minibatches:
            raise IndexError(f'minibatches {indices.min()} to {indices.max()} were asked for, '
                             f'but they are numbered from 0 to {self.n_minibatches - 1}')

    def _call(self, compiled, index, scalars, named_scalars):
        names = [scalar.name for scalar in self.scalars]
        values = self.defaults | dict(zip(names, scalars, strict=False)) | named_scalars
        if len(scalars) > len(names) or set(values) != set(names):
            raise TypeError(f'values for {names} are needed, got {scalars} and {named_scalars}')
        if self._latest not in (None, compiled):
            for cell, latest in zip(self._generator_cells(compiled),
                                    self._generator_cells(self._latest), strict=True):
                cell[0] = latest[0]
        self._latest = compiled
        outputs = compiled(index, *(values[name] for name in names))
        outputs = [numpy.asarray(output) for output in outputs]
        return outputs if self.returns_list else outputs[0]

    def _compile_many(self, size=None):
        if size not in self._many:
            self._many[size] = (self._compile_scan() if self.shared
                                else self._compile_side_by_side(size))
        return self._many[size]

    def _compile_scan(self):
        """A scan over minibatches, whose states are the variables that a step updates."""
        initial_states = [self.static[variable] for variable in self.shared]

        def one_minibatch(index, *states):
            step = _rebuild([*self.outputs, *self.new_values],
                            {self.index: index, **dict(zip(initial_states, states, strict=True))})
            n_outputs = len(self.outputs)
            new_values = _after_every_product(step[n_outputs:], states)
            return [*step[:n_outputs], *map(_with_type_of, new_values, states)]

        indices = T.lvector('indices')
        results = theano.scan(
            one_minibatch, sequences=[indices], return_updates=False,
            outputs_info=[None] * len(self.outputs) + initial_states)
        outputs, states = results[:len(self.outputs)], results[len(self.outputs):]
        last = [state if isinstance(state.type, RandomType) else state[-1] for state in states]
        return theano.function([indices, *self.scalars], outputs, on_unused_input='ignore',
                               updates=list(zip(self.shared, map(_that_fits, last, self.shared),
                                                strict=True)))

    def _compile_side_by_side(self, size):
        """All minibatches at once: nothing is updated, so they need not wait for one another."""
        # JAX reshapes only to shapes that are known, so the number of minibatches has to be.
        indices = T.tensor('indices', dtype='int64', shape=(size,))
        return theano.function([indices, *self.scalars], on_unused_input='ignore',
                               outputs=vectorize_graph(self.outputs, {self.index: indices}))

    def _generator_cells(self, compiled):
        """Where a compiled function keeps the state of each generator, in the order of updates."""
        cells = {description.variable: compiled.vm.storage_map[variable]
                 for description, variable in zip(compiled.maker.inputs,
                                                  compiled.maker.fgraph.inputs, strict=True)
                 if isinstance(variable.type, RandomType)}
        return [cells[variable] for variable in self.shared if variable in cells]


def _rebuild(outputs, replacements):
    """The graph of ``outputs`` over other inputs, with every type inferred anew from theirs.

    The engine's own ``graph_replace`` keeps the old types, in which few shapes are known.
    """
    new = dict(replacements)
    for node in toposort(outputs, blockers=list(replacements)):
        inputs = [new.get(variable, variable) for variable in node.inputs]
        new.update(zip(node.outputs, node.op.make_node(*inputs).outputs, strict=True))
    return [new.get(variable, variable) for variable in outputs]


def _without_unused_draws(updates, outputs):
    """The updates but for those of generators whose draws nothing depends on.

    The engine would remove the draw, and then replace the generator by itself, which goes wrong
    in JAX mode.
    """
    used = set(ancestors([*outputs, *(new for _, new in updates
                                      if not isinstance(new.type, RandomType))]))
    return [(variable, new) for variable, new in updates
            if not isinstance(new.type, RandomType) or used.intersection(new.owner.outputs)]


def _with_static_shape(variable):
    if isinstance(variable.type, RandomType):
        return variable
    # An inner scan, made when a length was not known, does not take a 1 there afterwards.
    shape = [None if n == 1 else n for n in variable.get_value(borrow=True).shape]
    return T.specify_shape(variable, shape)


def _that_fits(new, variable):
    """``new`` as an update of ``variable``, whose type may not know that a length is 1."""
    if not isinstance(new.type, T.TensorType) or new.type.broadcastable == (
            variable.type.broadcastable):
        return new
    return T.set_subtensor(variable[:], new)


def _with_type_of(new, state):
    """A scan wants of a state's next value exactly the type of the state."""
    if isinstance(new.type, RandomType):
        return new
    return T.specify_shape(T.cast(new, state.type.dtype), state.type.shape)


def _after_every_product(new_values, states):
    """The new values of weights, none of them ready before the last product with the old ones.

    XLA changes a matrix in place if it is sure that nobody wants the old one any more, and copies
    it first if not. Backpropagation through several layers leaves it unsure: the weights of a
    layer might change before the error has passed down through them. Adding a zero that is
    computed from that product decides it, and saves a quarter of the time of a step.
    """
    if mode_name() != 'JAX':
        return new_values
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


def _generator_state(generator):
    if isinstance(generator, dict):  # JAX mode: of all entries only the key ever changes
        return {'jax_state': numpy.asarray(generator['jax_state']).tolist()}
    return generator.bit_generator.state


def _generator_in_state(generator, state):
    if isinstance(generator, dict):
        return generator | {'jax_state': numpy.asarray(state['jax_state'], dtype='uint32')}
    generator.bit_generator.state = state
    return generator


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
