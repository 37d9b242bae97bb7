"""Media of which a server gives no parts: the whole file, or all fragments of a stream, on disk while it is cut."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from yt_dlp.dependencies import Cryptodome
from yt_dlp.downloader.dash import DashSegmentsFD
from yt_dlp.downloader.fragment import FragmentFD
from yt_dlp.downloader.hls import HlsFD
from yt_dlp.networking import Request, Response

from audioclf.fetch.failures import Fault, FetchError, Reason
from audioclf.fetch.session import Media, Session
from audioclf.files import DISK_FULL, cannot_write, temporary_name

STREAM_NAME = "stream"
"""Of the temporary folder for fragments; it stands in the store's own folder."""

_BLOCK = 1 << 16
_HEAD = 64


@contextmanager
def whole_file(
    session: Session, media: Media, folder: Path, max_bytes: int, answer: Response | None
) -> Iterator[tuple[IO[bytes], bool]]:
    """The whole of one file, without a name: nothing is left of it, however the process ends.

    Args:
        session: to ask with.
        media: one file.
        folder: on whose disk it lies meanwhile; made where absent.
        max_bytes: where it is longer, it is not fetched to its end.
        answer: the server's, where it has been asked already; nothing of it read.

    Yields:
        The file, and whether it is known to be whole: a server that states no length and just hangs up may have broken
        off.

    Raises:
        FetchError: ``too_large``; what the guard refuses.
        RequestError: yt-dlp's, among them a body that is shorter than declared.
        UserError: the folder cannot be written.
    """
    request = Request(media.url, headers={**media.headers, "Accept-Encoding": "identity"})
    with answer or session.urlopen(request, media) as response, _unnamed(folder) as file:
        declared = response.get_header("Content-Length", "")
        size = int(declared) if declared.isdecimal() else 0
        while size <= max_bytes and (block := response.read(_BLOCK)):
            try:
                file.write(block)
            except OSError as error:
                raise cannot_write(f"in {folder}", error) from error
            size = max(size, file.tell())
        if size > max_bytes:
            raise _too_large(max_bytes)
        file.seek(0)
        yield file, declared.isdecimal() or response.get_header("Transfer-Encoding", "").lower() == "chunked"


@contextmanager
def whole_stream(session: Session, media: Media, folder: Path, max_bytes: int) -> Iterator[Path]:
    """All fragments of a stream (HLS or DASH) in one file, fetched by yt-dlp's own downloaders.

    A killed process leaves its folder behind, which ``AudioStore.clean`` knows by its name.

    Args:
        session: to ask with.
        media: a stream.
        folder: under which the temporary one is made; made itself where absent.
        max_bytes: of all fragments.

    Raises:
        FetchError: ``too_large``, ``drm``, ``no_format`` for encryption that cannot be undone here, ``no_media`` for a
            live stream; what the guard refuses.
        YoutubeDLError: whatever else ends the download.
        UserError: the folder cannot be written.
    """

    def check(progress: dict[str, Any]) -> None:
        if (progress.get("downloaded_bytes") or 0) > max_bytes:
            raise _too_large(max_bytes)

    place = temporary_name(folder / STREAM_NAME)
    try:
        place.mkdir(parents=True)
    except OSError as error:
        raise cannot_write(f"in {folder}", error) from error
    try:
        path = place / "media"
        kind = _Dash if media.protocol == "http_dash_segments" else _Hls
        downloader = kind(session.ydl, session.ydl.params)
        downloader.add_progress_hook(check)
        try:
            done, _ = downloader.download(str(path), dict(media.info))
        except Exception as error:
            cause = getattr(error, "exc_info", (None, error))[1]
            if isinstance(cause, OSError) and cause.errno in DISK_FULL:
                raise cannot_write(f"in {folder}", cause) from error
            raise
        finally:
            session.limits.close_pages()
        if not done:
            raise FetchError(Fault(Reason.INCOMPLETE, "not all fragments of the stream came"))
        yield path
    finally:
        shutil.rmtree(place, ignore_errors=True)


class _Fragments(FragmentFD):
    """What is common to yt-dlp's downloaders of streams."""

    def _prepare_frag_download(self, ctx: dict[str, Any]) -> None:
        super()._prepare_frag_download(ctx)
        ctx["dl"].report_retry = self.report_retry

    def _append_fragment(self, ctx: dict[str, Any], frag_content: bytes) -> None:
        """Refuses a web page, as servers give it with status 200 for what they do not have; decoders pass over it."""
        if frag_content[:_HEAD].lstrip().startswith(b"<"):
            raise FetchError(Fault(Reason.INCOMPLETE, "a web page where a fragment of the stream should be"))
        super()._append_fragment(ctx, frag_content)

    def report_retry(self, err: Exception, count: int, retries: int, *args: Any, **kwargs: Any) -> None:
        """Gives up with the error itself; yt-dlp would with words about it."""
        if count > retries:
            raise err
        super().report_retry(err, count, retries, *args, **kwargs)


class _Dash(_Fragments, DashSegmentsFD):
    """DASH."""


class _Hls(_Fragments, HlsFD):
    """HLS; what yt-dlp cannot do it would hand to an ffmpeg found somewhere, and so around the guard."""

    @classmethod
    def can_download(cls, manifest: str, info_dict: dict[str, Any], allow_unplayable_formats: bool = False) -> bool:
        """True, or an error that says why not."""
        if cls._has_drm(manifest):
            raise FetchError(Fault(Reason.DRM, "the stream is protected by DRM"))
        if "#EXT-X-KEY:METHOD=AES-128" in manifest and not Cryptodome.AES:
            raise FetchError(Fault(Reason.NO_FORMAT, "an encrypted stream; python -m pip install pycryptodomex"))
        if not super().can_download(manifest, info_dict):
            raise FetchError(Fault(Reason.DRM, "the stream is encrypted in a way that yt-dlp cannot undo"))
        if "#EXT-X-ENDLIST" not in manifest:
            raise FetchError(Fault(Reason.NO_MEDIA, "a live stream; it has not ended yet"))
        if "#EXT-X-DISCONTINUITY" in map(str.strip, manifest.splitlines()):
            # Advertisements, mostly: the stream's seconds are not the recording's.
            raise FetchError(Fault(Reason.UNSUPPORTED, "a stream pieced together, whose clock jumps between pieces"))
        return True


def _unnamed(folder: Path) -> IO[bytes]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=folder)
    except OSError as error:
        raise cannot_write(f"in {folder}", error) from error


def _too_large(max_bytes: int) -> FetchError:
    return FetchError(Fault(Reason.TOO_LARGE, f"over {max_bytes / 1e6:.0f} MB (fetch.max_mb for each clip)"))
