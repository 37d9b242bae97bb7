"""Timelines, streams, and recordings that cannot be used: said so, and all others predicted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audioclf import load
from audioclf.audio import decode, readers
from audioclf.audio.stream import stream
from audioclf.compose import load_config
from audioclf.predict import sounds
from audioclf.predict.model import Model
from audioclf.predict.sounds import Cutter
from audioclf.training.fit import fit

RATE = 8_000


def noise(seconds: float, seed: int = 0, rate: int = RATE, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * rate))).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "rate", "channels"),
    [("a.wav", 8_000, 1), ("a.flac", 48_000, 2), ("a.ogg", 44_100, 1), ("a.mp3", 22_050, 2), ("a.aiff", 96_000, 1)],
)
def test_a_stream_is_what_decoding_at_once_gives(
    tmp_path: Path, name: str, rate: int, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "_BLOCK", 3_000)
    samples = np.stack([noise(3.21, seed, rate) for seed in range(channels)], 1)
    soundfile.write(tmp_path / name, samples, rate)
    blocks = list(stream(tmp_path / name, 44_100))
    assert len(blocks) > 8
    at_once = decode(tmp_path / name, 0.0, None, 44_100)
    np.testing.assert_array_equal(np.concatenate(blocks), at_once.samples)


def test_a_stream_of_a_video_keeps_its_gaps_and_begins_where_decoding_does(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        track = container.add_stream("flac", rate=RATE)
        for start in (0.0, 3.0):
            for number in range(10):
                frame = av.AudioFrame.from_ndarray(
                    (noise(0.1, number) * 20_000).astype(np.int16)[None], format="s16", layout="mono"
                )
                frame.sample_rate, frame.pts = RATE, round((start + number / 10) * RATE)
                container.mux(track.encode(frame))
        container.mux(track.encode(None))
    streamed = np.concatenate(list(stream(tmp_path / "a.mkv", 44_100)))
    at_once = decode(tmp_path / "a.mkv", 0.0, None, 44_100)
    assert at_once.missing_s > 1.5 and len(streamed) > 3.5 * 44_100
    np.testing.assert_array_equal(streamed, at_once.samples)


def test_windows_of_a_timeline_are_what_clips_of_a_table_are(tmp_path: Path, model: Model) -> None:
    soundfile.write(tmp_path / "long.wav", noise(3.0), RATE, subtype="PCM_16")
    starts = [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5]
    rows = [f"long.wav,{start},{min(start + model.window_s, 3.0)}" for start in starts]
    (tmp_path / "t.csv").write_text("\n".join(["path,start,end", *rows]))
    clips = model.predict(tmp_path / "t.csv")
    windows = model.predict(tmp_path / "long.wav", timeline=True, hop=0.25)
    assert [round(w.start, 6) for w in windows] == starts
    assert windows[-1].end == pytest.approx(3.0) and all(w.status == "ok" for w in windows)
    for window, clip in zip(windows, clips, strict=True):
        assert window.end == pytest.approx(clip.end, abs=1e-4)
        assert window.logits is not None and clip.logits is not None
        np.testing.assert_allclose(window.logits, clip.logits, atol=1e-3)  # a clip's cut is on the file's own samples


@pytest.mark.parametrize("blocks", [(30_000,), (1, 1_023), (100_000, 7)])
@pytest.mark.parametrize(
    ("start", "end", "hop"), [(0.0, None, 1.0), (0.5, 2.25, 0.3), (0.0, 2.0, 0.5), (0.0, None, 2.5), (9.0, None, 1.0)]
)
def test_windows_tile_whatever_the_blocks(blocks: tuple[int, ...], start: float, end: float | None, hop: float) -> None:
    rate = sounds.CANONICAL_RATE
    recording = np.arange(round(3.3 * rate), dtype=np.float32)
    cutter = Cutter(start, end, 1.0, hop)
    found, at, turn = [], 0, 0
    while at < len(recording) and not cutter.done:
        size = blocks[turn % len(blocks)]
        found += list(cutter.take(recording[at : at + size]))
        at, turn = at + size, turn + 1
    found += list(cutter.rest())
    stop = min(round((end or 99) * rate), len(recording))
    begins = [round((start + n * hop) * rate) for n in range(20)]
    expected = []
    for begin in begins:
        if begin + rate <= stop:
            expected.append((begin, begin + rate))
        else:
            if stop - begin >= 0.1 * rate and (not expected or expected[-1][1] < stop):
                expected.append((begin, stop))
            break
    assert [(round(s * rate), round(s * rate) + len(w)) for s, w in found] == expected
    for s, window in found:
        np.testing.assert_array_equal(window, recording[round(s * rate) :][: len(window)])


def test_what_cannot_be_used_is_flagged_and_all_others_are_predicted(tmp_path: Path, model: Model) -> None:
    good = tmp_path / "a_good.wav"
    soundfile.write(good, noise(0.7), RATE)
    flac = tmp_path / "b_cut.flac"
    soundfile.write(flac, noise(30), RATE)
    flac.write_bytes(flac.read_bytes()[:100_000])
    (tmp_path / "c_empty.wav").write_bytes(b"")
    (tmp_path / "d_bytes.mp3").write_bytes(np.random.default_rng(0).bytes(20_000))
    soundfile.write(tmp_path / "e_silent.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "f_short.wav", noise(0.05), RATE)
    holes = noise(1.0)
    holes[100] = np.nan
    soundfile.write(tmp_path / "g_nan.wav", holes, RATE, subtype="FLOAT")
    header = bytearray(good.read_bytes())
    header[24:28] = (7).to_bytes(4, "little")  # the rate
    (tmp_path / "h_rate.wav").write_bytes(header)
    (tmp_path / "i_text.wav").write_text("no audio")
    (tmp_path / "sub").mkdir()
    soundfile.write(tmp_path / "sub" / "z_last.flac", noise(0.7), 2 * RATE)
    gone = tmp_path / "gone.wav"
    found = {Path(p.file).name: p for p in model.predict([tmp_path, gone, "https://example.org/a.wav", str(good)])}

    assert {n for n, p in found.items() if p.status == "ok"} == {"a_good.wav", "z_last.flac"}
    assert found["b_cut.flac"].status == "partial" and found["b_cut.flac"].top, "what is there is predicted"
    reasons = {
        "c_empty.wav": "empty: ",
        "d_bytes.mp3": "not_audio: ",
        "e_silent.wav": "all samples are equal",
        "f_short.wav": "too_short: ",
        "g_nan.wav": "non_finite: ",
        "h_rate.wav": "7 Hz",
        "i_text.wav": "not_audio: ",
        "gone.wav": "missing: ",
        "a.wav": "not fetched: `python -m audioclf fetch`",
    }
    for name, reason in reasons.items():
        assert reason in found[name].reason and found[name].top == () and found[name].logits is None, name
        assert found[name].status == ("silent" if name == "e_silent.wav" else "failed")
    timeline = model.predict([flac, gone, good, tmp_path / "g_nan.wav"], timeline=True)
    assert [p.status for p in timeline if p.file == str(good)] == ["ok"]  # 0.06 s more are no window
    cut = [p for p in timeline if p.file == str(flac)]
    assert len(cut) > 5 and {p.status for p in cut[:-1]} == {"ok"}
    assert cut[-1].status == "failed" and "truncated: " in cut[-1].reason and cut[-1].start > 4
    assert [p.status for p in timeline if p.file == str(gone)] == ["failed"]


def test_silence_within_a_timeline_is_flagged_where_it_is(tmp_path: Path, model: Model) -> None:
    soundfile.write(tmp_path / "a.wav", np.concatenate([noise(1.2), np.zeros(16_640), 12 * noise(1)]), RATE, "FLOAT")
    found = model.predict(tmp_path / "a.wav", timeline=True, hop=0.64)
    assert [p.status for p in found] == ["ok", "ok", "silent", "silent", "silent", "ok", "ok"]
    assert "scaled to 1" in found[-1].reason
    soundfile.write(tmp_path / "loud.wav", 12 * noise(model.window_s), RATE, "FLOAT")
    (clip,), (window,) = model.predict(tmp_path / "loud.wav"), model.predict(tmp_path / "loud.wav", timeline=True)
    assert window.logits is not None and clip.logits is not None
    np.testing.assert_allclose(window.logits, clip.logits, atol=1e-5)


def test_a_long_file_is_a_timeline_by_itself_and_a_long_clip_of_a_table_is_not(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "a.wav", noise(4.0), RATE)
    (middle,) = model.predict(tmp_path / "a.wav")
    assert middle.end == pytest.approx(4.0) and "only the middle counts, 0.64 s" in middle.reason
    monkeypatch.setattr(sounds, "LONG_S", 3.0)
    assert len(model.predict(tmp_path / "a.wav")) == 7
    (tmp_path / "t.csv").write_text("path,start,end\na.wav,0,3.5\n")
    assert len(model.predict(tmp_path / "t.csv")) == 1


def test_order_is_that_of_the_inputs_and_batches_do_not_change_numbers(tmp_path: Path, model: Model) -> None:
    names = []
    for number in range(21):
        names.append(tmp_path / f"{(number * 7) % 21}.wav")
        soundfile.write(names[-1], noise(0.7, number) if number % 5 else np.zeros(RATE), RATE)
    together = model.predict(names)
    assert [p.file for p in together] == [str(name) for name in names]
    for name, prediction in zip(names, together, strict=True):
        (alone,) = model.predict(name)
        assert alone.status == prediction.status
        if alone.logits is not None:
            np.testing.assert_allclose(alone.logits, prediction.logits, atol=1e-5)


def test_a_table_may_lack_labels_and_its_bad_rows_are_flagged(write_file: Callable[..., Path], model: Model) -> None:
    table = write_file("t.csv", "path,start,end,label\na.wav,0,0.5,low\na.wav,9,3,low\n,0,1,low\n")
    soundfile.write(table.parent / "a.wav", noise(1.0), RATE)
    good, *bad = model.predict(table)
    assert good.status == "ok" and good.labels == ("low",)
    assert [b.status for b in bad] == ["failed", "failed"]
    assert "t.csv:3: column end" in bad[0].reason and "t.csv:4: column path" in bad[1].reason


def test_a_timeline_of_a_front_end_that_pads_leaves_no_gaps(
    tmp_path: Path, shared_data: Callable[[str], Path], tones: Path, tiny_cache: Path
) -> None:
    """YAMNet's windows overlap and are filled up: what two neighbouring windows of a timeline hear still touches."""
    pytest.importorskip("ai_edge_litert", reason="needs the extra yamnet")
    words = ["features=yamnet", f"features.weights={shared_data('models/yamnet.tflite')}", "features.seconds=1.25"]
    data = ["data=csv", f"data.csv={tones}", f"paths.cache={tiny_cache}", "model=linear", "epochs=1", "lr=1e-3"]
    few = ["trainer.tensorboard=false", "trainer.accelerator=cpu"]
    model = load(fit(load_config([*data, *words, *few]), tmp_path / "run").folder, device="cpu")
    assert model.window_s == 1.25
    quiet = noise(5.0)
    soundfile.write(tmp_path / "quiet.wav", quiet, RATE, "FLOAT")
    logits = [p.logits for p in model.predict(tmp_path / "quiet.wav", timeline=True)]
    assert len(logits) == 4
    for at in np.arange(0.05, 4.9, 0.2):
        loud = quiet.copy()
        loud[round(at * RATE) :][: RATE // 20] += 0.8
        soundfile.write(tmp_path / "loud.wav", loud, RATE, "FLOAT")
        heard = [p.logits for p in model.predict(tmp_path / "loud.wav", timeline=True)]
        assert not np.array_equal(heard, logits), f"a bang at {at:.2f} s"
