"""Train one run: `python train.py lr=1e-4 epochs=50`; `python train.py --help` shows the rest."""

import sys

import hydra
from omegaconf import DictConfig

from audioclf.app import run_task
from audioclf.command_line import check_command_line, spell_out
from audioclf.compose import register_resolvers
from audioclf.console import user_errors


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float | None:
    """Trains what the configuration says and returns its val macro-F1."""
    return run_task(cfg)


if __name__ == "__main__":
    register_resolvers()
    with user_errors():
        sys.argv[1:] = spell_out(sys.argv[1:])
        check_command_line(sys.argv[1:])
        main()
