"""What is peculiar to today's Theano, kept in one place so that the chapters need not mention it.

The chapters describe a training step once, as in Theano: inputs, outputs, ``updates`` and
``givens`` on a symbolic minibatch ``index``. :func:`function` compiles that description, on first
use, into one scan over minibatches, because a step of these models takes less time on a CPU than
calling a compiled function. Training runs many minibatches in a call; the function of one index,
to play with, is the same one, called with one.
"""

import atexit
import contextlib
import importlib.util
import io
import itertools
import linecache
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from support import progress, xla
from support.errors import UserError

import numpy
import pytensor as theano
import pytensor.tensor as T
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from pytensor.graph.replace import vectorize_graph
from pytensor.graph.traversal import ancestors, toposort
from pytensor.link import utils as link_utils
from pytensor.tensor.random.type import RandomType
from pytensor.tensor.shape import Shape, Shape_i
from pytensor.tensor.subtensor import Subtensor, indices_from_subtensor

Updates = list[tuple[SharedVariable, Variable]]

# A function that updates nothing looks at about this many examples at once: enough for the matrix
# products to run at full speed, few enough for the activations to take little memory.
EXAMPLES_AT_ONCE = 1000

# What JAX mode warns of, and why that does no harm here.
HARMLESS_WARNINGS = (
    # Each compiled function works on a copy of a generator: Step keeps the state of its own.
    'The RandomType SharedVariables',
    # Sums ask for a float64 accumulator and argmax for int64, which JAX has with floatX=float64.
    'Explicitly requested dtype (float|int)64',
    # JAX knows every shape when it compiles, and checks what the skipped assertion would.
    'Skipping Assert',
    # What cannot be kept on disk, or read from there, is compiled anew.
    'Error (reading|writing) persistent compilation cache entry',
)

# Where JAX keeps the functions that it compiled: those that took some time, and 100 MB at most.
COMPILED_FOLDER = Path(__file__).resolve().parents[2] / 'data' / 'compiled'
CACHE_SETTINGS = {'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.1',
                  'JAX_COMPILATION_CACHE_MAX_SIZE': '100_000_000'}
# On a GPU JAX would multiply with 10 of the 23 bits of a number, and take three quarters of the
# memory at once, which leaves none for a second script.
GPU_SETTINGS = {'JAX_DEFAULT_MATMUL_PRECISION': 'float32', 'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}


def set_default_flags() -> None:
    """Set the engine's flags that the user left unset: float32, and the fastest mode installed.

    Flags given in ``PYTENSOR_FLAGS`` or ``.pytensorrc`` are left alone, and JAX's variables.
    """
    for name, value in GPU_SETTINGS.items():
        os.environ.setdefault(name, value)
    flags = theano.config._config_var_dict
    if flags['floatX'].is_default:
        theano.config.floatX = 'float32'
    if flags['mode'].is_default:
        theano.config.mode = 'JAX' if importlib.util.find_spec('jax') else 'NUMBA'
    if flags['blas__ldflags'].is_default:
        # For code in C, which no mode here produces. Some versions look for a BLAS all the same,
        # and print a traceback where they find none.
        theano.config.blas__ldflags = ''
    if flags['base_compiledir'].is_default and not _is_writable(theano.config.base_compiledir):
        # The engine makes this folder when it compiles its first function, and stops if it can't.
        # The flag counts as constant after the import, so it has no setter.
        folder = tempfile.mkdtemp(prefix='pytensor-')
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        flags['base_compiledir'].val = Path(folder)


class _GeneratedSource(io.BytesIO):
    """A source that the engine generates, kept where Python looks for those without a file."""

    number = itertools.count(1)

    def __init__(self) -> None:
        super().__init__()
        self.name = f'<generated {next(self.number)}>'

    def close(self) -> None:
        text = self.getvalue().decode()
        linecache.cache[self.name] = len(text), None, text.splitlines(keepends=True), self.name
        super().close()


def keep_generated_sources() -> None:
    """Let the engine keep the sources that it generates in memory, if it was told no folder.

    It would leave each in the folder for temporary files.
    """
    link_utils.NamedTemporaryFile = lambda **options: (
        tempfile.NamedTemporaryFile(**options) if 'dir' in options else _GeneratedSource())


def ignore_harmless_warnings() -> None:
    """Do not show ``HARMLESS_WARNINGS``, whatever the present filters say."""
    for message in HARMLESS_WARNINGS:
        warnings.filterwarnings('ignore', message=message)


def check_flags() -> None:
    """See that the type of numbers and the device that were asked for are there.

    :raises UserError: when one is not
    """
    if theano.config.floatX == 'float16':  # JAX and Numba have it for less than the models need
        raise UserError('PYTENSOR_FLAGS says floatX=float16: float32 and float64 can be had')
    if mode_name() == 'JAX' and any(name.startswith('JAX_') and value != GPU_SETTINGS.get(name)
                                    for name, value in os.environ.items()):
        try:
            import jax
            jax.devices()
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = ' '.join(str(error).split())[:200] or 'no device of that kind'
            raise UserError(f'JAX cannot start ({reason}): mend the variables JAX_PLATFORMS and '
                            'JAX_..., or leave them out') from None


def keep_compiled_functions() -> None:
    """Let JAX keep what it compiles in ``COMPILED_FOLDER``, so that the next start is fast.

    Where that cannot be written to, every start compiles. A folder that the user names in
    ``JAX_COMPILATION_CACHE_DIR`` is left to JAX, and so is an empty name.
    """
    if ('JAX_COMPILATION_CACHE_DIR' not in os.environ and mode_name() == 'JAX'
            and _is_writable(COMPILED_FOLDER)):
        # JAX reads its variables when it is imported, which is later, and not for --help.
        os.environ['JAX_COMPILATION_CACHE_DIR'] = str(COMPILED_FOLDER)
        for name, value in CACHE_SETTINGS.items():
            os.environ.setdefault(name, value)


def _is_writable(folder: os.PathLike) -> bool:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


set_default_flags()
keep_generated_sources()
ignore_harmless_warnings()


def mode_name() -> str:
    """Name of the mode in which functions are compiled, such as ``'JAX'``."""
    return str(theano.config.mode)


def device() -> str:
    """The kind of device that functions run on: ``'cpu'``, or what JAX has found, ``'gpu'``."""
    if mode_name() != 'JAX':
        return 'cpu'
    import jax
    return jax.default_backend()


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


def precomputed(output: Variable, x: Variable, data: SharedVariable) -> SharedVariable:
    """What ``output``, a graph of rows ``x``, makes of all rows of ``data``, as data of its own."""
    function = theano.function([x], output)
    rows = numpy.asarray(data.get_value(borrow=True))
    parts = numpy.array_split(rows, -(-len(rows) // EXAMPLES_AT_ONCE))
    return shared_data(numpy.concatenate([function(part) for part in parts]))


def minibatch(data: Variable, index: Variable, batch_size: int) -> Variable:
    """Rows ``index * batch_size`` up to ``(index + 1) * batch_size`` of ``data``, as a graph.

    The number of rows is known when the graph is built, which a slice with symbolic bounds does
    not give: JAX needs it, and the other modes produce faster code from it. How many complete
    minibatches there are goes with the graph as ``tag.n_minibatches``, for :func:`function`.

    :param data: (n_examples, ...), with a static number of examples
    :param index: integer scalar, the number of the minibatch
    :return: (batch_size, ...); an incomplete last minibatch is out of reach
    :raises UserError: when there is not one complete minibatch
    """
    n_examples = data.type.shape[0]
    if batch_size < 1 or n_examples < batch_size:
        raise UserError(f'`batch_size` is {batch_size}, which does not fit a data set of '
                        f'{n_examples} examples: choose one from 1 to {n_examples}')
    rows = data[index * batch_size + T.arange(batch_size)]
    rows.tag.n_minibatches = n_examples // batch_size
    return rows


# Compiled functions -----------------------------------------------------------------------------

class Step:
    """What ``theano.function`` does for a step on one minibatch, and the same for many at once.

    ``step(index)`` takes it on one minibatch, ``step.over(indices)`` on many in their order. It is
    compiled when it is first used.

    :param inputs: the symbolic minibatch index, then any further scalars such as a learning rate
    :param outputs: what to return of a minibatch, such as its cost, or a list of that
    :param updates: pairs of a shared variable and its new value, random generators included
    :param givens: what takes the place of the model's symbolic inputs
    :param defaults: values of the further scalars, for calls that leave them out
    :raises UserError: for a slice with symbolic bounds, and for a draw that would be the same at
        every call
    """

    def __init__(self, inputs: Sequence[Variable], outputs: Variable | list[Variable],
                 updates: Updates | None = None, givens: Mapping[Variable, Variable] | None = None,
                 defaults: Mapping[Variable, float] | None = None):
        givens = givens or {}
        self.index, *self.scalars = inputs
        self.defaults = {scalar.name: value for scalar, value in (defaults or {}).items()}
        self.returns_list = isinstance(outputs, (list, tuple))
        outputs = list(outputs) if self.returns_list else [outputs]
        minibatches = [rows for rows in givens.values() if hasattr(rows.tag, 'n_minibatches')]
        # Without minibatches the index only counts, such as the steps of a Markov chain.
        self.n_minibatches: Any = min((rows.tag.n_minibatches for rows in minibatches),
                                      default=None)
        self.batch_size: Any = minibatches[0].type.shape[0] if minibatches else None
        updates = _without_unused_draws(updates or [], outputs)
        self.updated = [variable for variable, _ in updates]  # shared variables
        new_values = [new for _, new in updates]

        # Every shared variable gets its present shape as part of its type.
        graph = ancestors([*outputs, *new_values, *givens.values(), *self.updated])
        shared = [variable for variable in graph if isinstance(variable, SharedVariable)]
        self.states = {variable: _with_static_shape(variable) for variable in shared}
        givens = dict(zip(givens, substituted(list(givens.values()), self.states), strict=True))
        step = substituted([*outputs, *new_values], self.states | givens)
        self.outputs, self.new_values = step[:len(outputs)], step[len(outputs):]
        if any(isinstance(v.type, RandomType) and v not in self.updated for v in shared):
            raise UserError('a random draw would be the same at every call: add '
                            'draws.random_updates(...) of what it is part of to the updates')
        _check_slices(step, self.index)
        self._compiled = None
        self._has_run = False

    def __call__(self, index: int, *scalars: float, **named_scalars: float) -> Any:
        """Take the step on one minibatch.

        :return: the output as a NumPy value, or a list of them
        :raises IndexError: when there is no minibatch of that number
        """
        outputs = self.over([index], *scalars, **named_scalars)
        return [output[0] for output in outputs] if self.returns_list else outputs[0]

    def over(self, indices: Iterable[int], *scalars: float, **named_scalars: float) -> Any:
        """Take the step on the minibatches ``indices``, one after the other, in one call.

        :return: the output of every minibatch, an array (len(indices), ...), or a list of these
        :raises IndexError: when there is no minibatch of one of these numbers
        """
        indices = numpy.fromiter(indices, dtype='int64')
        if self.n_minibatches is not None and indices.size and not (
                0 <= indices.min() <= indices.max() < self.n_minibatches):
            raise IndexError(f'minibatches {indices.min()} to {indices.max()} were asked for, '
                             f'but they are numbered from 0 to {self.n_minibatches - 1}')
        names = [scalar.name for scalar in self.scalars]
        given = self.defaults | dict(zip(names, scalars, strict=False)) | named_scalars
        if len(scalars) > len(names) or set(given) != set(names):
            raise TypeError(f'values for {names} are needed, got {scalars} and {named_scalars}')
        values = [given[name] for name in names]
        # The compilers behind the engine wait for the first call.
        with contextlib.nullcontext() if self._has_run else progress.busy(
                'compiling, which may take minutes' if mode_name() == 'NUMBA' else 'compiling'):
            outputs = self._outputs(indices, values)
        self._has_run = True
        return outputs if self.returns_list else outputs[0]

    def _outputs(self, indices, values):
        if self.updated:
            outputs = self.compiled(indices, *values)
        else:
            # All calls are of one length: another one would be compiled anew.
            n = self._n_at_once()
            filled = numpy.concatenate([indices, numpy.repeat(indices[:1], -len(indices) % n)])
            parts = [self.compiled(part, *values) for part in filled.reshape(-1, n)]
            outputs = [numpy.concatenate(part)[:len(indices)] for part in zip(*parts, strict=True)]
        return [numpy.asarray(output) for output in outputs]

    @property
    def compiled(self) -> Any:
        """The compiled function of a vector of indices and the further scalars."""
        if self._compiled is None:
            self._compiled = self._scan() if self.updated else self._side_by_side()
        return self._compiled

    def _scan(self):
        """A scan over minibatches, whose states are the variables that a step updates."""
        initial_states = [self.states[variable] for variable in self.updated]
        n = len(self.outputs)

        def step(index, *states):
            results = substituted([*self.outputs, *self.new_values], {
                self.index: index, **dict(zip(initial_states, states, strict=True))})
            new_values = xla.update_last(results[n:], states)
            return [*results[:n], *map(_with_type_of, new_values, states)]

        indices = T.lvector('indices')
        results = theano.scan(step, sequences=[indices], return_updates=False,
                              outputs_info=[None] * n + initial_states)
        # Of a generator a scan returns the last state, of anything else all of them.
        last = [state if isinstance(state.type, RandomType) else state[-1] for state in results[n:]]
        updates = list(zip(self.updated, map(_that_fits, last, self.updated), strict=True))
        return theano.function([indices, *self.scalars], results[:n], updates=updates,
                               on_unused_input='ignore',
                               mode=xla.mode_for([*self.outputs, *self.new_values]))

    def _side_by_side(self):
        """Some minibatches at once: nothing is updated, so they need not wait for one another."""
        # JAX reshapes only to shapes that are known, so the number of minibatches has to be.
        indices = T.tensor('indices', dtype='int64', shape=(self._n_at_once(),))
        outputs = vectorize_graph(self.outputs, {self.index: indices})
        return theano.function([indices, *self.scalars], outputs, on_unused_input='ignore',
                               mode=xla.mode_for(outputs))

    def _n_at_once(self):
        if self.n_minibatches is None:
            return 1
        return max(1, min(self.n_minibatches, EXAMPLES_AT_ONCE // self.batch_size))

    def generator_states(self) -> list[Any]:
        """State of each random generator, in terms that JSON can hold."""
        return [_generator_state(cell[0]) for cell in self._generator_cells()]

    def set_generator_states(self, states: list[Any]) -> None:
        """Let the generators go on from where :meth:`generator_states` was taken."""
        for cell, state in zip(self._generator_cells(), states, strict=True):
            cell[0] = _generator_in_state(cell[0], state)

    def _generator_cells(self):
        """Where the compiled function keeps the state of each generator, in the order of updates.

        In JAX mode a compiled function works on its own copy of a shared generator.
        """
        if not any(isinstance(variable.type, RandomType) for variable in self.updated):
            return []
        cells = {description.variable: self.compiled.vm.storage_map[variable]
                 for description, variable in zip(self.compiled.maker.inputs,
                                                  self.compiled.maker.fgraph.inputs, strict=True)
                 if isinstance(variable.type, RandomType)}
        return [cells[variable] for variable in self.updated if variable in cells]


function = Step  # its name in the chapters, which know it from Theano


def substituted(outputs: Sequence[Variable],
                replacements: Mapping[Variable, Variable]) -> list[Variable]:
    """The graph of ``outputs`` over other inputs, with every type inferred anew from theirs.

    The engine's own ``graph_replace`` keeps the old types, in which few shapes are known.
    """
    new = dict(replacements)
    for node in toposort(outputs, blockers=list(replacements)):
        inputs = [new.get(variable, variable) for variable in node.inputs]
        new.update(zip(node.outputs, node.op.make_node(*inputs).outputs, strict=True))
    return [new.get(variable, variable) for variable in outputs]


def _check_slices(outputs, index):
    nodes = list(toposort(outputs))
    # A length that is computed from the shape of a minibatch is known all the same.
    shapes = [node.out for node in nodes if isinstance(node.op, (Shape, Shape_i))]
    for node in nodes:
        if isinstance(node.op, Subtensor):
            bounds = [bound for entry in indices_from_subtensor(node.inputs[1:], node.op.idx_list)
                      if isinstance(entry, slice) for bound in (entry.start, entry.stop)
                      if isinstance(bound, Variable)]
            if index in ancestors(bounds, blockers=shapes):
                raise UserError('a slice such as x[i * b:(i + 1) * b] has no length that is known '
                                'when the function is compiled: write engine.minibatch(x, i, b)')


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


def _generator_state(generator):
    if isinstance(generator, dict):  # JAX mode: of all entries only the key ever changes
        return {'jax_state': numpy.asarray(generator['jax_state']).tolist()}
    return generator.bit_generator.state


def _generator_in_state(generator, state):
    if isinstance(generator, dict):
        return generator | {'jax_state': numpy.asarray(state['jax_state'], dtype='uint32')}
    generator.bit_generator.state = state
    return generator
