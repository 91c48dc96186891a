r"""Logistic regression again, fitted by conjugate gradients instead of gradient descent.

The model and its cost are those of :mod:`logistic_sgd`; here the whole training set is seen before
each step. A nonlinear conjugate gradient method minimises a function of *one vector*, so all
parameters live in a flat :math:`\theta`, of which :math:`W` and :math:`b` are views. The cost is
convex, there is no learning rate to choose, and a few dozen iterations do; but each of them costs
several passes through the training set.

References:
    - J. Nocedal, S. J. Wright, "Numerical Optimization", 2006, section 5.2
    - C. M. Bishop, "Pattern Recognition and Machine Learning", 2006, section 4.3.2
"""

import time
from typing import Any

from support import command_line, engine, likeness, training
from support.checkpoints import Run, resumable
from support.errors import check

import numpy
import pytensor as theano
import pytensor.tensor as T
import scipy.optimize

import logistic_sgd
from logistic_sgd import load_data, minibatch_givens, scoring_functions


class LogisticRegression(logistic_sgd.LogisticRegression):
    """Multi-class logistic regression whose parameters are one vector.

    :param input: symbolic minibatch, (batch_size, n_in)
    :param n_in: number of input units
    :param n_out: number of classes
    """

    def __init__(self, input: T.TensorVariable, n_in: int, n_out: int):
        n_weights = n_in * n_out
        self.theta = theano.shared(
            numpy.zeros(n_weights + n_out, dtype=theano.config.floatX), name='theta')
        super().__init__(input, n_in, n_out,
                         W=self.theta[:n_weights].reshape((n_in, n_out)),
                         b=self.theta[n_weights:])
        self.params = [self.theta]


def build(n_in: int, n_out: int) -> LogisticRegression:
    """A classifier with an input of its own, for parameters that were saved."""
    return LogisticRegression(T.matrix('x'), n_in, n_out)


class Objective:
    """Cost and gradient over the whole training set, as a function of theta for SciPy.

    :param classifier: a model with a flat ``theta``
    :param cost: its cost on a minibatch
    :param givens: the minibatch of the training set with symbolic number ``index``
    """

    def __init__(self, classifier: LogisticRegression, cost: T.TensorVariable,
                 givens: dict[T.TensorVariable, T.TensorVariable], index: T.TensorVariable):
        self.theta = classifier.theta
        # Summed minibatch after minibatch, so that the activations of one are all that is held.
        zeros = numpy.zeros_like(self.theta.get_value())
        self.cost_sum = theano.shared(zeros[0], name='cost_sum')
        self.gradient_sum = theano.shared(zeros, name='gradient_sum')
        self.accumulate = engine.function(
            inputs=[index], outputs=cost, givens=givens,
            updates=[(self.cost_sum, self.cost_sum + cost),
                     (self.gradient_sum, self.gradient_sum + T.grad(cost, self.theta))])

    def __call__(self, theta: numpy.ndarray) -> tuple[float, numpy.ndarray]:
        """Means over all minibatches of the cost and its gradient.

        :param theta: float64 (n_parameters,)
        :return: the cost, and the gradient in float64 (n_parameters,)
        """
        self.theta.set_value(theta.astype(self.theta.dtype))
        for total in (self.cost_sum, self.gradient_sum):
            total.set_value(numpy.zeros_like(total.get_value()))
        n = self.accumulate.n_minibatches
        self.accumulate.over(range(n))
        return (float(self.cost_sum.get_value()) / n,
                numpy.asarray(self.gradient_sum.get_value(), dtype='float64') / n)


@resumable
def train(n_epochs: int = 50, dataset: str | None = None, batch_size: int = 600,
          seed: int | None = None, output_folder: str = 'logistic_cg_output',
          resume: bool = False, overwrite: bool = False) -> training.Result:
    """Train logistic regression by SciPy's nonlinear conjugate gradients.

    For example::

        python code/logistic_cg.py --dataset digits
        python code/logistic_cg.py --dataset my_images.npz --output-folder mine_output

    :param n_epochs: iterations of conjugate gradients, at most
    :param dataset: MNIST when left out; a file or a folder of images, or digits
    :param batch_size: examples whose gradient is computed at a time
    :param seed: of no effect: there is nothing random in this script
    :param output_folder: for the best model and the history
    :param resume: go on with the run in the output folder; one that is not complete is done again
    :param overwrite: replace the run in the output folder
    """
    seed = 0 if seed is None else seed
    settings = dict(locals())
    check(0, n_epochs=n_epochs, seed=seed)
    data = load_data(dataset)

    print('... building the model', flush=True)
    index = T.lscalar('index')  # of a minibatch
    x = T.matrix('x')  # images, one flattened image a row
    y = T.ivector('y')  # labels
    sizes: dict[str, Any] = {'n_in': data.n_in, 'n_out': data.n_classes}
    classifier = LogisticRegression(input=x, **sizes)
    cost = classifier.negative_log_likelihood(y)
    validate_model, test_model = scoring_functions(classifier.errors(y), x, y, data, batch_size)
    objective = Objective(classifier, cost, minibatch_givens(x, y, data[0], index, batch_size),
                          index)

    with Run('logistic_cg', settings, data, classifier.params, sizes, ['n_epochs']) as run:
        likeness.save(run, data)
        n = objective.accumulate.n_minibatches
        state = run.stage('training', n_epochs, n)
        scores = training.Scores(run, state, 'training', n, validate_model, test_model)

        def after_iteration(intermediate_result):
            run.check_interruption()
            classifier.theta.set_value(intermediate_result.x.astype(classifier.theta.dtype))
            state['updates'] += n
            scores.measure(state['updates'], float(intermediate_result.fun),
                           iteration=state['updates'] // n)
            run.after_epoch(state['updates'] // n - 1, run.history[-1])

        if n_epochs > 0 and not (run.is_finished and state['updates'] == n_epochs * n):
            print('... optimizing using SciPy\'s conjugate gradients', flush=True)
            # It takes seconds, so what is not complete begins anew.
            state.clear()
            run.history.clear()
            state['updates'], started = 0, time.monotonic()
            outcome = scipy.optimize.minimize(
                objective, numpy.zeros(len(classifier.theta.get_value())), jac=True, method='CG',
                callback=after_iteration, options={'maxiter': n_epochs})
            print(outcome.message)
            run.seconds['training'] = time.monotonic() - started
        return training.result(run, classifier, scores.conclude())


cg_optimization_mnist = train  # its name in the old tutorials


if __name__ == '__main__':
    command_line.main(train)
