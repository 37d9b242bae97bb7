"""The mel front-end: torchaudio against librosa on real audio, and the rule for a clip's length."""

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audioclf.audio import decode
from audioclf.clips.esc import read_esc
from audioclf.config import MelConfig
from audioclf.errors import UserError
from audioclf.features.build import build_front_end


def mel(engine: str = "torchaudio", **changes: object):
    return build_front_end(MelConfig.model_validate({"name": "mel", "engine": engine, **changes}))


def agreement_db(waveforms: torch.Tensor, **changes: object) -> float:
    """Largest difference between the engines in dB, where the reference is above -80 dB."""
    engine, reference = mel(**changes)(waveforms), mel("librosa", **changes)(waveforms)
    differences = (engine - reference).abs()[reference > -80]
    return float(differences.max()) if len(differences) else 0.0


def test_engines_agree_on_every_esc10_clip(shared_data):
    clips, _ = read_esc(shared_data("esc10"), esc10_only=True)
    assert len(clips) == 400
    front_end = mel()
    for i in range(0, len(clips), 16):
        waveforms = torch.stack(
            [
                front_end.fit_length(torch.from_numpy(decode(clip.source, 0.0, None, front_end.sample_rate).samples))
                for clip in clips[i : i + 16]
            ]
        )
        assert agreement_db(waveforms) < 1e-3, [clip.id for clip in clips[i : i + 16]]


@pytest.mark.parametrize(
    "changes",
    [
        {"n_fft": 1024, "hop_length": 320, "sample_rate": 16_000},
        {"f_min": 50.0, "f_max": 8_000.0, "n_mels": 40},
        {"sample_rate": 44_100, "n_mels": 128},
        {"hop_length": 2048, "target_length": 20},
    ],
)
def test_engines_agree_for_other_settings(changes):
    front_end = mel(**changes)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 60_000, generator=generator) * torch.logspace(-6, 0, 60_000)
    assert agreement_db(torch.stack([front_end.fit_length(w) for w in noise]), **changes) < 1e-3


@settings(max_examples=40, deadline=None)
@given(
    samples=st.integers(1, 40_000),
    target_length=st.integers(1, 40),
    hop_length=st.sampled_from([160, 512, 1000]),
    engine=st.sampled_from(["torchaudio", "librosa"]),
)
def test_every_length_gives_the_same_shape(samples, target_length, hop_length, engine):
    front_end = mel(engine, target_length=target_length, hop_length=hop_length)
    features = front_end(front_end.fit_length(torch.ones(samples) * 0.1)[None])
    assert features.shape == (1, front_end.output_shape[0], target_length)
    assert features.dtype == torch.float32
    assert features.isfinite().all()


def test_padding_is_silence_and_leaves_the_frames_that_are_there():
    waveform = torch.randn(20_000, generator=torch.Generator().manual_seed(1))
    short, long = mel(target_length=40), mel(target_length=80)
    at_40 = short(short.fit_length(waveform)[None])[0]
    at_80 = long(long.fit_length(waveform)[None])[0]
    torch.testing.assert_close(at_80[:, :40], at_40)
    assert (at_80[:, 45:] == -100).all()


def test_a_longer_clip_keeps_its_centre():
    front_end = mel(target_length=10)
    waveform = torch.zeros(50_000)
    waveform[25_000] = 1.0
    features = front_end(front_end.fit_length(waveform)[None])[0]
    assert int(features.sum(0).argmax()) in (4, 5)


def test_zero_db_is_power_one_and_power_is_the_same_before_the_logarithm():
    waveform = torch.randn(2, 9_000, generator=torch.Generator().manual_seed(2)) * 0.1
    waveforms = torch.stack([mel().fit_length(w) for w in waveform])
    db, power = mel()(waveforms), mel(scale="power")(waveforms)
    torch.testing.assert_close(db, 10 * torch.log10(power.clamp(min=1e-10)))


def test_a_clip_does_not_depend_on_its_batch():
    front_end = mel()
    waveforms = torch.randn(5, 110_591, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(front_end(waveforms)[3], front_end(waveforms[3:4])[0], rtol=0, atol=1e-5)


def test_bands_without_a_bin_are_refused():
    with pytest.raises(UserError, match=r"features\.n_mels=512: \d+ bands hold no FFT bin"):
        mel(n_mels=512, n_fft=512)


def test_power_of_a_sine_is_where_its_frequency_is():
    front_end = mel(n_mels=64)
    time = torch.arange(110_591) / 22_050
    features = front_end(torch.sin(2 * np.pi * 1_000 * time)[None])[0]
    edges = librosa.mel_frequencies(66, fmin=0, fmax=11_025)
    band = int(features[:, 100].argmax())
    assert edges[band] <= 1_000 <= edges[band + 2]
