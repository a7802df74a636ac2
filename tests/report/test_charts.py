"""From metrics to charts."""

from typing import Any

import numpy as np
import pytest

from chainrule.report.charts import (
    Chart,
    activation_charts,
    best_evaluation,
    column,
    first_not_finite,
    layer_colours,
    learning_charts,
    of_kind,
    smooth,
    steps_per_epoch,
    thin,
    update_chart,
)


def test_column_tells_unknown_from_not_finite() -> None:
    records = [{"step": 1, "a": 1}, {"step": 2}, {"step": 3, "a": None}, {"step": 4, "a": "x"}]
    steps, values = column(records, "a")
    np.testing.assert_array_equal(steps, [1, 3, 4])
    np.testing.assert_array_equal(values, [1, np.nan, np.nan])


def test_records_without_a_step_are_left_out() -> None:
    assert of_kind([{"kind": "step"}, {"kind": "step", "step": None}], "step") == []


def test_smooth_is_the_weighted_mean_of_its_definition() -> None:
    values = np.random.default_rng(0).normal(size=30)
    values[[3, 17]] = np.nan
    known = np.flatnonzero(np.isfinite(values))
    result = smooth(values, width=2.0)
    for i in known:
        near = known[abs(known - i) <= 6]
        weights = np.exp(-0.5 * ((near - i) / 2.0) ** 2)
        assert result[i] == pytest.approx(weights @ values[near] / weights.sum())
    assert np.isnan(result[[3, 17]]).all()
    assert smooth(np.array([])).size == 0


def test_thin_keeps_ends_spikes_and_gaps() -> None:
    values = np.zeros(10_000)
    values[1234], values[8765], values[5000:5100] = 7.0, -7.0, np.nan
    kept = thin(values, 400)
    assert len(kept) <= 620
    assert {0, 1234, 8765, 9999} <= set(kept)
    assert np.isnan(values[kept]).any()
    assert (np.diff(kept) > 0).all()


def test_learning_charts_hold_the_metrics(full_metrics: list[dict[str, Any]]) -> None:
    charts = {chart.key: chart for chart in learning_charts(full_metrics)}
    assert list(charts) == ["loss", "accuracy", "lr"]
    raw, mean, train, val = charts["loss"].series
    losses = [r["loss"] for r in full_metrics if r["kind"] == "step"]
    np.testing.assert_array_equal(raw.values, losses)
    np.testing.assert_array_equal(mean.values, smooth(np.array(losses)))
    np.testing.assert_array_equal(train.values, [1.2, 0.7, 0.4])
    np.testing.assert_array_equal(val.values, [1.3, 0.9, 1.0])
    np.testing.assert_array_equal(val.steps, [40, 80, 120])
    mark = charts["loss"].mark
    assert mark is not None
    assert (mark.step, mark.value, mark.label) == (80, 0.9, "best: 0.9")


def test_few_steps_are_not_smoothed() -> None:
    records = [{"kind": "step", "step": s, "loss": 1.0 / s} for s in (1, 2, 3)]
    (chart,) = learning_charts(records)
    assert [s.name for s in chart.series] == ["training batches"]


def test_a_falling_loss_gets_a_logarithmic_axis() -> None:
    steep = [{"kind": "evaluation", "step": s, "val_loss": 10.0 ** (1 - s)} for s in (1, 2, 3)]
    flat = [{"kind": "evaluation", "step": s, "val_loss": 4.0 - s} for s in (1, 2, 3)]
    assert learning_charts(steep)[0].log
    assert not learning_charts(flat)[0].log


def test_one_spike_does_not_flatten_the_curve() -> None:
    losses = np.ones(300)
    losses[10] = 1e6
    records = [{"kind": "step", "step": i + 1, "loss": v} for i, v in enumerate(losses.tolist())]
    raw = learning_charts(records)[0].series[0]
    assert raw.style == "raw"
    limits = Chart("loss", "Loss", "loss", (raw,)).limits()
    assert limits is not None
    assert limits[1] < 2 < raw.values.max()


def test_limits_include_the_guide_and_skip_what_cannot_be_drawn(
    full_metrics: list[dict[str, Any]],
) -> None:
    chart = update_chart(full_metrics)
    assert chart is not None
    limits = chart.limits()
    assert limits is not None
    assert limits[0] < 1e-3 / 120 < 1e-3 < 3e-2 < limits[1]


def test_a_loss_that_is_never_finite_makes_no_chart() -> None:
    records = [{"kind": "step", "step": s, "loss": None} for s in range(20)]
    assert learning_charts(records) == []
    assert first_not_finite(records) == 0


def test_best_evaluation_is_the_last_that_was_flagged() -> None:
    records = [{"kind": "evaluation", "step": s, "best": s < 3, "val_loss": s} for s in (1, 2, 3)]
    assert best_evaluation(records) is records[1]


def test_best_evaluation_without_flags() -> None:
    def record(step: int, **values: float) -> dict[str, Any]:
        return {"kind": "evaluation", "step": step, **values}

    accurate = [record(1, val_accuracy=0.5, val_loss=1.0), record(2, val_accuracy=0.4, val_loss=0)]
    assert best_evaluation(accurate) is accurate[0]
    losses = [record(1, val_loss=1.0), record(2, val_loss=0.5)]
    assert best_evaluation(losses) is losses[1]
    assert best_evaluation([record(1)]) is None


def test_steps_per_epoch() -> None:
    assert steps_per_epoch([{"step": 120, "epoch": 3.0}, {"step": 130}]) == 40
    assert steps_per_epoch([{"step": 0, "epoch": 0}]) is None


def test_a_layer_has_one_colour_everywhere(full_metrics: list[dict[str, Any]]) -> None:
    assert layer_colours(full_metrics) == {"conv1": 0, "linear1": 1, "relu1": 2}
    updates = update_chart(full_metrics)
    assert updates is not None
    drawn = {s.name: (s.colour, s.dash) for s in updates.series}
    assert drawn == {"conv1.weight": (0, 0), "conv1.bias": (0, 1), "linear1.weight": (1, 0)}
    for chart in activation_charts(full_metrics):
        assert {s.name: s.colour for s in chart.series} == {"conv1": 0, "relu1": 2}


def test_biases_of_deep_networks_start_switched_off() -> None:
    names = [f"linear{i}.{kind}" for i in range(12) for kind in ("weight", "bias")]
    record = {"kind": "layers", "step": 1, "parameters": {n: {"update_ratio": 1e-3} for n in names}}
    chart = update_chart([record])
    assert chart is not None
    assert [s.name for s in chart.series if s.quiet] == [n for n in names if n.endswith("bias")]
    looks = {(s.colour, s.dash) for s in chart.series}
    assert len(looks) == 24
