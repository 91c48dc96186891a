r"""Hybrid Monte Carlo at work on a Gaussian with correlations, where it is known what comes out.

With mean :math:`\mu` and covariance :math:`\Sigma`, the energy of a position :math:`s` is

.. math::
    E(s) = \tfrac{1}{2} (s - \mu)' \, \Sigma^{-1} (s - \mu) ,

and the means, variances and correlations of the draws can be held against these.
"""

from pathlib import Path

# hmc comes first: it shows Python the way to `support`.
from hmc import EnergyFunction, HMC_sampler, Samples, sharedX  # type: ignore[attr-defined]

# isort: split
from support import command_line
from support.checkpoints import save_arrays
from support.errors import UserError, check
from support.folders import OutputFolder, written_atomically

import numpy
import pytensor as theano
import pytensor.tensor as T


def gaussian_target(rng: numpy.random.RandomState,
                    dim: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """A random mean in [0, 10], (dim,), and a random covariance with variances 1, (dim, dim)."""
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


def save_trace_plot(path: Path, positions: numpy.ndarray, max_dims: int = 8) -> None:
    """Draw where each chain was, move after move, one panel for each dimension, as a PNG.

    :param positions: (n, n_chains, dim)
    """
    from matplotlib.figure import Figure  # slow to import, and needed only here

    n_panels = min(positions.shape[2], max_dims)
    figure = Figure(figsize=(8, 0.5 + 1.3 * n_panels), layout='constrained')
    panels = figure.subplots(n_panels, sharex=True, squeeze=False)[:, 0]
    for i, panel in enumerate(panels):
        panel.plot(positions[:, :, i], linewidth=0.5)
        panel.set_ylabel(f'$s_{{{i}}}$')
    panels[-1].set_xlabel('move')
    with written_atomically(path) as file:
        figure.savefig(file, format='png')


def sample_gaussian(dim: int = 5, n_chains: int = 3, burnin: int = 1000, n_samples: int = 1000,
                    n_steps: int = 20, initial_stepsize: float = 1e-3, stepsize_max: float = 0.5,
                    output_folder: str = 'hmc_output', seed: int | None = None,
                    diagnose: bool = False) -> Samples:
    """Sample a Gaussian with strong correlations, and compare its moments with the empirical ones.

    For example::

        python code/hmc/gaussian.py --dim 2 --n-samples 1000
        python code/hmc/gaussian.py --seed 7 --output-folder seven_output

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
    settings = dict(locals())
    check(1, dim=dim, n_chains=n_chains, n_samples=n_samples)
    check(0, burnin=burnin, seed=0 if seed is None else seed)
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
    with OutputFolder(output_folder) as output:
        output.begin('gaussian', settings=settings)
        save_arrays(output.file('samples.npz'), vars(samples) | {'mean': mean, 'cov': cov})
        save_trace_plot(output.file('trace.png'), samples.positions)
    return samples


if __name__ == '__main__':
    command_line.main(sample_gaussian)
