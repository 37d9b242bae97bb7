"""The failure that audioclf began with, from its run to the run that its diagnosis proposes."""

import pytest

from audioclf.compose import load_config
from audioclf.diagnose.diagnose import diagnose
from audioclf.diagnose.fix import fix
from audioclf.diagnose.run import read_run
from audioclf.training.fit import fit


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_lab_report_is_named_and_mended(shared_data, tmp_path):
    words = ["experiment=lab_report", "data=esc10", f"data.root={shared_data('esc10')}", "trainer.tensorboard=false"]
    trained = fit(load_config([*words, f"paths.cache={tmp_path / 'cache'}"]), tmp_path / "run")
    assert trained.result["test"]["f1_macro"] <= 0.15

    run = read_run(trained.folder)
    diagnosis = diagnose(run)
    assert {verdict.cause for verdict in diagnosis.convicted} & {"lr_too_high", "no_normalisation"}
    assert next(verdict for verdict in diagnosis.verdicts if verdict.cause == "overfitting").status == "cleared"

    fixed = fix(run, diagnosis)
    assert fixed is not None
    assert fixed.after.result["test"]["f1_macro"] >= 0.55
