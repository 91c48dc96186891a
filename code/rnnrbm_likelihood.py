r"""How good an RNN-RBM is: the likelihood of tunes that it has not heard, and its predictions.

The log-likelihood of a frame, :math:`\log P(v_t | \ldots) = -F_t(v_t) - \log Z_t`, takes annealed
importance sampling (see :mod:`ais`) of the RBM of every frame. It ends in samples of that RBM,
which are predictions of the frame: with TP notes that are in both, FP in the prediction only and
FN in the frame only,

.. math::
    \text{accuracy} = \frac{\sum_t \mathrm{E}[TP_t]}{\sum_t \mathrm{E}[TP_t + FP_t + FN_t]} .

The sharper a model, the more Gibbs steps it takes to get from one of its notes to another, and
chains that are annealed too fast miss some, which makes Z too small and the likelihood too large.
So the number of steps is raised tenfold until that changes the likelihood by less than its
standard error.

References:
    - R. M. Neal, "Annealed importance sampling", 2001, and R. Salakhutdinov, I. Murray, "On the
      quantitative analysis of deep belief networks", 2008 (the likelihood)
    - M. Bay, A. F. Ehmann, J. S. Downie, "Evaluation of multiple-F0 estimation and tracking
      systems", 2009 (the accuracy)
"""

from dataclasses import asdict
from pathlib import Path

from support import command_line, datasets
from support.errors import UserError, check
from support.folders import OutputFolder, write_json
from support.tune_statistics import statistics_of

import rnnrbm
from frame_likelihood import Evaluation, measured

TUNES_TO_MAKE_UP = 10  # beside those that are evaluated


def tunes_to_evaluate(which: str, dataset: str | None) -> tuple[str, list[datasets.MidiPath]]:
    """Find held-out tunes.

    :param which: `train`, `valid` or `test` for a part of the data set, or the path of other
        MIDI files, all of which are taken
    :param dataset: as for :func:`support.datasets.find_tunes`
    :return: their name, and the files
    :raises UserError: when there are none
    """
    if which not in datasets.SPLITS:
        files = datasets.find_tunes(which)
        return files.name, [*files.train, *files.valid, *files.test]
    files = datasets.find_tunes(dataset)
    if not getattr(files, which):
        raise UserError(f'{files.name} has no folder {which} with MIDI files: give the path of '
                        'some to `evaluate`')
    return f'{files.name}, {which}', getattr(files, which)


def log_likelihood(model: str = 'rnnrbm_output', evaluate: str = 'test',
                   dataset: str | None = None, n_frames: int = 5000, n_chains: int = 5,
                   n_temperatures: int | None = None,
                   seed: int | None = None) -> Evaluation:
    """Log-likelihood and accuracy of a trained RNN-RBM on held-out tunes.

    Every number comes with an interval of three standard errors on either side. A table sets
    tunes that the model makes up beside the others. Results go to ``evaluation_test.json`` or the
    like, beside the model.

    For example::

        python code/rnnrbm_likelihood.py --model rnnrbm_output
        python code/rnnrbm_likelihood.py --model rnnrbm_output --dataset my_tunes/

    :param model: output folder of a run of rnnrbm.py
    :param evaluate: on the files test, valid or train of the data set, or in a folder or a zip of
        MIDI files
    :param dataset: Nottingham when left out; a folder or a zip of MIDI files, tunes or chorales
    :param n_frames: frames to measure it on, chosen at random; 0 for all
    :param n_chains: chains of annealed importance sampling for each of them
    :param n_temperatures: Gibbs steps of each chain; when left out 500, or 5,000 where that makes
        a difference of more than a standard error
    :param seed: of the choice and the chains; that of the run when left out
    """
    check(1, n_chains=n_chains)
    if n_temperatures is not None:
        check(1, n_temperatures=n_temperatures)
    check(0, n_frames=n_frames)
    trained = rnnrbm.load(model, seed)
    print('... loading data', flush=True)
    name, files = tunes_to_evaluate(evaluate, dataset)
    rolls = trained.read(files)
    print('... evaluating the model', flush=True)
    evaluation = measured(trained.parameters, rolls, n_frames, n_chains, n_temperatures,
                          trained.seed)
    print(evaluation)
    known = trained.read(datasets.find_tunes(dataset).train)
    made_up = [trained.sample() for _ in range(TUNES_TO_MAKE_UP)]
    tunes = {'training': statistics_of(known, known), 'evaluated': statistics_of(rolls, known),
             'made up': statistics_of(made_up, known)}
    print('\n' + ' ' * 20 + ''.join(f'{kind:>12}' for kind in tunes))
    for of in tunes['training']:
        print(f'{of:20}' + ''.join(f'{numbers[of]:12.2f}' for numbers in tunes.values()))
    print()
    with OutputFolder(model) as output:
        path = output.file(f'evaluation_{Path(evaluate).stem}.json')
        write_json(path, {'data': name, 'n_chains': n_chains, 'seed': trained.seed,
                          **asdict(evaluation), 'tunes': tunes})
    print(f'The tunes were those of {name}; the numbers are in {path}')
    return evaluation


if __name__ == '__main__':
    command_line.main(log_likelihood)
