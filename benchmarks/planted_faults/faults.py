"""What is planted, at which severities, and which verdicts are right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from benchmarks.planted_faults import changes
from benchmarks.planted_faults.changes import Change

BASE = (
    "features.n_mels=32",
    "features.hop_length=1024",
    "features.target_length=108",
    "lr=1e-4",
    "epochs=50",
    "batch_size=32",
    "trainer.tensorboard=false",
    "trainer.keep_state=false",
)
"""Small features, so that hundreds of diagnoses are affordable; a tuned run of them."""

HIDDEN = "model.hidden=128"

LOWERED = 0.10
"""A planted fault counts where it lowered test macro-F1 by this; leakage, where it raised it by this."""

ACCEPTED: Mapping[str, Mapping[str, str]] = {
    "lr_high": {"lr_too_high": "what was planted"},
    "undertrained": {"undertrained": "what was planted"},
    "no_normalisation": {
        "no_normalisation": "what was planted",
        "lr_too_high": "the first step is lr times the input's size: a smaller lr cures what large inputs do",
    },
    "small_model": {"model_too_small": "what was planted"},
    "labels_shuffled": {"no_signal": "what was planted"},
    "label_flips": {"label_noise": "what was planted"},
    "imbalance": {
        "class_imbalance": "what was planted",
        "rare_classes": "classes of one clip stay bad however they are weighted: more clips is the only repair",
    },
    "silent_clips": {"bad_clips": "what was planted"},
    "test_muffled": {"shift": "what was planted"},
    "test_renamed": {"label_map": "what was planted"},
    "few_clips": {
        "too_few_clips": "what was planted",
        "rare_classes": "where every class has few clips, every class is rare",
    },
    "many_classes": {
        "too_few_clips": "what was planted",
        "rare_classes": "where every class has few clips, every class is rare",
    },
    "features_scrambled": {"features_weak": "what was planted"},
    "features_coarse": {"features_weak": "what was planted"},
    "window_leak": {"leakage": "what was planted"},
    "mixed_pairs": {
        "multi_label": "what was planted; label_noise is no right answer: correcting a label would not mend it",
    },
}
"""Of each kind of fault, the causes that are a right answer, and why."""


@dataclass(frozen=True)
class Fault:
    """A fault at one severity, or two at once, or none.

    Attributes:
        name: e.g. ``"lr_high"``; ``"none"`` for healthy runs.
        severity: how much of it; for healthy runs, in what they differ from the tuned one.
        kinds: keys of :data:`ACCEPTED`, one for each fault that is planted; empty: healthy.
        overrides: of the settings, besides :data:`BASE`.
        changes: of the table and its sounds, one after another.
        scrambles: whether each clip's stored features are permuted within themselves.
        inflates: whether the fault raises the score, as leaks do.
        twin: the run without the fault; None: the tuned one.
        parts: of two faults at once, the labels of each alone; a part counts where it lowered F1 by itself.
    """

    name: str
    severity: str
    kinds: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    scrambles: bool = False
    inflates: bool = False
    twin: Fault | None = None
    parts: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Name and severity: ``lr_high-x300``."""
        return f"{self.name}-{self.severity}"

    @property
    def healthy(self) -> bool:
        """Whether nothing is planted."""
        return not self.kinds


TUNED = Fault("none", "tuned")


def _healthy(severity: str, *overrides: str, change: Change | None = None) -> Fault:
    return Fault("none", severity, overrides=overrides, changes=(change,) if change else ())


HEALTHY = (
    TUNED,
    _healthy("lr_3e-5", "lr=3e-5"),
    _healthy("lr_3e-4", "lr=3e-4"),
    _healthy("epochs_30", "epochs=30"),
    _healthy("epochs_100", "epochs=100"),
    _healthy("hidden_64", "model.hidden=64"),
    _healthy("hidden_512", "model.hidden=512"),
    _healthy("weight_decay", "optimizer.weight_decay=1e-3"),
    _healthy("linear", "model=linear"),
    _healthy("normalisation_global", "features.normalisation=global"),
    _healthy("batch_16", "batch_size=16"),
    _healthy("last_epoch", "trainer.select=last"),
    _healthy("limit_25", "data.limit_per_class=25"),
    _healthy("imbalance_2to1", change=partial(changes.imbalance, ratio=2.0)),
    _healthy(
        "features_64x216", "features.n_mels=64", "features.hop_length=512", "features.target_length=216", "lr=3e-5"
    ),
)


def _fault(name: str, severity: str, *overrides: str, change: Change | None = None) -> Fault:
    return Fault(name, severity, (name,), overrides, (change,) if change else ())


def _leak(severity: str, hop_s: float) -> Fault:
    """2 s windows of each clip as files of their own, splits drawn window by window; the twin draws recordings."""
    settings = ("features.target_length=44", "lr=2e-4")
    cut = partial(changes.cut_windows, hop_s=hop_s)
    honest = Fault("windows", severity, overrides=settings, changes=(cut,))
    return Fault(
        "window_leak", severity, ("window_leak",), settings, (cut, changes.draw_splits), inflates=True, twin=honest
    )


COARSE = (
    "features.n_mels=1",
    "features.sample_rate=2000",
    "features.n_fft=256",
    "features.hop_length=93",
    "lr=1e-3",  # as large a first step as the tuned run's, whose input is wider
)
STEEP = ("lr=1e-1", "epochs=10", "trainer.select=last")  # with 50 epochs to choose from, ESC-10 forgives it
SCRAMBLED = Fault("features_scrambled", "all", ("features_scrambled",), scrambles=True)

FAULTS = (
    _fault("lr_high", "x300", "lr=3e-2"),
    _fault("lr_high", "x1000_10_epochs", *STEEP),
    _fault("undertrained", "3_epochs_1e-5", "lr=1e-5", "epochs=3"),
    _fault("undertrained", "1_epoch_1e-6", "lr=1e-6", "epochs=1"),
    _fault("no_normalisation", "lr_1e-3", "features.normalisation=none", "lr=1e-3"),
    _fault("no_normalisation", "lr_1e-2", "features.normalisation=none", "lr=1e-2"),
    _fault("small_model", "2_units", "model.hidden=2"),
    _fault("small_model", "1_unit", "model.hidden=1"),
    _fault("labels_shuffled", "all", change=changes.shuffle_labels),
    _fault("label_flips", "20", change=partial(changes.flip_labels, share=0.2)),
    _fault("label_flips", "40", change=partial(changes.flip_labels, share=0.4)),
    _fault("imbalance", "10to1", change=partial(changes.imbalance, ratio=10.0)),
    _fault("imbalance", "50to1", change=partial(changes.imbalance, ratio=50.0)),
    _fault("silent_clips", "30", change=partial(changes.silence, share=0.3)),
    _fault("silent_clips", "50", change=partial(changes.silence, share=0.5)),
    _fault("test_muffled", "2_kHz", change=partial(changes.muffle_test, hz=2000.0)),
    _fault("test_muffled", "1_kHz", change=partial(changes.muffle_test, hz=1000.0)),
    _fault("test_renamed", "4", change=partial(changes.rename_test, classes=4)),
    _fault("test_renamed", "all", change=changes.rename_test),
    _fault("few_clips", "4", change=partial(changes.few_clips, clips=4)),
    _fault("few_clips", "2", change=partial(changes.few_clips, clips=2)),
    SCRAMBLED,
    _fault("features_coarse", "1_band_0.4_s", *COARSE, "features.target_length=8"),
    _fault("features_coarse", "1_band_0.1_s", *COARSE, "features.target_length=2"),
    _leak("half", 1.0),
    _leak("quarter", 1.5),
    _fault("mixed_pairs", "two_labels", "data.multi_label=first", change=partial(changes.mix_pairs, both_labels=True)),
    _fault("mixed_pairs", "one_label", change=partial(changes.mix_pairs, both_labels=False)),
    _fault("many_classes", "40x4", change=partial(changes.many_classes, train=3, val=1, test=2)),
    _fault("many_classes", "40x3", change=partial(changes.many_classes, train=2, val=1, test=2)),
    Fault(
        "two_faults",
        "lr_and_flips",
        ("lr_high", "label_flips"),
        STEEP,
        (partial(changes.flip_labels, share=0.4),),
        parts=("lr_high-x1000_10_epochs", "label_flips-40"),
    ),
    Fault(
        "two_faults",
        "silent_and_unnormalised",
        ("silent_clips", "no_normalisation"),
        ("features.normalisation=none", "lr=1e-2"),
        (partial(changes.silence, share=0.5),),
        parts=("silent_clips-50", "no_normalisation-lr_1e-2"),
    ),
    Fault(
        "two_faults",
        "imbalance_and_muffled",
        ("imbalance", "test_muffled"),
        (),
        (partial(changes.imbalance, ratio=50.0), partial(changes.muffle_test, hz=1000.0)),
        parts=("imbalance-50to1", "test_muffled-1_kHz"),
    ),
)
