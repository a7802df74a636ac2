"""The whitening layer against what whitening means, and against scikit-learn's PCA."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.decomposition import PCA

from chainrule.errors import ConfigError, ShapeError
from chainrule.models import Conv2d, Flatten, Linear, ReLU, Sequential, Whiten2d, build_model


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def images(rng):
    """Images whose neighbouring pixels and channels are correlated, as those of photographs."""
    noise = rng.standard_normal((200, 3, 12, 12))
    smooth = noise + np.roll(noise, 1, axis=2) + np.roll(noise, 1, axis=3)
    return smooth @ np.eye(12) + 0.8 * smooth[:, [1, 2, 0]]


def patches(images, size):
    windows = sliding_window_view(images, (size, size), axis=(2, 3))
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, images.shape[1] * size * size)


class TestFit:
    def test_outputs_are_uncorrelated_and_of_unit_variance(self, images):
        net = Sequential([Whiten2d(27, 3, eps=1e-12), Flatten(), Linear(2)])
        net.init(np.random.default_rng(0), (3, 12, 12), dtype="float64", examples=images)
        seen = {}
        net.forward(images, observe=seen.__setitem__)
        out = seen["whiten1"][:, :27].transpose(0, 2, 3, 1).reshape(-1, 27)
        np.testing.assert_allclose(out.T @ out / len(out), np.eye(27), atol=1e-9)

    def test_second_half_is_the_negative_of_the_first(self, images):
        weight = Whiten2d(5, 3).fit(images)["weight"]
        np.testing.assert_array_equal(weight[5:], -weight[:5])

    def test_components_are_those_of_scikit_learn(self, images):
        mirrored = np.concatenate([images, -images])  # mean zero, so that PCA does not move it
        weight = Whiten2d(4, 2, eps=0.5).fit(mirrored)["weight"][:4].reshape(4, -1)
        pca = PCA(4).fit(patches(mirrored, 2))
        count = len(patches(mirrored, 2))
        variances = pca.explained_variance_ * (count - 1) / count
        expected = pca.components_ / np.sqrt(variances + 0.5)[:, None]
        expected *= np.sign(np.sum(expected * weight, axis=1))[:, None]
        np.testing.assert_allclose(weight, expected, atol=1e-10)

    def test_sign_does_not_depend_on_the_eigensolver(self, images):
        weight = Whiten2d(6, 3).fit(images)["weight"][:6].reshape(6, -1)
        assert (weight[np.arange(6), np.abs(weight).argmax(axis=1)] > 0).all()

    def test_flat_images_give_finite_filters(self):
        weight = Whiten2d(3, 3).fit(np.zeros((4, 1, 5, 5)))["weight"]
        assert np.isfinite(weight).all()

    def test_later_layers_see_what_reaches_them(self, images):
        net = Sequential([Conv2d(2, 1, name="first"), Whiten2d(2, 1, name="w"), Flatten()])
        net.init(np.random.default_rng(3), (3, 12, 12), dtype="float64", examples=images)
        mixed = np.einsum("fc,nchw->nfhw", net.params["first.weight"][:, :, 0, 0], images)
        np.testing.assert_allclose(net.buffers["w.weight"], Whiten2d(2, 1).fit(mixed)["weight"])

    def test_without_examples_the_filters_are_single_pixels(self):
        weight = Whiten2d(4, 2).buffers((1, 8, 8))["weight"]
        assert weight.shape == (8, 1, 2, 2)
        assert (np.count_nonzero(weight, axis=(1, 2, 3)) == 1).all()


class TestNetwork:
    def test_filters_are_a_buffer_and_stay(self, rng, images):
        net = build_model("speednet", 4, channels=(4, 4))
        net.init(rng, (3, 12, 12), examples=images)
        before = net.buffers["whiten1.weight"].copy()
        _, grads = net.loss_and_grads(images[:8], rng.integers(0, 4, 8), rng=rng)
        assert "whiten1.weight" not in net.params | grads
        np.testing.assert_array_equal(net.buffers["whiten1.weight"], before)

    def test_gradient_passes_through_it(self, rng):
        net = Sequential([Conv2d(2, 3, name="c"), Whiten2d(2, 2), Flatten(), Linear(3)])
        x, y = rng.standard_normal((5, 1, 6, 6)), rng.integers(0, 3, 5)
        net.init(rng, (1, 6, 6), dtype="float64", examples=x)
        analytic = net.loss_and_grads(x, y)[1]["c.weight"]
        weight, h = net.params["c.weight"], 1e-6
        numeric = np.empty_like(weight)
        for index in np.ndindex(weight.shape):
            kept, losses = weight[index], []
            for step in (h, -h):
                weight[index] = kept + step
                losses.append(net.training_loss(x, y))
            weight[index] = kept
            numeric[index] = (losses[0] - losses[1]) / (2 * h)
        np.testing.assert_allclose(analytic, numeric, rtol=1e-6, atol=1e-8)

    def test_fewer_numbers_than_components(self, rng):
        assert Whiten2d(12, 3).output_shape((1, 8, 8)) == (18, 6, 6)

    def test_relu_behind_it_is_not_taken_together_with_it(self, rng, images):
        fused, plain = (
            Sequential([Conv2d(2, 1), Whiten2d(3), ReLU(), Flatten(), Linear(2)], fuse=fuse)
            for fuse in (True, False)
        )
        y = rng.integers(0, 2, len(images))
        found = []
        for net in (fused, plain):
            net.init(np.random.default_rng(1), (3, 12, 12), dtype="float64", examples=images)
            found.append(net.loss_and_grads(images, y)[1])
        assert found[0].keys() == found[1].keys()
        for key, grad in found[0].items():
            np.testing.assert_allclose(grad, found[1][key], rtol=1e-12, atol=1e-14)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"components": 0}, "components must be at least 1"),
            ({"components": 1, "kernel_size": 0}, "kernel_size must be at least 1"),
            ({"components": 1, "padding": -1}, "padding must be at least 0"),
            ({"components": 1, "eps": 0.0}, "eps must be positive"),
        ],
    )
    def test_bad_options(self, options, message):
        with pytest.raises(ConfigError, match=message):
            Whiten2d(**options)

    def test_vectors_are_refused(self):
        with pytest.raises(ShapeError, match="be an image of shape"):
            Whiten2d(2).output_shape((5,))
