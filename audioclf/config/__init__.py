"""The typed schema of ``conf/``: every key, its type, unit and range, checked before anything is loaded.

Hydra composes the files; this package says what may stand in them. A field marked with :data:`NOT_IDENTITY` cannot
change a run's numbers (a path, a progress bar) and is left out of the run's identity.
"""

from audioclf.config.augment import AugmentConfig
from audioclf.config.config import Config, check_paths, explain, keys_of, parse_config, section_names, unknown_key
from audioclf.config.data import Columns, CsvData, Data, DataConfig, DemoData, EscData, FolderData, LinksData
from audioclf.config.features import (
    AudioTextConfig,
    Axes,
    FeaturesConfig,
    MelConfig,
    Pool,
    TextConfig,
    TextEncoder,
    TorchaudioBundleConfig,
    TransformersConfig,
    WaveformConfig,
    YamnetConfig,
)
from audioclf.config.model import (
    AttentionPoolConfig,
    AudioClassifierConfig,
    CnnConfig,
    FinetuneConfig,
    LinearConfig,
    ModelConfig,
)
from audioclf.config.section import CONTENT, NOT_IDENTITY, SPLITS, Launcher, Section
from audioclf.config.training import (
    BceConfig,
    CrossEntropyConfig,
    FocalConfig,
    LossConfig,
    OptimizerConfig,
    TrainerConfig,
)
from audioclf.config.work import DiagnoseConfig, FetchConfig, PathsConfig, SearchConfig

__all__ = [
    "CONTENT",
    "NOT_IDENTITY",
    "SPLITS",
    "AttentionPoolConfig",
    "AudioClassifierConfig",
    "AudioTextConfig",
    "AugmentConfig",
    "Axes",
    "BceConfig",
    "CnnConfig",
    "Columns",
    "Config",
    "CrossEntropyConfig",
    "CsvData",
    "Data",
    "DataConfig",
    "DemoData",
    "DiagnoseConfig",
    "EscData",
    "FeaturesConfig",
    "FetchConfig",
    "FinetuneConfig",
    "FocalConfig",
    "FolderData",
    "Launcher",
    "LinearConfig",
    "LinksData",
    "LossConfig",
    "MelConfig",
    "ModelConfig",
    "OptimizerConfig",
    "PathsConfig",
    "Pool",
    "SearchConfig",
    "Section",
    "TextConfig",
    "TextEncoder",
    "TorchaudioBundleConfig",
    "TrainerConfig",
    "TransformersConfig",
    "WaveformConfig",
    "YamnetConfig",
    "check_paths",
    "explain",
    "keys_of",
    "parse_config",
    "section_names",
    "unknown_key",
]
