"""Rules by hand, options of single optimizers, and the factory."""

import numpy as np
import pytest

from chainrule.errors import ConfigError, DTypeError, InputError
from chainrule.optim import SGD, Adam, AdamW, Momentum, Nesterov, RMSprop, make_optimizer

GRADS = [np.array([0.5, -2.0]), np.array([1.0, 3.0]), np.array([-0.25, 1e-6])]
RATES = [0.1, 0.05, 0.001]


def run(optimizer, rates=RATES):
    params = {"x": np.array([1.0, -1.0])}
    for grad, rate in zip(GRADS, rates, strict=True):
        optimizer.step(params, {"x": grad}, lr=rate)
    return params["x"]


@pytest.mark.parametrize("nesterov", [False, True])
def test_lr_in_velocity_is_the_course_rule_under_a_schedule(nesterov):
    """``v = mu*v - lr*dx; x += v`` and the notes' Nesterov form, written as the course does."""
    x, v = np.array([1.0, -1.0]), np.zeros(2)
    for dx, rate in zip(GRADS, RATES, strict=True):
        before = v
        v = 0.9 * v - rate * dx
        x = x - 0.9 * before + 1.9 * v if nesterov else x + v
    optimizer = SGD(momentum=0.9, nesterov=nesterov, lr_in_velocity=True)
    np.testing.assert_allclose(run(optimizer), x, rtol=1e-14)


@pytest.mark.parametrize("nesterov", [False, True])
def test_both_velocities_agree_at_a_constant_rate_only(nesterov):
    def both(rates):
        return [
            run(SGD(momentum=0.9, nesterov=nesterov, lr_in_velocity=flag), rates)
            for flag in (False, True)
        ]

    np.testing.assert_allclose(*both([0.1] * 3), rtol=1e-14)
    changing = both(RATES)
    assert np.abs(changing[0] - changing[1]).max() > 1e-3


def test_rmsprop_is_the_course_rule():
    """``cache = decay*cache + (1-decay)*dx**2; x -= lr*dx / sqrt(cache + eps)``."""
    x, cache = np.array([1.0, -1.0]), np.zeros(2)
    for dx, rate in zip(GRADS, RATES, strict=True):
        cache = 0.99 * cache + (1 - 0.99) * dx**2
        x = x - rate * dx / np.sqrt(cache + 1e-8)
    np.testing.assert_allclose(run(RMSprop()), x, rtol=1e-14)


def test_where_rmsprop_puts_eps_matters_for_small_gradients():
    params = {"inside": np.zeros(1), "outside": np.zeros(1)}
    for name, flag in (("inside", True), ("outside", False)):
        RMSprop(lr=1.0, eps_inside_root=flag).step({name: params[name]}, {name: np.full(1, 1e-6)})
    assert params["inside"][0] == pytest.approx(-0.01, rel=1e-3)  # 1e-6 / sqrt(1e-14 + 1e-8)
    assert params["outside"][0] == pytest.approx(-1e-6 / (1e-7 + 1e-8))


def test_named_momentum_optimizers_are_sgd_with_options():
    assert np.array_equal(run(Momentum(momentum=0.8)), run(SGD(momentum=0.8)))
    assert np.array_equal(run(Nesterov(momentum=0.8)), run(SGD(momentum=0.8, nesterov=True)))
    assert np.array_equal(run(Momentum(momentum=0.0)), run(SGD()))


def test_adamw_decays_apart_from_the_running_means():
    decayed, plain = AdamW(weight_decay=0.1), Adam()
    run(decayed), run(plain)
    for name, tensor in decayed.state_dict()[0].items():
        assert np.array_equal(tensor, plain.state_dict()[0][name])


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: SGD(momentum=1.0), InputError, "SGD: momentum must be at least 0 and below 1"),
        (lambda: SGD(nesterov=True), InputError, "momentum must be positive with nesterov=True"),
        (lambda: SGD(nesterov=1), DTypeError, "nesterov must be True or False; got 1"),
        (lambda: RMSprop(alpha=-0.1), InputError, "alpha must be at least 0 and below 1"),
        (lambda: RMSprop(eps=0.0), InputError, "eps must be positive and finite; got 0.0"),
        (lambda: Adam(betas=(0.9,)), InputError, "betas must be a pair of numbers"),
        (lambda: Adam(betas=0.9), InputError, "betas must be a pair of numbers; got 0.9"),
        (lambda: Adam(betas=(0.9, 1.0)), InputError, r"betas\[1\] must be at least 0 and below 1"),
        (lambda: Adam(lr=True), DTypeError, "lr must be a number; got True"),
        (lambda: Adam(weight_decay=-1), InputError, "weight_decay must be zero or more"),
        (lambda: make_optimizer("adma"), ConfigError, "got 'adma'. Did you mean 'adam'"),
        (lambda: make_optimizer("zzz"), ConfigError, "Known: adagrad, adam, adamw, momentum"),
        (lambda: make_optimizer(3), ConfigError, "name must be the name of an optimizer; got 3"),
    ],
)
def test_bad_options(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_lr_can_be_set_later_and_is_checked_then():
    optimizer = Adam()
    optimizer.lr = 0.5
    assert optimizer.lr == 0.5
    with pytest.raises(InputError, match="Adam: lr must be positive and finite; got 0"):
        optimizer.lr = 0


def test_betas_may_come_as_a_list():
    assert make_optimizer("adam", betas=[0.8, 0.9]).betas == (0.8, 0.9)
