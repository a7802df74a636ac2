"""A whole training run equals the loop that a PyTorch user would write."""

from collections import OrderedDict

import numpy as np
import pytest

from chainrule.data import BatchIterator
from chainrule.models import make_loss, mlp
from chainrule.training import fit

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
nn = torch.nn

EPOCHS, BATCH, L2, SMOOTHING, DECAY = 4, 16, 0.05, 0.1, 0.8


def examples(count, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 6))
    return x, (x[:, 0] + x[:, 1] ** 2 > 1).astype(np.int64)


def test_the_loop_everyone_writes():
    """Shuffled batches, Adam, one-cycle rate, clipping, penalty, smoothing, moving average."""
    x, y = examples(70, 0)
    x_val, y_val = examples(40, 1)
    model = mlp(2, hidden=[8], norm="batch")
    model.init(np.random.default_rng(2), (6,), "glorot", np.float64)
    model.loss = make_loss("cross_entropy", label_smoothing=SMOOTHING)
    twin = nn.Sequential(
        OrderedDict(
            flatten1=nn.Flatten(),
            linear1=nn.Linear(6, 8),
            bn1=nn.BatchNorm1d(8),
            relu1=nn.ReLU(),
            linear2=nn.Linear(8, 2),
        )
    ).double()
    twin.load_state_dict({k: torch.tensor(v) for k, v in model.params.items()}, strict=False)

    history = fit(
        model,
        x,
        y,
        x_val,
        y_val,
        rng=np.random.default_rng(3),
        optimizer="adam",
        lr=0.02,
        schedule="one_cycle",
        l2=L2,
        clip_norm=0.3,
        ema_decay=DECAY,
        epochs=EPOCHS,
        batch_size=BATCH,
        log_every=1,
    )

    steps = EPOCHS * 5
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, steps, cycle_momentum=False)
    averages, losses, rates, validation = {}, [], [], []
    batches = BatchIterator(70, BATCH, np.random.default_rng(3).spawn(3)[0])
    criterion = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    for step in range(1, steps + 1):
        _, indices = batches.next_batch()
        twin.train()
        loss = criterion(twin(torch.tensor(x[indices])), torch.tensor(y[indices]))
        loss = loss + L2 / 2 * ((twin.linear1.weight**2).sum() + (twin.linear2.weight**2).sum())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 0.3)
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        losses.append(loss.item())
        for name, parameter in twin.named_parameters():
            new = parameter.detach().clone()
            averages[name] = averages.get(name, new) + (1 - DECAY) * (new - averages.get(name, new))
        if step < steps:
            schedule.step()
        if step % 5 == 0:
            twin.eval()
            with torch.no_grad():
                out = torch.func.functional_call(twin, averages, torch.tensor(x_val))
                right = (out.argmax(dim=1) == torch.tensor(y_val)).double().mean().item()
                validation.append((criterion(out, torch.tensor(y_val)).item(), right))
                if max(validation, key=lambda pair: (pair[1], -pair[0])) is validation[-1]:
                    kept = {name: value.clone() for name, value in averages.items()}

    np.testing.assert_allclose(history.series("loss", "step"), losses, rtol=0, atol=1e-9)
    np.testing.assert_allclose(history.series("lr", "step"), rates, rtol=0, atol=1e-12)
    expected = np.array(validation)
    np.testing.assert_allclose(history.series("val_loss"), expected[:, 0], rtol=0, atol=1e-9)
    assert history.series("val_accuracy") == expected[:, 1].tolist()
    for name, value in kept.items():
        np.testing.assert_allclose(model.params[name], value.numpy(), rtol=0, atol=1e-9)
