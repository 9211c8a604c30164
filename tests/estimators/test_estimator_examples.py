"""The scripts of experiments/examples/ on scikit-learn run, and say what is said of them."""

import re

import pytest

pytest.importorskip("sklearn")


@pytest.mark.numeric
def test_settings_are_searched_for(capsys):
    from experiments.examples import search_settings

    search = search_settings.main()
    assert set(search.best_params_) == {"model__epochs", "classifier__l2"}
    assert len(search.cv_results_["params"]) == 4
    said = capsys.readouterr().out
    unseen, seen = (float(re.search(rf"{split}: ([\d.]+)", said)[1]) for split in ("test_unseen", "test_seen"))
    assert min(unseen, seen) > 0.3, "chance is 1 / 25"


@pytest.mark.numeric
def test_rows_are_synthesized_in_a_pipeline(capsys):
    pytest.importorskip("imblearn")
    from experiments.examples import synthesize_rows

    pipeline = synthesize_rows.main()
    assert len(pipeline.classes_) == 25
    plain, lowered = re.findall(r"unseen ([\d.]+), seen ([\d.]+)", capsys.readouterr().out)
    assert float(lowered[0]) > float(plain[0]) > 0.2, "chance is 1 / 25"
