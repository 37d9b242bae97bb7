"""From a link or a file to verified mono audio.

``decode`` turns a segment of a local file into samples, ``store`` keeps one canonical FLAC a clip, ``ledger`` remembers
what became of every clip, ``match`` finds a folder's files for clips whose sources are links, and ``importer`` runs the
whole walk for many clips.
"""

from audioclf.audio.decode import AudioError, Decoded, Failure, decode
from audioclf.audio.importer import ImportReport, import_clips
from audioclf.audio.ledger import Ledger, LedgerRow, State
from audioclf.audio.match import FileMatch, LocalPiece, match_files
from audioclf.audio.store import CANONICAL_RATE, AudioStore

__all__ = [
    "CANONICAL_RATE",
    "AudioError",
    "AudioStore",
    "Decoded",
    "Failure",
    "FileMatch",
    "ImportReport",
    "Ledger",
    "LedgerRow",
    "LocalPiece",
    "State",
    "decode",
    "import_clips",
    "match_files",
]
