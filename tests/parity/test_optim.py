"""The same trajectory as PyTorch over 100 steps, to 1e-10 in float64."""

import numpy as np
import pytest

from chainrule.optim import (
    ExponentialMovingAverage,
    clip_grad_norm,
    clip_grad_value,
    make_optimizer,
    make_schedule,
)

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

STEPS = 100
TOLERANCE = 1e-10

rng = np.random.default_rng(0)
INPUTS = np.linalg.qr(rng.normal(size=(20, 6)))[0]
START = {"weight": rng.normal(size=(3, 6)), "bias": rng.normal(size=3)}
AWAY = {key: rng.choice([-6.0, 6.0], size=start.shape) for key, start in START.items()}
TARGETS = INPUTS @ (START["weight"] + AWAY["weight"]).T + START["bias"] + AWAY["bias"]

OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "momentum": lambda p, **o: torch.optim.SGD(p, **{"momentum": 0.9} | o),
    "nesterov": lambda p, **o: torch.optim.SGD(p, **{"momentum": 0.9, "nesterov": True} | o),
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
CASES = [
    ("sgd", {"lr": 0.05}),
    ("momentum", {"lr": 0.02}),
    ("momentum", {"lr": 0.02, "momentum": 0.5}),
    ("nesterov", {"lr": 0.02}),
    ("rmsprop", {"lr": 0.01}),
    ("rmsprop", {"lr": 0.01, "alpha": 0.9, "eps": 1e-3}),
    ("adagrad", {"lr": 0.2}),
    ("adagrad", {"lr": 0.2, "eps": 1e-2}),
    ("adam", {"lr": 0.02}),
    ("adam", {"lr": 0.02, "betas": (0.5, 0.9), "eps": 1e-3}),
    ("adamw", {"lr": 0.02}),
    ("adamw", {"lr": 0.02, "betas": (0.5, 0.9), "eps": 1e-3}),
]
cases = pytest.mark.parametrize(("name", "options"), CASES)


def loss_and_grads(params):
    """Regression with the loss log(cosh(error)), from a start far from the optimum.

    Far, because close to an optimum the adaptive rules overshoot for ever, and such a
    trajectory amplifies the last bits in which two libraries' tanh may differ (started one
    bit apart, a single library then differs from itself by 1e-7 after 100 steps).
    """
    error = INPUTS @ params["weight"].T + params["bias"] - TARGETS
    return {"weight": np.tanh(error).T @ INPUTS, "bias": np.tanh(error).sum(axis=0)}


def torch_loss(params):
    error = torch.tensor(INPUTS) @ params["weight"].T + params["bias"] - torch.tensor(TARGETS)
    return torch.log(torch.cosh(error)).sum()


def extra(name):
    return {"eps_inside_root": False} if name == "rmsprop" else {}


def trajectories(name, options, clip=None, torch_clip=None, rates=None, torch_schedule=None):
    """Run both libraries side by side; yield both sets of parameters after each step."""
    ours = {key: value.copy() for key, value in START.items()}
    theirs = {key: torch.nn.Parameter(torch.tensor(value)) for key, value in START.items()}
    optimizer = make_optimizer(name, **options, **extra(name))
    torch_optimizer = OPTIMIZERS[name](list(theirs.values()), **options)
    stepper = torch_schedule(torch_optimizer) if torch_schedule else None
    for step in range(STEPS):
        grads = loss_and_grads(ours)
        torch_optimizer.zero_grad()
        torch_loss(theirs).backward()
        if clip:
            clip(grads)
            torch_clip(theirs.values())
        optimizer.step(ours, grads, lr=rates(step) if rates else None)
        torch_optimizer.step()
        if stepper:
            stepper.step()
        yield ours, {key: value.detach().numpy() for key, value in theirs.items()}


def assert_same(pairs):
    moved = 0.0
    for ours, theirs in pairs:
        for key in START:
            np.testing.assert_allclose(ours[key], theirs[key], rtol=0, atol=TOLERANCE)
            moved = max(moved, np.abs(ours[key] - START[key]).max())
    assert moved > 0.1  # a comparison of parameters that stand still would prove nothing


@cases
def test_plain(name, options):
    assert_same(trajectories(name, options))


@cases
def test_weight_decay(name, options):
    assert_same(trajectories(name, options | {"weight_decay": 0.1}))


@cases
def test_clipping_by_norm(name, options):
    assert_same(
        trajectories(
            name,
            options,
            clip=lambda grads: clip_grad_norm(grads, 0.5),
            torch_clip=lambda params: torch.nn.utils.clip_grad_norm_(params, 0.5),
        )
    )


@cases
def test_clipping_by_value(name, options):
    assert_same(
        trajectories(
            name,
            options,
            clip=lambda grads: clip_grad_value(grads, 0.2),
            torch_clip=lambda params: torch.nn.utils.clip_grad_value_(params, 0.2),
        )
    )


def test_total_norm():
    grads = loss_and_grads(START)
    params = [torch.nn.Parameter(torch.tensor(value)) for value in START.values()]
    for param, key in zip(params, START, strict=True):
        param.grad = torch.tensor(grads[key])
    theirs = torch.nn.utils.clip_grad_norm_(params, 0.5)
    assert clip_grad_norm(grads, 0.5) == pytest.approx(float(theirs), rel=1e-14)
    for param, key in zip(params, START, strict=True):
        np.testing.assert_allclose(grads[key], param.grad.numpy(), rtol=1e-14)


def test_rmsprop_with_eps_inside_the_root():
    """PyTorch has no such option, so its tensors compute the course's formula."""
    ours = {key: value.copy() for key, value in START.items()}
    theirs = {key: torch.nn.Parameter(torch.tensor(value)) for key, value in START.items()}
    caches = {key: torch.zeros_like(value) for key, value in theirs.items()}
    optimizer = make_optimizer("rmsprop", lr=0.02, eps=1e-3)
    for _ in range(STEPS):
        optimizer.step(ours, loss_and_grads(ours))
        grads = torch.autograd.grad(torch_loss(theirs), theirs.values())
        with torch.no_grad():
            for (key, param), grad in zip(theirs.items(), grads, strict=True):
                caches[key] = 0.99 * caches[key] + 0.01 * grad**2
                param -= 0.02 * grad / torch.sqrt(caches[key] + 1e-3)
        for key in START:
            expected = theirs[key].detach().numpy()
            np.testing.assert_allclose(ours[key], expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("decay", [0.9, 0.999])
def test_exponential_moving_average(decay):
    model = torch.nn.Linear(6, 3, dtype=torch.float64)
    rule = torch.optim.swa_utils.get_ema_multi_avg_fn(decay)
    torch_average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=rule)
    average = ExponentialMovingAverage(decay)
    for ours, theirs in trajectories("momentum", {"lr": 0.02}):
        with torch.no_grad():
            for key, param in model.named_parameters():
                param.copy_(torch.tensor(theirs[key]))
        torch_average.update_parameters(model)
        average.update(ours)
        for key, param in torch_average.module.named_parameters():
            expected = param.detach().numpy()
            np.testing.assert_allclose(average.averages[key], expected, rtol=0, atol=TOLERANCE)


LR = torch.optim.lr_scheduler
EPOCH = 10


def by_epoch(scheduler):
    """PyTorch's per-epoch schedulers, stepped once every EPOCH steps."""

    class PerEpoch:
        def __init__(self, optimizer):
            self.scheduler, self.count = scheduler(optimizer), 0

        def step(self):
            self.count += 1
            if self.count % EPOCH == 0:
                self.scheduler.step()

    return PerEpoch


SCHEDULES = {
    "constant": ("constant", {}, lambda o: LR.LambdaLR(o, lambda step: 1.0)),
    "exponential": (
        "exponential",
        {"gamma": 0.8},
        by_epoch(lambda o: LR.ExponentialLR(o, 0.8)),
    ),
    "step": ("step", {"step_epochs": 3, "gamma": 0.5}, by_epoch(lambda o: LR.StepLR(o, 3, 0.5))),
    "milestones": (
        "step",
        {"milestones": [2, 7], "gamma": 0.3},
        by_epoch(lambda o: LR.MultiStepLR(o, [2, 7], 0.3)),
    ),
    "cosine": (
        "cosine",
        {"min_lr": 0.003},
        lambda o: LR.CosineAnnealingLR(o, T_max=STEPS, eta_min=0.003),
    ),
    "one_cycle": (
        "one_cycle",
        {},
        lambda o: LR.OneCycleLR(o, 0.05, total_steps=STEPS + 1, cycle_momentum=False),
    ),
    "one_cycle, other options": (
        "one_cycle",
        {"pct_start": 0.45, "div_factor": 5.0, "final_div_factor": 50.0},
        lambda o: LR.OneCycleLR(
            o,
            0.05,
            total_steps=STEPS + 1,
            pct_start=0.45,
            div_factor=5.0,
            final_div_factor=50.0,
            cycle_momentum=False,
        ),
    ),
}


@pytest.mark.parametrize("case", SCHEDULES)
def test_schedule(case):
    name, options, torch_schedule = SCHEDULES[case]
    # PyTorch's scheduler is stepped once more than there are steps, and OneCycleLR refuses to
    # go past its end, hence one step more in total there.
    total = STEPS + 1 if name == "one_cycle" else STEPS
    schedule = make_schedule(name, 0.05, total, EPOCH, **options)
    assert_same(
        trajectories("momentum", {"lr": 0.05}, rates=schedule.lr_at, torch_schedule=torch_schedule)
    )


@pytest.mark.parametrize("case", SCHEDULES)
def test_schedule_rates(case):
    name, options, torch_schedule = SCHEDULES[case]
    total = STEPS + 1 if name == "one_cycle" else STEPS
    schedule = make_schedule(name, 0.05, total, EPOCH, **options)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.05)
    stepper = torch_schedule(optimizer)
    for step in range(STEPS):
        assert schedule.lr_at(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        stepper.step()


@pytest.mark.parametrize("warmup", [1, 12])
def test_warm_up(warmup):
    schedule = make_schedule("cosine", 0.05, STEPS, EPOCH, warmup)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.05)
    linear = LR.LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    cosine = LR.CosineAnnealingLR(optimizer, T_max=STEPS - warmup)
    scheduler = LR.SequentialLR(optimizer, [linear, cosine], milestones=[warmup])
    for step in range(STEPS):
        assert schedule.lr_at(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        scheduler.step()
