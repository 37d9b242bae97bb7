"""audioclf: from a table of links to recordings to an F1 you can trust.

A trained model in use::

    from audioclf import load

    model = load("outputs/RUN")
    model.predict(["dog.wav"])[0].label
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike

    from audioclf.predict.model import Model

__version__ = "0.1.0"


def load(checkpoint: str | PathLike[str], *overrides: str, device: str = "auto") -> Model:
    """Opens a trained model, with its front-end, its normalisation and its label map.

    Args:
        checkpoint: a run's folder, or its ``checkpoints/model.ckpt``, alone and anywhere.
        overrides: what is not as in training: where weights lie that the front-end reads (``"features.weights=PATH"``),
            what a table's paths start from (``"data.audio_dir=DIR"``), what it calls its columns
            (``"data.columns.path=file"``), where audio that is linked to was fetched (``"paths.cache=DIR"``).
        device: ``"auto"``: a GPU where there is one; else as torch names it: ``"cpu"``, ``"cuda:1"``.

    Returns:
        A model: ``predict(files)`` gives classes with their scores, ``embed(files)`` vectors.

    Raises:
        UserError: no checkpoint, one that is damaged, foreign or of another version, or no such device.
    """
    from audioclf.predict.model import load as open_model  # torch takes seconds to load

    return open_model(checkpoint, *overrides, device=device)
