"""The steps of ``benchmark.py`` in PyTorch, as its users write them, to race against.

PyTorch is no requirement of this project: ``pip install torch``, and ``benchmark.py --peers``.
Each function takes the images, float32 (n_examples, n_in), and labels (n_examples,) of the
benchmark, and gives a function that takes one step on the minibatch of an index.
"""

from collections.abc import Callable

from support.errors import UserError

import numpy

try:
    import torch
    import torch.nn.functional as F
    from torch import nn
except ImportError:
    raise UserError('PyTorch is not here to race against: pip install torch') from None

Step = Callable[[int], None]


def run_on(device: str) -> None:
    """Let the steps that are made from now on run on it, the CPU or a GPU."""
    torch.set_default_device('cuda' if device == 'gpu' else device)


def finish() -> None:
    """Wait for what a GPU has been given to do."""
    if torch.get_default_device().type == 'cuda':
        torch.cuda.synchronize()


def supervised(model: nn.Module, images: numpy.ndarray, labels: numpy.ndarray, batch_size: int,
               weight_decay: float = 0.) -> Step:
    """Stochastic gradient descent on the cross-entropy, by autograd and the library's optimiser."""
    x, y = torch.as_tensor(images), torch.as_tensor(labels.astype('int64'))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, weight_decay=weight_decay)

    def step(index: int) -> None:
        rows = slice(batch_size * index, batch_size * (index + 1))
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimiser.step()

    return step


def logistic(images: numpy.ndarray, labels: numpy.ndarray) -> Step:
    """Logistic regression, minibatches of 600."""
    return supervised(nn.Linear(784, 10), images, labels, 600)


def perceptron(images: numpy.ndarray, labels: numpy.ndarray) -> Step:
    """MLP with 500 hidden units, minibatches of 20."""
    model = nn.Sequential(nn.Linear(784, 500), nn.Tanh(), nn.Linear(500, 10))
    return supervised(model, images, labels, 20, weight_decay=0.0002)


def convolutional(images: numpy.ndarray, labels: numpy.ndarray) -> Step:
    """LeNet, minibatches of 500, with the channels last, which is the faster way on a CPU."""
    model = nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Tanh(),
        nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Tanh(),
        nn.Flatten(), nn.Linear(800, 500), nn.Tanh(), nn.Linear(500, 10))
    return supervised(model.to(memory_format=torch.channels_last), images, labels, 500)


def finetuning(images: numpy.ndarray, labels: numpy.ndarray) -> Step:
    """Finetuning of the 3 x 1000 SdA, one example at a time."""
    model = nn.Sequential(
        nn.Linear(784, 1000), nn.Sigmoid(), nn.Linear(1000, 1000), nn.Sigmoid(),
        nn.Linear(1000, 1000), nn.Sigmoid(), nn.Linear(1000, 10))
    return supervised(model, images, labels, 1)


def auto_encoder(n_visible: int, images: numpy.ndarray, labels: numpy.ndarray) -> Step:
    """A denoising auto-encoder with tied weights and 1000 hidden units, one example at a time."""
    x = torch.as_tensor(images)
    W = nn.Parameter(torch.empty(n_visible, 1000).uniform_(-.2, .2))
    b, b_prime = nn.Parameter(torch.zeros(1000)), nn.Parameter(torch.zeros(n_visible))
    optimiser = torch.optim.SGD([W, b, b_prime], lr=0.001)

    def step(index: int) -> None:
        clean = x[index:index + 1]
        hidden = torch.sigmoid(clean * torch.bernoulli(torch.full_like(clean, .9)) @ W + b)
        cost = F.binary_cross_entropy_with_logits(hidden @ W.T + b_prime, clean, reduction='sum')
        optimiser.zero_grad(set_to_none=True)
        cost.backward()
        optimiser.step()

    return step


def boltzmann_machine(n_hidden: int, batch_size: int, k: int, persistent: bool,
                      images: numpy.ndarray, labels: numpy.ndarray) -> Step:
    """(Persistent) contrastive divergence, with its gradient written out."""
    x = torch.as_tensor(images)
    n_visible = x.shape[1]
    W = torch.empty(n_visible, n_hidden).uniform_(-.2, .2)
    b, c = torch.zeros(n_visible), torch.zeros(n_hidden)
    chain = torch.bernoulli(torch.full((batch_size, n_hidden), .5))

    @torch.no_grad()
    def step(index: int) -> None:
        nonlocal chain
        v0 = x[batch_size * index:batch_size * (index + 1)]
        h0 = torch.sigmoid(v0 @ W + c)
        if not persistent:
            chain = torch.bernoulli(h0)
        for _ in range(k):
            v = torch.bernoulli(torch.sigmoid(chain @ W.T + b))
            h = torch.sigmoid(v @ W + c)
            chain = torch.bernoulli(h)
        rate = 0.01 / batch_size
        W.add_(v0.T @ h0 - v.T @ h, alpha=rate)
        b.add_((v0 - v).sum(0), alpha=rate)
        c.add_((h0 - h).sum(0), alpha=rate)

    return step
