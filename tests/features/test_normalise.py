"""Normalisation: statistics equal numpy's, in one pass, and travel with the module."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audioclf.features.normalise import Standardise

SHAPE = (4, 9)


def batches(seed: int, sizes: list[int], scale: float = 10.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    offsets = torch.tensor([0.0, -50.0, 1000.0, 3.0])[:, None]
    return [torch.randn(n, *SHAPE, generator=generator) * scale + offsets for n in sizes]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), sizes=st.lists(st.integers(1, 20), min_size=1, max_size=6))
@pytest.mark.parametrize(("kind", "axes"), [("global", (0, 1, 2)), ("per_band", (0, 2))])
def test_statistics_equal_numpys_over_all_batches(kind, axes, seed, sizes):
    parts = batches(seed, sizes)
    module = Standardise.fit(kind, parts, SHAPE)
    everything = torch.cat(parts).double().numpy()
    np.testing.assert_allclose(module.mean.squeeze().numpy(), everything.mean(axes), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(module.std.squeeze().numpy(), everything.std(axes), rtol=1e-4)


@pytest.mark.parametrize("kind", ["global", "per_band"])
def test_the_training_split_comes_out_with_mean_0_and_standard_deviation_1(kind):
    parts = batches(0, [30, 7])
    out = Standardise.fit(kind, parts, SHAPE)(torch.cat(parts))
    dims = (0, 1, 2) if kind == "global" else (0, 2)
    torch.testing.assert_close(out.mean(dims), torch.zeros_like(out.mean(dims)), atol=1e-3, rtol=0)
    torch.testing.assert_close(out.std(dims), torch.ones_like(out.std(dims)), atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    ("axes", "shape", "over"),
    [
        (("dim",), (5,), (0,)),
        (("dim", "time"), (5, 7), (0, 2)),
        (("layer", "dim"), (3, 5), (0,)),
        (("layer", "dim", "time"), (3, 5, 7), (0, 3)),
    ],
)
def test_each_dimension_of_each_layer_has_its_own_scale(axes, shape, over):
    scales = torch.logspace(-1, 3, 5).reshape([5 if axis == "dim" else 1 for axis in axes])
    features = torch.randn(200, *shape, generator=torch.Generator().manual_seed(0)) * scales
    out = Standardise.fit("per_band", [features], shape, axes)(features)
    torch.testing.assert_close(out.std(over), torch.ones_like(out.std(over)), atol=0.02, rtol=0)
    fresh = Standardise.identity("per_band", shape, axes)
    fresh.load_state_dict(Standardise.fit("per_band", [features], shape, axes).state_dict())


def test_none_changes_nothing():
    parts = batches(0, [3])
    assert torch.equal(Standardise.fit("none", parts, SHAPE)(parts[0]), parts[0])


def test_a_constant_band_is_not_blown_up():
    features = torch.full((5, *SHAPE), -100.0)
    assert Standardise.fit("per_band", [features], SHAPE)(features + 0.01).abs().max() < 0.1


@pytest.mark.parametrize("unit", [1e-8, 1e-3, 1.0, 1e4])
def test_the_unit_of_features_does_not_matter_and_what_is_constant_stays_so(unit):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, *SHAPE, generator=generator)
    features[:, 0] = 3 + 1e-7 * features[:, 0]  # constant but for rounding
    features[:, 1] *= 1e-6  # all but constant beside the others
    module = Standardise.fit("per_band", [unit * features], SHAPE)
    found = module(unit * features)
    assert found[:, 2:].std((0, 2)).sub(1).abs().max() < 0.01
    assert found[:, :2].abs().max() < 1e-3 * max(1.0, unit)


def test_statistics_survive_a_checkpoint():
    module = Standardise.fit("per_band", batches(1, [8]), SHAPE)
    fresh = Standardise.identity("per_band", SHAPE)
    fresh.load_state_dict(module.state_dict())
    assert torch.equal(fresh.mean, module.mean)
    assert torch.equal(fresh.std, module.std)


def test_a_text_behind_a_spectrogram_keeps_a_scale_of_its_own():
    """A sentence encoder's dimensions deviate by some 0.05, a mel's by some 30 dB."""
    generator = torch.Generator().manual_seed(0)
    units = torch.cat([torch.full((64,), 30.0), torch.full((16,), 0.03)])
    features = torch.randn(200, 80, generator=generator) * units
    out = Standardise.fit("per_band", [features], (80,), ("dim",))(features)
    torch.testing.assert_close(out.std(0), torch.ones(80), atol=0.02, rtol=0)
