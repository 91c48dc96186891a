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

import math

import numpy
import pytensor as theano
import pytensor.tensor as T
import scipy.optimize

import logistic_sgd
from logistic_sgd import load_data, minibatch_givens, scoring_functions
from support import checkpoints, command_line, engine, training
from support.checkpoints import Run


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


def load_classifier(output_folder: str) -> LogisticRegression:
    """The classifier that a run of this script left in its output folder.

    :raises UserError: when there is none, or it is not such a logistic regression
    """
    image_shape = checkpoints.read_description(output_folder)['image_shape']
    n_in = math.prod(image_shape)
    (n_parameters,), = checkpoints.model_shapes(output_folder, ndims=[1])
    classifier = LogisticRegression(T.matrix('x'), n_in, n_parameters // (n_in + 1))
    checkpoints.load_model(output_folder, classifier.params)
    return classifier


class Objective:
    """Cost and gradient over the whole training set, as a function of theta for SciPy.

    :param classifier: a model with a flat ``theta``
    :param cost: its cost on a minibatch
    :param givens: the minibatch of the training set with symbolic number ``index``
    :param run: keeps what was evaluated, so that an interrupted run can repeat it without work
    """

    def __init__(self, classifier: LogisticRegression, cost: T.TensorVariable,
                 givens: dict[T.TensorVariable, T.TensorVariable], index: T.TensorVariable,
                 run: Run):
        self.theta = classifier.theta
        self.run = run
        self.n_calls = 0
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
        done = self.run.extra.get('evaluations', numpy.empty((0, len(theta) + 1)))
        if self.n_calls == len(done):
            self.theta.set_value(theta.astype(self.theta.dtype))
            for total in (self.cost_sum, self.gradient_sum):
                total.set_value(numpy.zeros_like(total.get_value()))
            n = self.accumulate.n_minibatches
            self.accumulate.run(range(n))
            evaluation = numpy.concatenate([[self.cost_sum.get_value()],
                                            self.gradient_sum.get_value()]).astype('float64') / n
            done = self.run.extra['evaluations'] = numpy.concatenate([done, evaluation[None]])
        cost, *_ = evaluation = done[self.n_calls]
        self.n_calls += 1
        return float(cost), evaluation[1:]


def cg_optimization_mnist(n_epochs: int = 50, dataset: str | None = None, batch_size: int = 600,
                          seed: int | None = None, output_folder: str = 'logistic_cg_output',
                          resume: bool = False, overwrite: bool = False) -> training.Result:
    """Train logistic regression by SciPy's nonlinear conjugate gradients.

    :param n_epochs: iterations of conjugate gradients, at most
    :param dataset: MNIST when left out; a file or a folder of images, or digits
    :param batch_size: examples whose gradient is computed at a time
    :param seed: of no effect: there is nothing random in this script
    :param output_folder: for checkpoints, the best model and the history
    :param resume: go on with the run in the output folder
    :param overwrite: give up an unfinished run in the output folder
    """
    settings = training.check_settings(locals())
    data = load_data(dataset)

    print('... building the model', flush=True)
    index = T.lscalar('index')  # of a minibatch
    x = T.matrix('x')  # images, one flattened image a row
    y = T.ivector('y')  # labels
    classifier = LogisticRegression(input=x, n_in=data.n_in, n_out=data.n_classes)
    cost = classifier.negative_log_likelihood(y)
    validate_model, test_model = scoring_functions(classifier.errors(y), x, y, data, batch_size)

    with Run('logistic_cg', settings, data, classifier.params) as run:
        objective = Objective(classifier, cost,
                              minibatch_givens(x, y, data[0], index, batch_size), index, run)
        stage = training.Stage(run, 'training', objective.accumulate, n_epochs)
        # Of early stopping only the memory of the best is used.
        scores = training.Scores(run, stage, training.EarlyStopping(1, patience=2 * n_epochs + 2),
                                 validate_model, test_model)
        n_done = stage.record['epoch']
        n_iterations = 0

        def after_iteration(intermediate_result):
            nonlocal n_iterations
            n_iterations += 1
            if n_iterations <= n_done:  # repeated from the checkpoint
                return
            classifier.theta.set_value(intermediate_result.x.astype(classifier.theta.dtype))
            stage.record['minibatch'] = objective.accumulate.n_minibatches
            scores.measure(n_iterations - 1, float(intermediate_result.fun))
            stage.end_epoch()

        if stage.has_more_epochs() and not stage.record.get('stopped'):
            print('... optimizing using SciPy\'s conjugate gradients', flush=True)
            outcome = scipy.optimize.minimize(
                objective, numpy.zeros(len(classifier.theta.get_value())), jac=True, method='CG',
                callback=after_iteration, options={'maxiter': n_epochs})
            stage.record['stopped'] = stage.has_more_epochs()  # there is nothing more to gain
            print(outcome.message)
        return training.result(run, classifier, scores.conclude())


if __name__ == '__main__':
    command_line.run(cg_optimization_mnist)
