r"""The likelihood of a model that was trained, on images that it has not seen.

An RBM gives an image the log-probability :math:`-F(v) - \log Z`, and :mod:`ais` estimates Z.

In a deep belief network, the hidden units of the lower layers would have to be summed out as well.
For any distribution :math:`q(h \mid v)` of theirs, and here for that of the layers going up, there
is a lower bound,

.. math::
    \log p(v) \ge \mathbb{E}_q \Big[\sum_l \log P(h^{(l)} \mid h^{(l+1)})
    - \log q(h^{(l+1)} \mid h^{(l)}) - F(h^{(L-1)}) \Big] - \log Z,

where :math:`h^{(0)} = v`, and F and Z are those of the RBM on top.

References:
    - R. Salakhutdinov, I. Murray, "On the quantitative analysis of deep belief networks", 2008
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from support import checkpoints, command_line, datasets
from support.errors import UserError, check
from support.estimates import Estimate, mean_estimate
from support.folders import OutputFolder, read_record, write_json

import numpy
from scipy.special import expit

import ais
import rbm
from DBN import load_rbms
from rbm import RBM


def dbn_lower_bound(rbms: Sequence[RBM], log_z: Estimate, images: numpy.ndarray,
                    n_draws: int = 10, seed: int = 0) -> Estimate:
    """Lower bound on the mean log-probability of images under a deep belief network.

    :param rbms: from the bottom to the top, each with the hidden units of the one below
    :param log_z: log Z of the last one
    :param images: zeros and ones, (n_images, n_visible)
    :param n_draws: draws from q for each image
    """
    rng = numpy.random.RandomState(seed)
    bounds = numpy.zeros(len(images))
    for _ in range(n_draws):
        v = images.astype('float64')
        for machine in rbms[:-1]:
            W, hbias, vbias = ais.parameters(machine)
            up = v @ W + hbias
            h = ais.binarized(expit(up), rng)
            down = h @ W.T + vbias
            # log P of a binary x is x a - softplus(a), where a goes into the sigmoid
            bounds += (v * down - numpy.logaddexp(0, down)).sum(axis=1)
            bounds -= (h * up - numpy.logaddexp(0, up)).sum(axis=1)
            v = h
        bounds -= ais.free_energies(rbms[-1], v)
    return mean_estimate(bounds / n_draws).minus(log_z)


def read_model(model: Path) -> tuple[list[RBM], dict[str, Any]]:
    """The RBMs of a run, from the bottom to the top, and what it was trained on.

    :raises UserError: when there are none, or others than binary ones
    """
    record = read_record(model)
    if record['script'] not in ('rbm', 'DBN'):
        raise UserError(f'{model} holds a run of {record["script"]}.py, not of rbm.py or DBN.py')
    rbms = ([checkpoints.load(model, rbm.build)] if record['script'] == 'rbm'
            else load_rbms(str(model)))
    return rbms, record['data']


def read_data(dataset: str | None, model: Path, machine: RBM,
              trained: dict[str, Any]) -> datasets.ImageData:
    """The data set to measure on, with a notice when the model was trained on another.

    :raises UserError: when its images are of another size, or it was not asked for
    """
    data = datasets.read(dataset)
    n_pixels = data.test[0].shape[1]
    if n_pixels != machine.n_visible:
        raise UserError(f'the images of {data.name} have {n_pixels} pixels, the model has '
                        f'{machine.n_visible} visible units: name the data set of its training')
    if data.sha256 != trained['sha256']:
        if dataset is None:
            raise UserError(f'{model} was trained on {trained["name"]}, which {data.name} is '
                            'not: name the data to measure it on as `dataset`')
        print(f'NOTICE: {model} was trained on {trained["name"]}, and is measured on '
              f'{data.name}', file=sys.stderr)
    return data


def log_likelihood(model: Path, dataset: str | None = None, n_chains: int = 100,
                   n_temperatures: int = 14500, n_reverse: int = 500,
                   seed: int = 0) -> dict[str, Estimate]:
    """Average test log-probability, in nats, of an RBM, or a lower bound of it for a DBN.

    Pixels are drawn as on or off, with their grey levels as probabilities. Every number comes
    with an interval of three standard errors on either side. Results go to ais.json beside the
    model.

    For example::

        python code/likelihood.py --model rbm_plots
        python code/likelihood.py --model rbm_plots --n-temperatures 2000 --n-chains 100

    :param model: output folder of a run of rbm.py or DBN.py
    :param dataset: whose training set gives the model to start from, and whose test set is
        measured; MNIST when left out
    :param n_chains: chains of AIS
    :param n_temperatures: Gibbs steps of each chain
    :param n_reverse: test images, chosen at random, from which chains of reverse AIS start; 0 for
        none. For RBMs only
    :param seed: of the pixels and the chains
    """
    check(1, n_chains=n_chains, n_temperatures=n_temperatures)
    check(0, n_reverse=n_reverse, seed=seed)
    rbms, trained = read_model(model)
    data = read_data(dataset, model, rbms[0], trained)
    rng = numpy.random.RandomState(seed)
    test = ais.binarized(data.test[0], rng)
    chain_seed, reverse_seed, draw_seed = rng.randint(2 ** 30, size=3)
    seen = data.train[0]
    for machine in rbms[:-1]:  # the RBM on top sees what the layers below make of the images
        W, hbias, _ = (numpy.asarray(param.get_value()) for param in machine.params)
        seen = expit(seen @ W + hbias)
    top, base = rbms[-1], rbm.base_rate_biases(seen)

    log_z = ais.ais_log_partition(top, base, n_chains, n_temperatures, chain_seed)
    results = {'log Z': log_z}
    print(f'log Z by AIS: {log_z}')
    if min(top.n_visible, top.n_hidden) <= ais.ENUMERABLE:
        exact = ais.exact_log_partition(top)
        results['exact log Z'] = Estimate(exact, exact, exact)
        print(f'log Z exactly: {exact:.2f}')
    if len(rbms) > 1:
        name, value = 'lower bound', dbn_lower_bound(rbms, log_z, test, seed=draw_seed)
    else:
        name, value = 'log-probability', mean_estimate(-ais.free_energies(top, test)).minus(log_z)
    results[name] = value
    print(f'average test {name} by AIS: {value}')
    # A random choice: MNIST's test set is in no random order.
    chosen = test[rng.permutation(len(test))[:n_reverse if len(rbms) == 1 else 0]]
    if len(chosen):
        value = mean_estimate(-ais.free_energies(top, chosen)).minus(log_z)
        results['log-probability of the chosen'] = value
        print(f'the same by AIS, {len(chosen)} images: {value}')
        value = ais.reverse_ais_log_likelihood(top, base, chosen, n_temperatures, reverse_seed)
        results['log-probability of the chosen, reverse AIS'] = value
        print(f'the same by reverse AIS, these images: {value}')
    with OutputFolder(model) as output:
        path = output.file('ais.json')
        write_json(path, {
            'data': data.name, 'data_sha256': data.sha256, 'n_chains': n_chains,
            'n_temperatures': n_temperatures, 'n_reverse': len(chosen), 'seed': seed,
            'nats': {name: asdict(estimate) for name, estimate in results.items()}})
    print(f'The data set was {data.name}; the numbers are in {path}')
    return results


if __name__ == '__main__':
    command_line.main(log_likelihood)
