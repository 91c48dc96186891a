"""Numbers from independent draws, with intervals that say how far chance may have moved them."""

import math
from dataclasses import dataclass

import numpy


@dataclass
class Estimate:
    """A number, and an interval of three standard errors on either side of it."""

    value: float
    low: float
    high: float

    def __str__(self):
        return f'{self.value:.2f} ({self.low:.2f} to {self.high:.2f})'

    def minus(self, other: 'Estimate') -> 'Estimate':
        """The difference of two estimates that are independent of each other."""
        value = self.value - other.value
        return Estimate(value, value - math.hypot(self.value - self.low, other.high - other.value),
                        value + math.hypot(self.high - self.value, other.value - other.low))


def mean_estimate(values: numpy.ndarray) -> Estimate:
    """The mean of independent values; a single one says nothing of its error."""
    mean = float(numpy.mean(values))
    error = (float(numpy.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1
             else math.inf)
    return Estimate(mean, mean - 3 * error, mean + 3 * error)


def ratio_estimate(numerators: numpy.ndarray, denominators: numpy.ndarray) -> Estimate:
    """The ratio of two sums over independent pairs.

    The interval is that of the ratio's linear approximation around the two sums (delta method).

    :param numerators: (n,)
    :param denominators: (n,), not negative; where all of them are 0, so is the ratio
    """
    mean = numpy.mean(denominators)
    if mean == 0:
        return Estimate(0., 0., 0.)
    ratio = numpy.mean(numerators) / mean
    return mean_estimate(ratio + (numerators - ratio * denominators) / mean)


def log_mean_estimate(log_weights: numpy.ndarray) -> Estimate:
    """The logarithm of the mean of independent weights, of which the logarithms are given.

    The lower end is -inf when the weights differ so much that their mean could be 0.
    """
    largest = log_weights.max()
    mean = mean_estimate(numpy.exp(log_weights - largest))
    low = math.log(mean.low) if mean.low > 0 else -math.inf
    return Estimate(*(float(largest) + number for number
                      in (math.log(mean.value), low, math.log(mean.high))))
