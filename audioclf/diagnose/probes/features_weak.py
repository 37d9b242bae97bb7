"""The features do not carry what the sounds have."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from audioclf.config import FeaturesConfig, MelConfig
from audioclf.diagnose import reference
from audioclf.diagnose.pool import Pool
from audioclf.diagnose.probe import Probe
from audioclf.diagnose.repair import words
from audioclf.diagnose.scale import input_size
from audioclf.diagnose.trial import Recipe, effect, level_of
from audioclf.diagnose.verdict import Gap, Limits, Numbers, Verdict, change_of
from audioclf.errors import UserError
from audioclf.features.extract import load_waveform
from audioclf.training.preflight import HEALTHY_JUMP, lr_for
from audioclf.training.scores import FloatArray

if TYPE_CHECKING:
    from audioclf.diagnose.lab import Lab

COMPARED = 12  # clips whose stored features are computed again: all are permuted, or a few; few is found by luck only
TOLERANCE = 0.05  # of a clip's standard deviation: float16 and other processors differ by less than 0.01


class FeaturesWeak(Probe):
    """The same cheap probe reads the run's features and a fixed mel-spectrogram of the same audio.

    Before that, some of the stored features are computed again: a broken cache is the same disease.
    """

    cause = "features_weak"
    title = "the features do not carry what the sounds have"
    order = 35

    def examine(self, lab: Lab) -> Numbers:
        """Compares stored features with new ones, and the run's features with the default ones."""
        whole = lab.whole
        drawn = np.sort(np.random.default_rng(0).permutation(len(whole))[:COMPARED])
        fresh = computed_again(lab, whole.take(drawn))
        apart = np.zeros(len(drawn)) if fresh is None else distances(whole.features[drawn], fresh)
        numbers: Numbers = {
            "nominated": True,
            "compared": len(drawn) if fresh is not None else 0,
            "wrong": int((apart > TOLERANCE).sum()),
            "apart": dict(zip([whole.ids[i] for i in drawn], apart.round(4).tolist(), strict=True)),
            "folder": str(lab.data.feature_store.folder),
            "headroom": lab.best_probe.f1 - lab.base.f1,  # what another model could read from these features
            "default": unlike_default(lab.config.features),
        }
        if numbers["default"]:
            numbers["default"] |= suited_lr(lab)
        if lab.embedding is not None:
            numbers["embedding"] = effect(lab.best_probe, lab.cheap("embedding"))
        every = computed_again(lab, lab.pool) if numbers["wrong"] else None
        if every is None:
            return numbers | {"effect": effect(lab.best_probe, lab.cheap("audio"))}
        mended = replace(lab.pool, features=every)
        columns = reference.pooled(every, lab.config.features.axes)
        probe = reference.score_probe("probe_fresh_features", columns, mended, lab.fold)
        lab.afford("fresh_features", lab.cost_s(lab.config.epochs))
        network = lab.train(Recipe("fresh_features"), mended)
        found = [effect(lab.base, lab.keep(network), level_of(2)), effect(lab.best_probe, lab.keep(probe), level_of(2))]
        return numbers | {"effect": max(found, key=lambda one: one["low"])}

    def judge(self, numbers: Numbers, gap: Gap, limits: Limits) -> Verdict:
        """By the effect of new features, or of the default ones."""
        found = numbers["effect"]
        if numbers["wrong"]:
            evidence = [
                f"{numbers['wrong']} of {numbers['compared']} clips have stored features that their audio does not give",
                f"with features computed again: {change_of(found)} out of fold",
            ]
            return self.convict(
                numbers, gap, limits, evidence, f"delete {numbers['folder']}: the next run makes it again"
            )
        evidence = [
            f"a support vector machine reads F1 {found['before']:.2f} from the run's features and {found['after']:.2f} from "
            f"a mel-spectrogram of 64 bands, 22,050 Hz and 5 s of the same audio: {change_of(found)}",
        ]
        if numbers["compared"]:
            evidence.append(f"{numbers['compared']} stored features are what their audio gives")
        if "embedding" in numbers:
            evidence.append(f"from a frozen embedding (YAMNet) of the same audio: {change_of(numbers['embedding'])}")
        else:
            evidence.append("not held against a frozen embedding: diagnose.yamnet=FILE names YAMNet's weights")
        mend = words(numbers["default"]) or "another front-end, e.g. features=mel in its default settings"
        return self.convict(numbers, gap, limits, evidence, mend)


def suited_lr(lab: Lab) -> dict[str, Any]:
    """A learning rate that suits the default features, where the run's does not."""
    config = lab.config.model_copy(update={"features": MelConfig.model_validate({"name": "mel"})})
    size = input_size(config, replace(lab.pool, features=lab.plain_features(lab.pool)))
    suits = HEALTHY_JUMP / 10 <= lab.config.lr * size <= HEALTHY_JUMP * 10
    return {} if suits else {"lr": lr_for(size)}


def computed_again(lab: Lab, pool: Pool) -> torch.Tensor | None:
    """The run's features of some clips ``[N, *shape]``, from their audio; None where audio is gone."""
    front_end = lab.data.front_end
    features = torch.empty((len(pool), *pool.shape))
    try:
        for i, clip in enumerate(pool.clips):
            waveform = load_waveform(lab.data.audio, clip.audio_key, front_end.sample_rate)
            features[i] = front_end.of_clips(front_end.fit_length(waveform)[None], [clip.annotation])[0]
    except (UserError, OSError):
        return None
    return features


def distances(stored: torch.Tensor, fresh: torch.Tensor) -> FloatArray:
    """Mean distance of clips' features ``[N, *shape]``, in standard deviations within a clip ``[N]``."""
    distance = (stored - fresh).abs().flatten(1).mean(1)
    return np.asarray((distance / fresh.flatten(1).std(1).clamp(min=1e-6)).double().numpy())


def unlike_default(features: FeaturesConfig) -> dict[str, Any]:
    """What makes the run's features the default ones, which the audio probe read: dotted keys and their values."""
    if not isinstance(features, MelConfig):
        return {}
    default = MelConfig.model_validate({"name": "mel"})
    content = default.model_dump(exclude={"engine", "normalisation", "storage"})
    return {f"features.{key}": value for key, value in content.items() if getattr(features, key) != value}
