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

from support import draws, engine
from support.errors import UserError, check

import numpy
import pytensor as theano
import pytensor.tensor as T
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.replace import graph_replace

# From positions (n_chains, dim) to the energy of every chain (n_chains,), both symbolic.
EnergyFunction = Callable[[T.TensorVariable], T.TensorVariable]


def sharedX(X: numpy.ndarray | float, name: str | None = None) -> SharedVariable:
    """Shared variable with the values of ``X`` in floatX."""
    return theano.shared(numpy.array(X, dtype=theano.config.floatX), name=name)


def apply_to(pos: T.TensorVariable, function: EnergyFunction) -> T.TensorVariable:
    """The graph of ``function(pos)``, made first for a variable that stands for ``pos``.

    A scan in the user's energy would otherwise take in, with ``pos``, all of the path that leads
    there, and nothing could be differentiated by its end.
    """
    stand_in = pos.type('pos')
    return graph_replace(function(stand_in), {stand_in: pos}, strict=False)


# The move ---------------------------------------------------------------------------------------

def kinetic_energy(vel: T.TensorVariable) -> T.TensorVariable:
    """K(vel), half the squared length of the velocity: (n_chains, dim) to (n_chains,)."""
    return 0.5 * T.sum(T.sqr(vel), axis=1)


def hamiltonian(pos: T.TensorVariable, vel: T.TensorVariable,
                energy_fn: EnergyFunction) -> T.TensorVariable:
    """H = E(pos) + K(vel), of positions and velocities (n_chains, dim): (n_chains,)."""
    return apply_to(pos, energy_fn) + kinetic_energy(vel)


def metropolis_hastings_accept(energy_prev: T.TensorVariable, energy_next: T.TensorVariable,
                               s_rng: draws.RandomStreams) -> T.TensorVariable:
    """Which chains move, booleans (n_chains,): with probability min(1, exp(prev - next)).

    A chain that has got to NaN or infinity, as it may with steps that are too long, stays.
    """
    return s_rng.uniform(energy_prev.shape) < T.exp(energy_prev - energy_next)


def simulate_dynamics(initial_pos: T.TensorVariable, initial_vel: T.TensorVariable,
                      stepsize: T.TensorVariable | float, n_steps: int,
                      energy_fn: EnergyFunction) -> tuple[T.TensorVariable, T.TensorVariable]:
    """Follow Hamilton's equations for ``n_steps`` leapfrog steps.

    :param initial_pos: (n_chains, dim), as is ``initial_vel``
    :param stepsize: the length of a step in time
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


def hmc_move(s_rng: draws.RandomStreams, positions: T.TensorVariable, energy_fn: EnergyFunction,
             stepsize: T.TensorVariable | float, n_steps: int
             ) -> tuple[T.TensorVariable, T.TensorVariable]:
    """New velocities, the path they lead along, and whether its end is accepted.

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

    For the step size, the average is that before the move. The settings are explained at
    :meth:`HMC_sampler.new_from_shared_positions`.

    :param final_pos: where the move leads, (n_chains, dim)
    :param accept: which chains go there, booleans (n_chains,)
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


@dataclass(eq=False)
class HMC_sampler:
    """Chains that sample a distribution; made by :meth:`new_from_shared_positions`.

    ``positions``, ``stepsize`` and ``avg_acceptance_rate`` are shared variables, and the chains go
    on from the values that they have.

    :param move: one move of all chains, compiled; returns what :class:`Samples` holds of it
    """

    positions: SharedVariable
    stepsize: SharedVariable
    avg_acceptance_rate: SharedVariable
    target_acceptance_rate: float
    stepsize_min: float
    stepsize_max: float
    move: engine.Step

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
        :param n_steps: leapfrog steps in a move
        :param stepsize_dec: factor of the step size while too few moves are accepted
        :param stepsize_inc: factor of the step size while enough moves are accepted. With this
            factor and ``stepsize_dec`` 1 the step size stays as it is, and the chains sample
            the distribution exactly: after a burn-in, go on with such a sampler, of the same
            positions, from the step size that was found
        :param avg_acceptance_slowness: weight of the past in the average rate of acceptance
        :param seed: of the velocities and of the decisions; the same seed, the same draws
        :raises UserError: when positions, energy or settings cannot be used
        """
        check_start(shared_positions, energy_fn)
        check(1, n_steps=n_steps)
        if not 0 < stepsize_min <= initial_stepsize <= stepsize_max:
            raise UserError(f'`initial_stepsize` is {initial_stepsize}, but has to be from '
                            f'{stepsize_min} to {stepsize_max}, the limits of the step size')
        stepsize = sharedX(initial_stepsize, 'stepsize')
        avg_acceptance_rate = sharedX(target_acceptance_rate, 'avg_acceptance_rate')
        accept, final_pos = hmc_move(draws.RandomStreams(seed), shared_positions, energy_fn,
                                     stepsize, n_steps)
        updates = hmc_updates(shared_positions, stepsize, avg_acceptance_rate, final_pos, accept,
                              target_acceptance_rate, stepsize_inc, stepsize_dec, stepsize_min,
                              stepsize_max, avg_acceptance_slowness)
        (_, new_positions), *_ = updates
        move = engine.function(inputs=[T.lscalar('move')],
                               outputs=[new_positions, accept, stepsize],
                               updates=updates + draws.random_updates(accept, final_pos))
        return cls(shared_positions, stepsize, avg_acceptance_rate, target_acceptance_rate,
                   stepsize_min, stepsize_max, move)

    def draw(self) -> numpy.ndarray:
        """Move all chains once, to new positions (n_chains, dim)."""
        return self.sample(1).positions[0]

    def sample(self, n: int) -> Samples:
        """Move all chains ``n`` times, in one call: the same as ``n`` draws, but much faster.

        In JAX mode every new ``n`` takes a second to compile: sample in parts of one length.
        """
        if n < 1:
            raise UserError(f'{n} draws were asked for: there has to be at least one')
        return Samples(*self.move.over(range(n)))


def check_start(positions: SharedVariable, energy_fn: EnergyFunction) -> None:
    """See that every chain has an energy where it starts, and a gradient to follow.

    :raises UserError: when not
    """
    floatX = theano.config.floatX
    if (positions.type.ndim, positions.type.dtype) != (2, floatX):
        raise UserError(f'the positions are of type {positions.type}, not a shared {floatX} matrix '
                        '(n_chains, dim): make one by sharedX')
    energy = energy_fn(positions)
    at_start = theano.function([], [energy, T.grad(T.sum(energy), positions)])
    energies, gradients = map(numpy.asarray, at_start())
    if energies.shape != gradients.shape[:1]:
        raise UserError(f'the energy function returns shape {energies.shape}: one value per chain, '
                        f'shape {gradients.shape[:1]}, is needed')
    finite = numpy.isfinite(energies) & numpy.isfinite(gradients).all(axis=1)
    if not finite.all():
        chain = int(numpy.argmin(finite))
        raise UserError(f'chain {chain} starts where the energy is {energies[chain]} and its '
                        f'gradient {gradients[chain].tolist()}: both have to be finite')
