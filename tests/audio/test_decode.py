import io
import os
import wave
from io import FileIO
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr

from audioclf.audio.decode import AudioError, Failure, decode, probe_duration
from audioclf.audio.store import CANONICAL_RATE, to_pcm

SECONDS, RATE = 12.0, 48_000
STARTS = (0.0, 0.71, 3.3, 8.412)
BY_PYAV = {"m4a": "aac", "mp4": "aac", "webm": "libopus", "mka": "libopus"}


@pytest.fixture(scope="module")
def original(noise):
    return noise(SECONDS, RATE)


@pytest.fixture(scope="module")
def reference(original):
    """What every container should give at 44.1 kHz."""
    return soxr.resample(original, RATE, CANONICAL_RATE, "HQ")


@pytest.fixture(scope="module")
def containers(tmp_path_factory, original, encode):
    """The same noise in every container."""
    folder = tmp_path_factory.mktemp("containers")
    for extension, codec in BY_PYAV.items():
        encode(folder / f"a.{extension}", original, RATE, codec)
    encode(folder / "video.mp4", original, RATE, "aac", video=True)
    for extension in ("wav", "flac", "ogg", "mp3"):
        soundfile.write(folder / f"a.{extension}", original, RATE)
    soundfile.write(folder / "a.opus", original, RATE, format="OGG", subtype="OPUS")
    soundfile.write(folder / "float.wav", original, RATE, subtype="FLOAT")
    return folder


def offset_s(samples, start_s, reference):
    """How much later than ``start_s`` the samples lie in the reference, by the peak of their cross-correlation."""
    at, margin = round(start_s * CANONICAL_RATE), 4410
    low = max(at - margin, 0)
    around = reference[low : at + len(samples) + margin]
    n = len(around) + len(samples)
    correlation = np.fft.irfft(np.fft.rfft(around, n) * np.conj(np.fft.rfft(samples, n)), n)
    lags = correlation[: len(around) - len(samples) + 1]
    return (int(np.argmax(lags)) + low - at) / CANONICAL_RATE


@pytest.mark.parametrize("start_s", STARTS)
@pytest.mark.parametrize(
    "name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.opus", "a.m4a", "a.mp4", "a.webm", "a.mka", "video.mp4"]
)
def test_every_container_is_cut_to_2_ms(containers, reference, name, start_s):
    decoded = decode(containers / name, start_s, start_s + 1.5, CANONICAL_RATE)
    assert decoded.samples.dtype == np.float32
    assert len(decoded.samples) == round(1.5 * CANONICAL_RATE)
    assert abs(offset_s(decoded.samples, start_s, reference)) <= 0.002
    assert decoded.decoder.startswith("PyAV" if name.partition(".")[2] in {*BY_PYAV, "mp3"} else "libsndfile")
    assert (decoded.source_rate, decoded.source_channels, decoded.note) == (RATE, 1, "")


@pytest.mark.parametrize("name", ["a.wav", "a.ogg", "a.m4a", "a.webm"])
def test_without_an_end_the_whole_file_comes(containers, name):
    decoded = decode(containers / name, 0.0, None, CANONICAL_RATE)
    assert decoded.duration_s == pytest.approx(SECONDS, abs=0.02)  # AAC's last frame is padded
    assert decoded.asked_s == pytest.approx(decoded.duration_s, abs=0.001)


def test_adjacent_cuts_join_as_if_the_whole_had_been_resampled(containers, reference):
    cuts = [decode(containers / "float.wav", a, b, CANONICAL_RATE).samples for a, b in [(1.0, 2.0), (2.0, 3.5)]]
    whole = reference[CANONICAL_RATE : round(3.5 * CANONICAL_RATE)]
    assert np.abs(np.concatenate(cuts) - whole).max() < 1e-4


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 96_000, 192_000, 44_056])
def test_any_rate_gives_the_right_number_of_samples_at_the_right_place(tmp_path, noise, rate):
    path = tmp_path / "a.wav"
    samples = noise(2.0, CANONICAL_RATE)
    soundfile.write(path, soxr.resample(samples, CANONICAL_RATE, rate), rate, subtype="FLOAT")
    decoded = decode(path, 0.6, 1.7, CANONICAL_RATE)
    assert decoded.source_rate == rate
    assert abs(len(decoded.samples) - round(1.1 * CANONICAL_RATE)) <= 1
    assert abs(offset_s(decoded.samples, 0.6, samples)) <= 0.0001


@pytest.mark.parametrize(
    ("subtype", "step"), [("PCM_U8", 2**-7), ("PCM_16", 2**-15), ("PCM_24", 2**-23), ("FLOAT", 1e-9)]
)
def test_wav_of_each_depth_keeps_its_values(tmp_path, noise, subtype, step):
    samples = noise(0.5)
    soundfile.write(tmp_path / "a.wav", samples, CANONICAL_RATE, subtype=subtype)
    assert np.abs(decode(tmp_path / "a.wav", 0.0, None, CANONICAL_RATE).samples - samples).max() <= step


def test_16_bit_at_the_canonical_rate_survives_exactly(tmp_path):
    pcm = np.random.default_rng(0).integers(-32768, 32768, 10_000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", pcm, CANONICAL_RATE)
    assert np.array_equal(to_pcm(decode(tmp_path / "a.wav", 0.0, None, CANONICAL_RATE).samples), pcm)


@pytest.mark.parametrize("name", ["eight.wav", "six.flac"])
def test_channels_are_averaged(tmp_path, noise, name):
    channels = np.stack([noise(0.5, seed=i) for i in range(8 if name == "eight.wav" else 6)], axis=1)
    soundfile.write(tmp_path / name, channels, CANONICAL_RATE, subtype="PCM_24")
    decoded = decode(tmp_path / name, 0.0, None, CANONICAL_RATE)
    assert decoded.source_channels == channels.shape[1]
    assert np.abs(decoded.samples - channels.mean(axis=1)).max() < 1e-6


def test_channels_are_averaged_by_pyav_too(tmp_path, noise):
    # A WAV whose recorder died before it wrote the sizes: libsndfile finds nothing in it, PyAV reads 16-bit packed frames.
    channels = np.stack([noise(0.5, seed=i) for i in range(2)], axis=1)
    path = tmp_path / "a.wav"
    soundfile.write(path, channels, CANONICAL_RATE)
    content = bytearray(path.read_bytes())
    size_at = content.index(b"data") + 4
    content[size_at : size_at + 4] = bytes(4)
    path.write_bytes(content)
    decoded = decode(path, 0.1, 0.4, CANONICAL_RATE)
    assert decoded.decoder.startswith("PyAV")
    expected = channels.mean(axis=1)[4410 : 4410 + len(decoded.samples)]
    assert len(decoded.samples) == round(0.3 * CANONICAL_RATE)
    assert np.abs(decoded.samples - expected).max() < 2**-14


def test_a_peak_over_1_is_scaled_not_clipped(tmp_path, noise):
    samples = noise(0.5) * 5  # peak 2.5
    soundfile.write(tmp_path / "a.wav", samples, CANONICAL_RATE, subtype="FLOAT")
    decoded = decode(tmp_path / "a.wav", 0.0, None, CANONICAL_RATE)
    assert np.abs(decoded.samples).max() == pytest.approx(1.0)
    assert np.abs(decoded.samples - samples / 2.5).max() < 1e-6
    assert decoded.note == "peak 2.500 scaled to 1"


def halve(path: Path) -> Path:
    content = path.read_bytes()
    cut = path.with_name(f"half{path.suffix}")
    cut.write_bytes(content[: len(content) // 2])
    return cut


@pytest.mark.parametrize("extension", ["wav", "flac", "mp3", "webm"])
def test_half_a_file_gives_what_decodes(containers, reference, extension):
    half = halve(containers / f"a.{extension}")
    decoded = decode(half, 0.0, None, CANONICAL_RATE)
    assert decoded.asked_s == pytest.approx(SECONDS, abs=0.05)
    assert 4.5 < decoded.duration_s < 7
    assert decoded.note
    assert abs(offset_s(decoded.samples[:CANONICAL_RATE], 0.0, reference)) <= 0.002
    assert decode(half, 1.0, 3.0, CANONICAL_RATE).duration_s == pytest.approx(2.0)
    with pytest.raises(AudioError) as caught:
        decode(half, 10.0, 11.0, CANONICAL_RATE)
    assert caught.value.failure == Failure.TRUNCATED


def test_an_mp4_without_its_index_is_called_truncated(containers):
    with pytest.raises(AudioError, match="without its index") as caught:
        decode(halve(containers / "a.m4a"), 0.0, None, CANONICAL_RATE)
    assert caught.value.failure == Failure.TRUNCATED


@pytest.mark.parametrize("extension", ["mka", "m4a", "ts"])
def test_a_gap_in_the_file_is_silence_that_is_told(tmp_path, noise, encode, extension):
    path = encode(tmp_path / f"whole.{extension}", noise(3.0, 48_000), 48_000, "aac")
    cut = tmp_path / f"gap.{extension}"
    with av.open(str(path)) as source, av.open(str(cut), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux():
            if packet.size and not 1.0 < packet.pts * packet.time_base - (source.start_time or 0) / 1e6 < 2.0:
                packet.stream = stream
                target.mux(packet)
    assert decode(path, 0.5, 2.5, CANONICAL_RATE).missing_s == 0
    assert decode(cut, 0.0, 0.9, CANONICAL_RATE).missing_s == 0
    decoded = decode(cut, 0.5, 2.5, CANONICAL_RATE)
    assert decoded.duration_s == pytest.approx(2.0)
    assert decoded.missing_s == pytest.approx(1.0, abs=0.06)
    assert "missing within" in decoded.note


def test_a_header_of_18_days_costs_no_memory(containers, tmp_path):
    content = bytearray((containers / "a.flac").read_bytes())
    content[21] |= 0x0F  # FLAC's 36 bits of "total samples"
    content[22:26] = b"\xff" * 4
    (tmp_path / "lie.flac").write_bytes(content)
    decoded = decode(tmp_path / "lie.flac", 0.0, None, CANONICAL_RATE)
    assert decoded.duration_s == pytest.approx(SECONDS)
    assert decoded.asked_s > 1e6


def test_a_flac_or_wav_of_unknown_length_is_whole(containers, tmp_path):
    flac = bytearray((containers / "a.flac").read_bytes())
    flac[21] &= 0xF0
    flac[22:26] = bytes(4)
    wav = bytearray((containers / "a.wav").read_bytes())
    size_at = wav.index(b"data") + 4
    wav[size_at : size_at + 4] = b"\xff" * 4
    for name, content in [("unknown.flac", flac), ("unknown.wav", wav)]:
        (tmp_path / name).write_bytes(content)
        decoded = decode(tmp_path / name, 0.0, None, CANONICAL_RATE)
        assert decoded.duration_s == decoded.asked_s == SECONDS


def test_an_hour_is_the_longest_clip(tmp_path):
    with wave.open(str(tmp_path / "long.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(1000)
        file.writeframes(bytes(3_700_000))
    for end_s in (None, 3650.0):
        with pytest.raises(AudioError) as caught:
            decode(tmp_path / "long.wav", 0.0, end_s, 1000)
        assert caught.value.failure == Failure.TOO_LONG
    assert decode(tmp_path / "long.wav", 3600.0, None, 1000).duration_s == pytest.approx(100)


def write_bad(kind: str, path: Path, noise) -> None:
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("this is not a recording\n" * 50)
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(20_000))
    elif kind == "playlist":
        soundfile.write(path.with_name("real.flac"), noise(1.0), CANONICAL_RATE)
        path.write_text("ffconcat version 1.0\nfile real.flac\n")
    elif kind == "nan":
        soundfile.write(
            path, np.where(np.arange(44_100) == 30_000, np.nan, noise(1.0)), CANONICAL_RATE, subtype="FLOAT"
        )
    elif kind == "infinite":
        soundfile.write(
            path, np.where(np.arange(44_100) == 30_000, np.inf, noise(1.0)), CANONICAL_RATE, subtype="FLOAT"
        )
    elif kind == "one sample":
        soundfile.write(path, np.array([0.5]), CANONICAL_RATE)
    elif kind == "no sample":
        soundfile.write(path, np.zeros(0), CANONICAL_RATE)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)


@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        ("absent", Failure.MISSING),
        ("empty", Failure.EMPTY),
        ("text", Failure.NOT_AUDIO),
        ("noise", Failure.NOT_AUDIO),
        ("playlist", Failure.NOT_AUDIO),
        ("nan", Failure.NON_FINITE),
        ("infinite", Failure.NON_FINITE),
        ("one sample", Failure.TOO_SHORT),
        ("no sample", Failure.TOO_SHORT),
        ("folder", Failure.UNREADABLE),
        ("pipe", Failure.UNREADABLE),
    ],
)
def test_bad_files_fail_by_name(tmp_path, noise, kind, failure):
    path = tmp_path / ("bad.aac" if kind == "noise" else "bad.wav")  # by this name ffmpeg finds a stream in it
    write_bad(kind, path, noise)
    with pytest.raises(AudioError) as caught:
        decode(path, 0.0, None, CANONICAL_RATE)
    assert caught.value.failure == failure
    assert str(path) in caught.value.message


def test_non_finite_samples_beside_the_cut_do_no_harm(tmp_path, noise):
    samples = noise(1.0, 22_050)
    samples[11_025 - 5] = np.nan  # in the context that the resampler needs
    soundfile.write(tmp_path / "a.wav", samples, 22_050, subtype="FLOAT")
    assert np.isfinite(decode(tmp_path / "a.wav", 0.5, 1.0, CANONICAL_RATE).samples).all()


@pytest.mark.parametrize("name", ["a.wav", "a.ogg", "a.m4a", "a.webm"])
def test_a_start_past_the_end_is_out_of_range(containers, name):
    for start_s, end_s in [(30.0, 31.0), (12.5, None)]:
        with pytest.raises(AudioError) as caught:
            decode(containers / name, start_s, end_s, CANONICAL_RATE)
        assert caught.value.failure == Failure.OUT_OF_RANGE


def test_asking_for_less_than_a_tenth_of_a_second_is_too_short(containers):
    with pytest.raises(AudioError) as caught:
        decode(containers / "a.wav", 1.0, 1.05, CANONICAL_RATE)
    assert caught.value.failure == Failure.TOO_SHORT


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_no_permission_is_unreadable(tmp_path, noise):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(0.5), CANONICAL_RATE)
    path.chmod(0)
    with pytest.raises(AudioError) as caught:
        decode(path, 0.0, None, CANONICAL_RATE)
    assert caught.value.failure == Failure.UNREADABLE


def test_probe_duration(containers, tmp_path):
    for name in ("a.wav", "a.mp3", "a.m4a", "a.webm", "video.mp4"):
        assert probe_duration(containers / name) == pytest.approx(SECONDS, abs=0.05)
    (tmp_path / "text.wav").write_text("no")
    assert probe_duration(tmp_path / "text.wav") is None
    assert probe_duration(tmp_path / "absent.wav") is None


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.opus", "a.m4a", "a.mp4", "a.webm", "a.mka", "a.mp3"])
@pytest.mark.parametrize(("start_s", "end_s"), [(0.0, 1.5), (8.412, 9.912), (10.5, None)])
def test_an_open_file_gives_what_its_path_gives(containers, name, start_s, end_s):
    expected = decode(containers / name, start_s, end_s, CANONICAL_RATE)
    with (containers / name).open("rb") as file:
        file.seek(100)
        decoded = decode(file, start_s, end_s, CANONICAL_RATE, name="the stream")
        assert not file.closed
    assert len(decoded.samples) == pytest.approx(
        len(expected.samples), abs=50
    )  # libsndfile gives 47 samples less of MP3
    n = min(len(decoded.samples), len(expected.samples))
    assert np.abs(decoded.samples[:n] - expected.samples[:n]).max() < 1e-5
    if decoded.decoder == expected.decoder:
        assert np.array_equal(decoded.samples, expected.samples)


class Trickling(FileIO):
    """A file that comes in blocks of 1,000 bytes, of which no read gives more than the rest."""

    def read(self, size=-1):
        rest = 1000 - self.tell() % 1000
        return super().read(rest if size < 0 else min(size, rest))


@pytest.mark.parametrize(
    ("name", "subtype"),
    [("a.wav", "PCM_16"), ("a.wav", "PCM_24"), ("a.wav", "IMA_ADPCM"), ("a.aiff", "PCM_24"), ("a.flac", "PCM_24")],
)
def test_a_stream_may_give_fewer_bytes_than_asked_for(tmp_path, noise, name, subtype):
    soundfile.write(tmp_path / name, noise(1.5, 44_100), 44_100, subtype)
    with Trickling(tmp_path / name) as file:
        decoded = decode(file, 0.1, 1.1, CANONICAL_RATE, name="the stream")
    expected = decode(tmp_path / name, 0.1, 1.1, CANONICAL_RATE)
    assert np.array_equal(decoded.samples, expected.samples)
    assert decoded.note == expected.note


class Breaking(FileIO):
    """A file of which no byte past ``end`` can be read."""

    end = 0

    def read(self, size=-1):
        if self.tell() + max(size, 0) > self.end:
            raise ConnectionResetError("gone")
        return super().read(size)

    def readinto(self, buffer):
        block = self.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.m4a", "a.webm", "a.mp3", "video.mp4"])
@pytest.mark.parametrize("part", [0.0, 0.05, 0.5, 0.9])
def test_a_stream_that_breaks_is_its_own_error_and_no_shorter_clip(containers, name, part):
    path = containers / name
    with Breaking(path) as file:
        file.end = int(part * path.stat().st_size)
        with pytest.raises(ConnectionResetError, match="gone"):
            decode(file, 2.0, None, CANONICAL_RATE, name="the stream")


def test_the_error_of_a_stream_keeps_its_cause_and_nothing_of_the_decoder(containers):
    class Failing(FileIO):
        def read(self, size=-1):
            try:
                raise TimeoutError("slow")
            except TimeoutError as error:
                raise ConnectionError("gone") from error

    with Failing(containers / "a.m4a") as file, pytest.raises(ConnectionError) as caught:
        decode(file, 0.0, 1.0, CANONICAL_RATE, name="the stream")
    assert isinstance(caught.value.__cause__, TimeoutError)
    assert caught.value.__suppress_context__


def test_a_bad_stream_fails_by_name(tmp_path, noise):
    soundfile.write(tmp_path / "real.flac", noise(1.0), CANONICAL_RATE)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:{tmp_path}/real.flac\n#EXT-X-ENDLIST\n"
    concat = f"ffconcat version 1.0\nfile {tmp_path}/real.flac\n"
    for content, failure in [
        (b"", Failure.EMPTY),
        (b"<!DOCTYPE html>" * 1000, Failure.NOT_AUDIO),
        (playlist.encode(), Failure.NOT_AUDIO),
        (concat.encode(), Failure.NOT_AUDIO),
        (b"\0\0\0\x18ftypM4A " + bytes(500), Failure.TRUNCATED),
        (b"ID3\4\0\0\0\0\0\0" + b"\xff\xfb\x90\x00" * 3, Failure.NOT_AUDIO),
    ]:
        with pytest.raises(AudioError, match=r"^the stream:") as caught:
            decode(io.BytesIO(content), 0.0, 1.0, CANONICAL_RATE, name="the stream")
        assert caught.value.failure == failure


class Counting(FileIO):
    """A file that knows how much was read of it."""

    count = 0

    def read(self, size=-1):
        block = super().read(size)
        self.count += len(block)
        return block


MP3_SECONDS = 20.0


@pytest.fixture(scope="module", params=[48_000, 44_100, 22_050, 8_000])
def mp3(request, tmp_path_factory, noise):
    """An MP3 of constant bit rate and all of its samples: MPEG 1, with and without padding, MPEG 2, MPEG 2.5."""
    path = tmp_path_factory.mktemp("mp3") / "a.mp3"
    samples = noise(MP3_SECONDS, request.param) if request.param > 12_000 else noise(MP3_SECONDS, 16_000)[::2]
    soundfile.write(path, samples, request.param, bitrate_mode="CONSTANT", compression_level=0.6)
    with path.open("rb") as file:
        return path, decode(file, 0.0, None, request.param, name="the stream")


def test_an_mp3_of_constant_bit_rate_is_sought_to_the_sample(mp3):
    path, whole = mp3
    for start_s in (1.3, 9.77, 18.2):
        with Counting(path) as file:
            decoded = decode(file, start_s, start_s + 1.0, whole.rate, name="the stream")
            first = round(start_s * whole.rate)
            assert np.array_equal(decoded.samples, whole.samples[first : first + whole.rate])
            assert start_s != 18.2 or whole.rate == 8_000 or file.count < 0.6 * path.stat().st_size


def tag_at(content: bytes, name: bytes) -> int:
    assert content.count(name) == 1
    return content.index(name)


def test_an_mp3_whose_bit_rate_is_not_known_to_be_constant_is_read_from_the_beginning(tmp_path, noise, mp3):
    path, whole = mp3
    content = bytearray(path.read_bytes())
    at = tag_at(content, b"Info")
    content[at : at + 4] = b"Xing"
    for start_s in (9.77, 18.2):
        first = round(start_s * whole.rate)
        decoded = decode(io.BytesIO(content), start_s, start_s + 1.0, whole.rate, name="the stream")
        assert np.array_equal(decoded.samples, whole.samples[first : first + whole.rate])


def test_an_mp3_that_calls_its_variable_bit_rate_constant_is_cut_right_all_the_same(tmp_path, noise):
    samples = noise(MP3_SECONDS, 44_100) * np.linspace(0.01, 1, round(MP3_SECONDS * 44_100), dtype=np.float32)
    soundfile.write(tmp_path / "a.mp3", samples, 44_100, bitrate_mode="VARIABLE", compression_level=0.3)
    content = bytearray((tmp_path / "a.mp3").read_bytes())
    whole = decode(io.BytesIO(content), 0.0, None, 44_100, name="the stream").samples
    at = tag_at(content, b"Xing")
    content[at : at + 4] = b"Info"
    for start_s in (3.3, 9.77, 18.2):
        decoded = decode(io.BytesIO(content), start_s, start_s + 1.0, 44_100, name="the stream")
        first = round(start_s * 44_100)
        assert np.array_equal(decoded.samples, whole[first : first + 44_100])


def test_opus_of_another_rate_than_48_khz_is_cut_to_2_ms_in_webm(tmp_path, noise, encode):
    samples = noise(6.0, 24_000)
    path = encode(tmp_path / "a.webm", samples, 24_000, "libopus")
    reference = soxr.resample(samples, 24_000, CANONICAL_RATE, "HQ")
    for start_s in (0.0, 0.5, 3.3):
        decoded = decode(path, start_s, start_s + 1.0, CANONICAL_RATE)
        assert abs(offset_s(decoded.samples, start_s, reference)) <= 0.002


@pytest.mark.parametrize(("start_s", "end_s"), [(0.0, None), (3.3, 8.1)])
def test_an_mp3_of_variable_bit_rate_is_decoded_as_in_one_read(tmp_path, start_s, end_s):
    """Blocks read one by one with libsndfile begin with noise: half of full scale, 14,000 samples of these 12 s."""
    time = np.arange(12 * 44_100) / 44_100
    samples = sum(0.1 * np.sin(2 * np.pi * hertz * time) for hertz in (220, 1300, 5000))
    path, form = tmp_path / "vbr.mp3", {"format": "MP3", "subtype": "MPEG_LAYER_III"}
    soundfile.write(path, samples, 44_100, bitrate_mode="VARIABLE", compression_level=0.9, **form)
    whole, _ = soundfile.read(path, dtype="float32")
    decoded = decode(path, start_s, end_s, 44_100)
    expected = whole[round(start_s * 44_100) :][: len(decoded.samples)]
    assert len(decoded.samples) == round((end_s or len(whole) / 44_100) * 44_100) - round(start_s * 44_100)
    assert np.abs(decoded.samples - expected).max() < 1e-5
