"""Losses against torch's and the paper's formula; what they learn from the training split, and where it is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from audioclf.config import BceConfig, Config, CrossEntropyConfig, FocalConfig, parse_config
from audioclf.training.fit import fit
from audioclf.training.losses import BinaryCrossEntropy, CrossEntropy, Focal, build_loss
from audioclf.training.module import ClassifierModule

Tiny = Callable[..., Config]
K = 4
TRAIN = torch.tensor([0] * 12 + [1] * 4 + [2] * 3 + [3])
WEIGHTS = torch.tensor(compute_class_weight("balanced", classes=np.arange(K), y=TRAIN.numpy()), dtype=torch.float32)


def batch(seed: int = 0, clips: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits ``[B, K]``, class indices ``[B]`` and shares of classes ``[B, K]``."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(clips, K, generator=generator)
    return (
        logits,
        torch.randint(K, (clips,), generator=generator),
        torch.rand(clips, K, generator=generator).softmax(1),
    )


def fitted(name: str, weights: str, **settings: Any) -> Any:
    kinds = {"cross_entropy": CrossEntropyConfig, "focal": FocalConfig, "bce": BceConfig}
    loss = build_loss(kinds[name].model_validate({"name": name, "class_weights": weights, **settings}), K)
    loss.fit(TRAIN)
    return loss


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_cross_entropy_is_torchs_and_its_weights_are_scikit_learns(weights: str, smoothing: float) -> None:
    logits, targets, _ = batch()
    loss = fitted("cross_entropy", weights, label_smoothing=smoothing)
    assert isinstance(loss, torch.nn.CrossEntropyLoss)
    weight = WEIGHTS if weights == "balanced" else None
    expected = functional.cross_entropy(logits, targets, weight, label_smoothing=smoothing)
    assert torch.allclose(loss(logits, targets), expected)


@pytest.mark.parametrize("weights", ["none", "balanced"])
@pytest.mark.parametrize(
    ("name", "settings"), [("cross_entropy", {"label_smoothing": 0.1}), ("focal", {}), ("bce", {})]
)
def test_a_class_written_as_a_share_of_one_is_the_same_target(
    name: str, settings: dict[str, Any], weights: str
) -> None:
    logits, targets, mixed = batch()
    loss = fitted(name, weights, **settings)
    assert torch.allclose(loss(logits, targets), loss(logits, functional.one_hot(targets, K).float()))
    assert loss(logits, mixed).isfinite()


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_a_mixed_clip_costs_what_its_parts_cost_each_by_its_share(weights: str) -> None:
    logits, targets, _ = batch(clips=2)
    one, other = (functional.one_hot(part, K).float() for part in (targets, targets.flip(0)))
    weight = torch.ones(K) if weights == "none" else WEIGHTS
    for name in ("cross_entropy", "focal"):
        loss = fitted(name, weights)
        both = loss(logits, 0.3 * one + 0.7 * other)
        parts = 0.3 * loss(logits, one) * (one @ weight).sum() + 0.7 * loss(logits, other) * (other @ weight).sum()
        assert both == pytest.approx(float(parts / ((0.3 * one + 0.7 * other) @ weight).sum()), rel=1e-5)


@given(seed=st.integers(0, 10**6), gamma=st.floats(0, 5))
def test_focal_loss_is_the_papers_formula(seed: int, gamma: float) -> None:
    logits, targets, _ = batch(seed)
    p = logits.double().softmax(1)[torch.arange(len(targets)), targets]
    expected = (-((1 - p) ** gamma) * p.log()).mean()
    assert float(fitted("focal", "none", gamma=gamma)(logits, targets)) == pytest.approx(float(expected), rel=1e-4)


def test_focal_loss_without_focus_is_cross_entropy_and_has_finite_gradients_where_all_is_known() -> None:
    logits, targets, mixed = batch()
    for weights in ("none", "balanced"):
        plain, focal = fitted("cross_entropy", weights), fitted("focal", weights, gamma=0.0)
        assert torch.allclose(focal(logits, targets), plain(logits, targets))
        assert torch.allclose(focal(logits, mixed), plain(logits, mixed))
    for gamma in (0.0, 0.5, 2.0):
        sure = torch.tensor([[200.0, 0.0, 0.0, 0.0]], requires_grad=True)
        fitted("focal", "none", gamma=gamma)(sure, torch.tensor([0])).backward()
        assert sure.grad is not None and sure.grad.isfinite().all()


def test_the_weight_of_a_rare_label_is_how_often_it_is_missing() -> None:
    loss = fitted("bce", "balanced")
    assert loss.pos_weight.tolist() == pytest.approx([8 / 12, 16 / 4, 17 / 3, 19 / 1])
    logits, _, there = batch()
    there = (there > 0.25).float()
    expected = functional.binary_cross_entropy_with_logits(logits, there, pos_weight=loss.pos_weight)
    assert torch.allclose(loss(logits, there), expected)
    loss.fit(torch.zeros(3, K))
    assert loss.pos_weight.isfinite().all(), "a class that no clip has"


@pytest.mark.parametrize("loss", [CrossEntropy(), Focal(K, 2.0, weighted=False), BinaryCrossEntropy()])
def test_without_weights_nothing_is_learnt(loss: Any) -> None:
    before = {key: value.clone() for key, value in loss.state_dict().items()}
    loss.fit(TRAIN)
    assert all(torch.equal(value, before[key]) for key, value in loss.state_dict().items())


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_weights_come_from_the_training_split_and_travel_in_the_checkpoint(
    tiny_config: Tiny, tmp_path: Path, name: str
) -> None:
    table = Path(tiny_config().data.csv)  # type: ignore[union-attr]
    lines = table.read_text().splitlines()
    fewer = [line for line in lines if not line.startswith(("high1", "high2", "high3"))]
    part = tmp_path / "clips.csv"
    part.write_text("\n".join(fewer))
    data = {"csv": str(part), "audio_dir": str(table.parent)}
    config = tiny_config(data=data).model_dump() | {"loss": {"name": name, "class_weights": "balanced"}}
    run = fit(parse_config(config), tmp_path / "run")
    clips = run.result["data"]["splits"]["train"]["per_class"]
    module = ClassifierModule.load_from_checkpoint(run.folder / "checkpoints" / "model.ckpt")
    total = sum(clips.values())
    assert module.loss.weight.tolist() == pytest.approx([total / (3 * n) for n in clips.values()])
    assert len(set(clips.values())) > 1
