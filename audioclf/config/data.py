"""The ``data`` section: where clips come from, and how they are split."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from audioclf.config.section import NOT_IDENTITY, Section


class Data(Section):
    """What every data source shares: how clips are read, split and held."""

    fold: int | None = Field(
        None, ge=1, description="test on this fold; null: the first published fold, else one grouped split"
    )
    folds: int = Field(5, ge=2, description="how many folds to make where the publisher made none")
    val_fraction: float = Field(0.2, gt=0, lt=0.5, description="of the clips that are not test, what val takes")
    test_fraction: float = Field(0.2, gt=0, lt=0.5, description="of all clips, what test takes where nothing fixes it")
    split_seed: int = Field(0, ge=0, description="of the split and limit_per_class, so that seeds share one test set")
    on_bad_row: Literal["error", "skip"] = "error"
    classes: list[str] | None = Field(None, min_length=1, description="keep these classes only; null: all")
    multi_label: Literal["error", "first", "drop", "most_specific", "keep"] = Field(
        "error", description="clips that have several labels, of those in classes; keep: all of them, with loss=bce"
    )
    limit_per_class: int | None = Field(None, ge=1, description="clips of a class, at most; null: all")
    allow_leak: bool = Field(False, description="train although one recording sits in two splits; marked leaky")
    ram_budget_gb: float = Field(
        4.0, ge=0, description="features up to this size are held in RAM [GB]", json_schema_extra=NOT_IDENTITY
    )

    @field_validator("classes")
    @classmethod
    def _in_any_order(cls, classes: list[str] | None) -> list[str] | None:
        """The same choice written in another order is the same run."""
        return None if classes is None else sorted(set(classes))


class DemoData(Data):
    """Synthesised recordings that come with audioclf."""

    name: Literal["demo"]
    num_classes: int = Field(10, ge=2, le=12)
    recordings_per_class: int = Field(12, ge=3)
    synthesis_seed: int = Field(0, ge=0)


class EscData(Data):
    """ESC-10 and ESC-50 (K. J. Piczak, 2015): five official folds, the source recording as the group."""

    name: Literal["esc10", "esc50"]
    root: str = Field(json_schema_extra=NOT_IDENTITY, description="folder with audio/ and meta.csv or meta/esc50.csv")


class Columns(Section):
    """What the table calls our columns; null: it calls them as we do."""

    path: str | None = None
    url: str | None = None
    youtube_id: str | None = None
    start: str | None = None
    end: str | None = None
    label: str | None = None
    labels: str | None = None
    annotation: str | None = None
    split: str | None = None
    fold: str | None = None
    group: str | None = None
    id: str | None = None

    def given(self) -> dict[str, str]:
        """Our name → the table's, those that are set."""
        return {ours: theirs for ours, theirs in self if theirs is not None}


class _Table(Data):
    """What tables of clips have in common."""

    csv: str = Field(json_schema_extra=NOT_IDENTITY, description="the table: CSV, TSV (ending .tsv) or Parquet")
    columns: Columns = Field(default_factory=Columns)
    audio_dir: str | None = Field(
        None, json_schema_extra=NOT_IDENTITY, description="what relative paths start from; null: the table's folder"
    )


class CsvData(_Table):
    """Any table of clips: path or url, start, end, label or labels, and what else it knows."""

    name: Literal["csv"]


class LinksData(_Table):
    """A table of links as it is published: AudioSet's, VGGSound's, AudioCaps', or any with named columns."""

    name: Literal["links"]
    format: Literal["auto", "audioset", "vggsound", "audiocaps", "columns"] = Field(
        "auto", description="auto: seen from the table's first lines"
    )
    class_labels: str | None = Field(
        None,
        json_schema_extra=NOT_IDENTITY,
        description="AudioSet's class_labels_indices.csv; null: the one in the table's folder",
    )
    clip_seconds: float = Field(10.0, gt=0, description="length of a clip where the table has starts but no ends [s]")


class FolderData(Data):
    """A folder per class, or train/val/test folders with a folder per class in each."""

    name: Literal["folder"]
    root: str = Field(json_schema_extra=NOT_IDENTITY)


DataConfig = Annotated[DemoData | EscData | CsvData | LinksData | FolderData, Field(discriminator="name")]
