r"""Hybrid (or Hamiltonian) Monte Carlo: draws from a distribution given by its energy.

For a density :math:`p(s) \propto \exp(-E(s))` over positions :math:`s`, give :math:`s` a velocity
:math:`\phi`, drawn anew from a standard normal distribution, and the two together the energy

.. math::
    H(s, \phi) = E(s) + K(\phi), \qquad K(\phi) = \tfrac{1}{2} \sum_i \phi_i^2 .

A particle that rolls over the landscape :math:`E` by Hamilton's equations, :math:`ds/dt = \phi`
and :math:`d\phi/dt = -\partial E / \partial s`, goes far from where it started and keeps
:math:`H`, and with it its probability. The equations are followed in leapfrog steps of length
:math:`\epsilon`,

.. math::
    \phi(t + \epsilon/2) &= \phi(t) - \tfrac{\epsilon}{2} \, \partial E(s(t)) / \partial s \\
    s(t + \epsilon) &= s(t) + \epsilon \, \phi(t + \epsilon/2) \\
    \phi(t + \epsilon) &= \phi(t + \epsilon/2)
                          - \tfrac{\epsilon}{2} \, \partial E(s(t + \epsilon)) / \partial s ,

which can be run backwards and preserve volume, so that the error they make in :math:`H` can be
put right by accepting the end :math:`(s', \phi')` of the path only with the probability
:math:`\min(1, \exp(H(s, \phi) - H(s', \phi')))`.

Many chains run side by side, one a row of the positions, and the step size adapts itself to a
rate of acceptance. While it does, the draws depend a little on their past and are not quite exact;
``stepsize_inc`` of :meth:`HMC_sampler.new_from_shared_positions` says how to stop it.

References:
    - S. Duane, A. D. Kennedy, B. J. Pendleton, D. Roweth, "Hybrid Monte Carlo", 1987
    - R. M. Neal, "Probabilistic inference using Markov chain Monte Carlo methods", 1993
    - R. M. Neal, "MCMC using Hamiltonian dynamics", 2011
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# This file lies one folder below the scripts and `support`, where Python does not look for them
# when it is started from here.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy
import pytensor as theano
import pytensor.tensor as T
from pytensor.compile.mode import Mode
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.gradient import DisconnectedInputError, NullTypeGradError
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import ancestors

from support import command_line, engine
from support.checkpoints import save_arrays, written_atomically
from support.errors import UserError

# From positions (n_chains, dim) to the energy of every chain (n_chains,), both symbolic.
EnergyFunction = Callable[[T.TensorVariable], T.TensorVariable]


def sharedX(X: numpy.ndarray, name: str | None = None) -> SharedVariable:
    """Shared variable with the values of ``X`` in floatX."""
    return theano.shared(numpy.array(X, dtype=theano.config.floatX), name=name)


def apply_to(pos: T.TensorVariable, function: EnergyFunction) -> T.TensorVariable:
    """The graph of ``function(pos)``, made first for a variable that stands for ``pos``.

    If the user's energy contains a scan, this takes in with ``pos`` all of the graph that leads
    there: here the whole path of the particle, so that nothing could be differentiated by its end.
    """
    stand_in = pos.type('pos')
    return graph_replace(function(stand_in), {stand_in: pos}, strict=False)


# The move ---------------------------------------------------------------------------------------

def kinetic_energy(vel: T.TensorVariable) -> T.TensorVariable:
    """Kinetic energy, half the squared length of the velocity, of particles of mass 1.

    :param vel: (n_chains, dim)
    :return: (n_chains,)
    """
    return 0.5 * T.sum(T.sqr(vel), axis=1)


def hamiltonian(pos: T.TensorVariable, vel: T.TensorVariable,
                energy_fn: EnergyFunction) -> T.TensorVariable:
    """Potential and kinetic energy together, H = E(pos) + K(vel).

    :param pos: (n_chains, dim)
    :param vel: (n_chains, dim)
    :return: (n_chains,)
    """
    return apply_to(pos, energy_fn) + kinetic_energy(vel)


def metropolis_hastings_accept(energy_prev: T.TensorVariable, energy_next: T.TensorVariable,
                               s_rng: engine.RandomStreams) -> T.TensorVariable:
    """Which chains move: each with probability min(1, exp(energy_prev - energy_next)).

    :param energy_prev: before the move, (n_chains,)
    :param energy_next: after the move, (n_chains,); a chain that has got to NaN or infinity, as
        it may with steps that are too long, does not move
    :return: booleans, (n_chains,)
    """
    return s_rng.uniform(energy_prev.shape) < T.exp(energy_prev - energy_next)


def simulate_dynamics(initial_pos: T.TensorVariable, initial_vel: T.TensorVariable,
                      stepsize: T.TensorVariable | float, n_steps: int,
                      energy_fn: EnergyFunction) -> tuple[T.TensorVariable, T.TensorVariable]:
    """Follow Hamilton's equations for ``n_steps`` leapfrog steps.

    :param initial_pos: (n_chains, dim)
    :param initial_vel: (n_chains, dim)
    :param stepsize: the length of a step in time
    :param n_steps: at least 1
    :return: position and velocity at the end, each (n_chains, dim)
    """
    stepsize = T.cast(stepsize, initial_pos.dtype)

    def gradient(pos):
        # No energy depends on the position of another chain: the gradient of their sum holds
        # the gradients of all.
        dE_dpos = apply_to(pos, lambda pos: T.grad(T.sum(energy_fn(pos)), pos))
        # A scan wants its states as they were, whatever precision the energy is computed in.
        return T.specify_shape(T.cast(dE_dpos, pos.dtype), pos.type.shape)

    def leapfrog(pos, vel):
        """One full step of the velocity and one of the position, from t to t + stepsize.

        Here ``vel`` is half a step behind ``pos``, at t - stepsize / 2: the half steps at the end
        of one leapfrog step and at the beginning of the next are made as one.
        """
        vel = vel - stepsize * gradient(pos)
        return pos + stepsize * vel, vel

    vel = initial_vel - stepsize / 2 * gradient(initial_pos)
    pos = initial_pos + stepsize * vel
    if n_steps > 1:
        positions, velocities = theano.scan(leapfrog, outputs_info=[pos, vel],
                                            n_steps=n_steps - 1, return_updates=False)
        pos, vel = positions[-1], velocities[-1]
    return pos, vel - stepsize / 2 * gradient(pos)


def hmc_move(s_rng: engine.RandomStreams, positions: T.TensorVariable, energy_fn: EnergyFunction,
             stepsize: T.TensorVariable | float, n_steps: int
             ) -> tuple[T.TensorVariable, T.TensorVariable]:
    """New velocities, the path they lead along, and whether its end is accepted.

    :param s_rng: where the velocities and the decisions are drawn from
    :param positions: (n_chains, dim)
    :return: which chains accept, booleans (n_chains,), and the ends of the paths (n_chains, dim)
    """
    initial_vel = s_rng.generator().normal(0, 1, size=positions.shape, dtype=positions.dtype)[1]
    final_pos, final_vel = simulate_dynamics(positions, initial_vel, stepsize, n_steps, energy_fn)
    # The way back starts with -final_vel, which has the same kinetic energy.
    accept = metropolis_hastings_accept(hamiltonian(positions, initial_vel, energy_fn),
                                        hamiltonian(final_pos, final_vel, energy_fn), s_rng)
    return accept, final_pos


def hmc_updates(positions: T.TensorVariable, stepsize: T.TensorVariable,
                avg_acceptance_rate: T.TensorVariable, final_pos: T.TensorVariable,
                accept: T.TensorVariable, target_acceptance_rate: float, stepsize_inc: float,
                stepsize_dec: float, stepsize_min: float, stepsize_max: float,
                avg_acceptance_slowness: float
                ) -> list[tuple[T.TensorVariable, T.TensorVariable]]:
    """What follows from a move: new positions, step size and average rate of acceptance.

    For the step size, the average is that before the move.

    :param positions: before the move, (n_chains, dim)
    :param stepsize: with which the move was made, scalar
    :param avg_acceptance_rate: before the move, scalar
    :param final_pos: where the move leads, (n_chains, dim)
    :param accept: which chains go there, booleans (n_chains,)

    For the other parameters see :class:`HMC_sampler`.

    :return: pairs of one of the first three parameters and its new value
    """
    new_positions = T.switch(accept.dimshuffle(0, 'x'), final_pos, positions)
    factor = T.switch(avg_acceptance_rate > target_acceptance_rate, stepsize_inc, stepsize_dec)
    new_stepsize = T.clip(stepsize * factor, stepsize_min, stepsize_max)
    new_rate = (avg_acceptance_slowness * avg_acceptance_rate
                + (1 - avg_acceptance_slowness) * T.mean(accept, dtype=theano.config.floatX))
    # The settings may be NumPy's numbers, of another precision.
    return [(old, T.cast(new, old.dtype)) for old, new in (
        (positions, new_positions), (stepsize, new_stepsize), (avg_acceptance_rate, new_rate))]


# The sampler ------------------------------------------------------------------------------------

@dataclass
class Samples:
    """What a number of moves of all chains gave.

    :param positions: after each move, floatX (n, n_chains, dim)
    :param accepted: whether the chain moved, boolean (n, n_chains)
    :param stepsizes: with which each move was made, floatX (n,)
    """

    positions: numpy.ndarray
    accepted: numpy.ndarray
    stepsizes: numpy.ndarray


class HMC_sampler:
    """Chains that sample a distribution; made by :meth:`new_from_shared_positions`.

    ``positions``, ``stepsize`` and ``avg_acceptance_rate`` are shared variables, and the chains go
    on from the values that they have.
    """

    def __init__(self, positions: SharedVariable, energy_fn: EnergyFunction,
                 initial_stepsize: float, target_acceptance_rate: float, n_steps: int,
                 stepsize_dec: float, stepsize_min: float, stepsize_max: float,
                 stepsize_inc: float, avg_acceptance_slowness: float, seed: int):
        check_positions(positions)
        check_energy(energy_fn, positions)
        if n_steps < 1:
            raise UserError(f'n_steps is {n_steps}: a move needs at least one leapfrog step')
        if not 0 < stepsize_min <= initial_stepsize <= stepsize_max:
            raise UserError(f'the step size starts at {initial_stepsize}, which does not lie '
                            f'between its limits {stepsize_min} and {stepsize_max}')
        self.positions = positions
        self.stepsize = sharedX(initial_stepsize, 'stepsize')
        self.avg_acceptance_rate = sharedX(target_acceptance_rate, 'avg_acceptance_rate')
        self.target_acceptance_rate = target_acceptance_rate
        self.stepsize_min = stepsize_min
        self.stepsize_max = stepsize_max

        # One move, stated once: from the present state to the next. JAX wants to know shapes.
        shape = positions.get_value(borrow=True).shape
        pos = T.tensor('positions', dtype=theano.config.floatX, shape=shape)
        step, rate = T.scalar('stepsize'), T.scalar('avg_acceptance_rate')
        accept, final_pos = hmc_move(engine.RandomStreams(seed), pos, energy_fn, step, n_steps)
        updates = hmc_updates(pos, step, rate, final_pos, accept, target_acceptance_rate,
                              stepsize_inc, stepsize_dec, stepsize_min, stepsize_max,
                              avg_acceptance_slowness)
        old, new = zip(*updates, *engine.random_updates(accept, final_pos), strict=True)

        # Many moves are a scan over that one, whose states are the shared variables.
        generators = old[3:]
        shared = [positions, self.stepsize, self.avg_acceptance_rate, *generators]
        initial_states = [T.specify_shape(positions, shape), *shared[1:]]

        def one_move(_, *states):
            return graph_replace([new[0], accept, step, *new],
                                 dict(zip(old, states, strict=True)), strict=False)

        # Of this vector only the length counts, which JAX, unlike a number, knows beforehand.
        moves = T.lvector('moves')
        results = theano.scan(one_move, sequences=[moves], return_updates=False,
                              outputs_info=[None, None, None, *initial_states])
        outputs, states = results[:3], results[3:]
        # Of a generator a scan returns the last state, of anything else all of them.
        last = [*(values[-1] for values in states[:3]), *states[3:]]
        # An update has to be of the type of its variable, in which no dimension is known to be 1.
        last[0] = T.set_subtensor(positions[:], last[0])
        self._sample = theano.function([moves], outputs,
                                       updates=list(zip(shared, last, strict=True)))

    @classmethod
    def new_from_shared_positions(
            cls, shared_positions: SharedVariable, energy_fn: EnergyFunction,
            initial_stepsize: float = 0.01, target_acceptance_rate: float = .9,
            n_steps: int = 20, stepsize_dec: float = 0.98, stepsize_min: float = 0.001,
            stepsize_max: float = 0.25, stepsize_inc: float = 1.02,
            avg_acceptance_slowness: float = 0.9, seed: int = 12345) -> 'HMC_sampler':
        """A sampler whose chains start from ``shared_positions``, which every draw updates.

        :param shared_positions: shared floatX matrix, (n_chains, dim)
        :param energy_fn: takes symbolic positions (n_chains, dim) and gives the energy of each
            chain (n_chains,): minus the logarithm of the density, up to a constant
        :param initial_stepsize: length of the first leapfrog steps
        :param target_acceptance_rate: fraction of moves to be accepted
        :param n_steps: leapfrog steps in a move
        :param stepsize_dec: factor of the step size while too few moves are accepted
        :param stepsize_min: lower limit of the step size
        :param stepsize_max: upper limit of the step size
        :param stepsize_inc: factor of the step size while enough moves are accepted. With this
            factor and ``stepsize_dec`` 1 the step size stays as it is, and the chains sample
            the distribution exactly: after a burn-in, go on with such a sampler, of the same
            positions, from the step size that was found
        :param avg_acceptance_slowness: weight of the past in the average rate of acceptance
        :param seed: of the velocities and of the decisions; the same seed, the same draws
        :raises UserError: when positions, energy or settings cannot be used
        """
        return cls(shared_positions, energy_fn, initial_stepsize, target_acceptance_rate, n_steps,
                   stepsize_dec, stepsize_min, stepsize_max, stepsize_inc,
                   avg_acceptance_slowness, seed)

    def draw(self) -> numpy.ndarray:
        """Move all chains once.

        :return: their new positions, (n_chains, dim)
        """
        return self.sample(1).positions[0]

    def sample(self, n: int) -> Samples:
        """Move all chains ``n`` times, in one call: the same as ``n`` draws, but much faster.

        In JAX mode every new ``n`` takes a second to compile: sample in parts of one length.
        """
        if n < 1:
            raise UserError(f'{n} draws were asked for: there has to be at least one')
        return Samples(*map(numpy.asarray, self._sample(numpy.arange(n))))


def check_positions(positions: SharedVariable) -> None:
    """See that the chains have somewhere to start.

    :raises UserError: when not
    """
    floatX = theano.config.floatX
    if not (isinstance(positions, SharedVariable) and isinstance(positions, T.TensorVariable)
            and positions.type.ndim == 2 and positions.type.dtype == floatX
            and positions.get_value(borrow=True).size):
        kind = getattr(positions, 'type', type(positions).__name__)
        raise UserError(f'the positions are of type {kind}, not a shared {floatX} matrix '
                        '(n_chains, dim) with at least one chain: make one by sharedX')


def check_energy(energy_fn: EnergyFunction, positions: SharedVariable) -> None:
    """See that a sampler can work with ``energy_fn``, and start from ``positions``.

    :raises UserError: when not
    """
    start = numpy.asarray(positions.get_value(borrow=True))
    n_chains = len(start)
    wanted = f'one value per chain, shape ({n_chains},), is needed'
    pos = T.tensor('positions', dtype=start.dtype, shape=start.shape)
    energy = T.as_tensor_variable(energy_fn(pos))
    if energy.type.ndim != 1:
        raise UserError(f'the energy function returns {energy.type.ndim} dimensions: {wanted}')
    if not energy.dtype.startswith('float'):
        raise UserError(f'the energy function returns {energy.dtype}, which has no gradient')
    try:
        gradient = T.grad(T.sum(energy), pos)
        gradient_of_first = T.grad(energy[0], pos)
    except DisconnectedInputError:
        raise UserError('the energy function has no gradient: no path that can be '
                        'differentiated leads from the positions to its value') from None
    except (NullTypeGradError, NotImplementedError) as error:
        raise UserError(f'the energy function cannot be differentiated: {error}') from error

    # To run a function once in Python takes less time than to compile it. What the energy is made
    # of may lie on the device, where Python cannot work with it.
    here = {variable: T.constant(numpy.asarray(variable.get_value(borrow=True)))
            for variable in ancestors([energy])
            if isinstance(variable, SharedVariable) and isinstance(variable, T.TensorVariable)}

    def at_start(variable):
        function = theano.function([pos], variable, givens=here, mode=Mode('py', 'fast_compile'))
        with numpy.errstate(all='ignore'):
            return numpy.asarray(function(start))

    energies = at_start(energy)
    if energies.shape != (n_chains,):
        raise UserError(f'the energy function returns shape {energies.shape}: {wanted}')
    gradients = at_start(gradient)
    finite = numpy.isfinite(energies) & numpy.isfinite(gradients).all(axis=1)
    if not finite.all():
        chain = int(numpy.argmin(finite))
        raise UserError(f'chain {chain} starts where the energy is {energies[chain]} and its '
                        f'gradient {gradients[chain].tolist()}: both have to be finite')
    if at_start(gradient_of_first)[1:].any():
        raise UserError('the energy of the first chain depends on the positions of others: '
                        f'{wanted}, each made from one row of the positions')


# What came out ----------------------------------------------------------------------------------

def diagnostics(positions: numpy.ndarray) -> dict[str, numpy.ndarray]:
    """How much can be trusted in the draws: effective sample size and R-hat, by ArviZ.

    The effective sample size is how many independent draws would give the mean as precisely. R-hat
    compares the chains with one another: where it is above 1.01, they have not yet come
    to the same distribution.

    :param positions: (n, n_chains, dim)
    :return: ``ess`` and ``r_hat``, each (dim,)
    :raises UserError: where ArviZ is not installed
    """
    try:
        import arviz
    except ImportError:
        raise UserError('ArviZ is needed for diagnostics: pip install arviz') from None
    chains = numpy.asarray(positions, dtype='float64').transpose(2, 1, 0)  # (dim, n_chains, n)
    return {'ess': numpy.array([float(arviz.ess(x, method='mean')) for x in chains]),
            'r_hat': numpy.array([float(arviz.rhat(x)) for x in chains])}


def save_trace_plot(path: str | Path, positions: numpy.ndarray, max_dims: int = 8) -> None:
    """Draw where each chain was, move after move, one panel for each dimension.

    :param path: the PNG to write
    :param positions: (n, n_chains, dim)
    :param max_dims: how many dimensions to draw at most
    """
    from matplotlib.figure import Figure  # slow to import, and needed only here

    n_panels = min(positions.shape[2], max_dims)
    figure = Figure(figsize=(8, 0.5 + 1.3 * n_panels), layout='constrained')
    panels = figure.subplots(n_panels, sharex=True, squeeze=False)[:, 0]
    for i, panel in enumerate(panels):
        panel.plot(positions[:, :, i], linewidth=0.5)
        panel.set_ylabel(f'$s_{{{i}}}$')
    panels[-1].set_xlabel('move')
    with written_atomically(Path(path)) as file:
        figure.savefig(file, format='png')


# The script: a Gaussian with correlations ---------------------------------------------------------

def gaussian_target(rng: numpy.random.RandomState, dim: int
                    ) -> tuple[numpy.ndarray, numpy.ndarray]:
    """A random mean in [0, 10] and a random covariance with variances 1.

    :return: (dim,) and (dim, dim), float64
    """
    mean = rng.rand(dim) * 10
    cov = rng.rand(dim, dim)
    cov = (cov + cov.T) / 2
    numpy.fill_diagonal(cov, 1)
    # Correlations this strong may contradict each other. They are weakened, where necessary, until
    # the smallest eigenvalue is 0.1; with 5 dimensions and RandomState(123) it is 0.15 anyway.
    weaker = min(1, 0.9 / (1 - numpy.linalg.eigvalsh(cov)[0])) if dim > 1 else 1
    return mean, numpy.eye(dim) + weaker * (cov - numpy.eye(dim))


def gaussian_energy(mean: numpy.ndarray, cov: numpy.ndarray) -> EnergyFunction:
    """Energy of a Gaussian, half of (s - mean)' cov^-1 (s - mean)."""
    mean = numpy.asarray(mean, dtype=theano.config.floatX)
    precision = numpy.linalg.inv(cov).astype(theano.config.floatX)

    def energy_fn(pos):
        return 0.5 * T.sum(T.dot(pos - mean, precision) * (pos - mean), axis=1)

    return energy_fn


def print_moments(sampler: HMC_sampler, samples: Samples, mean: numpy.ndarray,
                  cov: numpy.ndarray) -> None:
    """Print what the moments should be, what they are, and how the sampler did."""
    positions = samples.positions.reshape(-1, len(mean)).astype('float64')
    print('****** TARGET VALUES ******')
    print('target mean:', mean)
    print('target cov:\n', cov)
    print('****** EMPIRICAL MEAN/COV USING HMC ******')
    print('empirical mean:', positions.mean(axis=0))
    print('empirical cov:\n', numpy.cov(positions.T))
    print('****** HMC INTERNALS ******')
    print('final stepsize', sampler.stepsize.get_value())
    print('final acceptance rate', sampler.avg_acceptance_rate.get_value())
    print('mean acceptance rate', samples.accepted.mean())


def sample_gaussian(dim: int = 5, n_chains: int = 3, burnin: int = 1000, n_samples: int = 1000,
                    n_steps: int = 20, initial_stepsize: float = 1e-3, stepsize_max: float = 0.5,
                    output_folder: str = 'hmc_output', seed: int | None = None,
                    diagnose: bool = False) -> Samples:
    """Sample a Gaussian with strong correlations, and compare its moments with the empirical ones.

    :param dim: dimensions of the Gaussian
    :param n_chains: chains that run side by side
    :param burnin: moves before the first one that counts
    :param n_samples: moves that count
    :param n_steps: leapfrog steps in a move
    :param initial_stepsize: length of the first leapfrog steps
    :param stepsize_max: upper limit of the step size
    :param output_folder: for samples.npz and trace.png
    :param seed: of everything random; 123 for the Gaussian and 12345 for the moves when left out
    :param diagnose: print effective sample sizes and R-hat, for which ArviZ must be installed
    """
    for name, value in (('dim', dim), ('n_chains', n_chains), ('n_samples', n_samples)):
        if value < 1:
            raise UserError(f'--{name.replace("_", "-")} is {value}: it has to be at least 1')
    folder = Path(output_folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = numpy.random.RandomState(123 if seed is None else seed)
    mean, cov = gaussian_target(rng, dim)
    sampler = HMC_sampler.new_from_shared_positions(
        sharedX(rng.randn(n_chains, dim), 'positions'), gaussian_energy(mean, cov),
        initial_stepsize=initial_stepsize, stepsize_max=stepsize_max, n_steps=n_steps,
        seed=12345 if seed is None else seed)
    if burnin > 0:
        sampler.sample(burnin)
    samples = sampler.sample(n_samples)
    print_moments(sampler, samples, mean, cov)
    if diagnose:
        for name, values in diagnostics(samples.positions).items():
            print(name, values)
    save_arrays(folder / 'samples.npz', vars(samples) | {'mean': mean, 'cov': cov})
    save_trace_plot(folder / 'trace.png', samples.positions)
    return samples


if __name__ == '__main__':
    command_line.run(sample_gaussian)
