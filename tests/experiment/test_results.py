"""What a run notes of itself: seconds that add up, and the calibration beside the predictions."""

import re
import time

import fgen
from fgen.experiment.directory import Clock


def test_seconds_of_a_phase_add_up_over_all_calls_that_a_run_took(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for seconds in (3.0, 4.0):
        clock = Clock(tmp_path / "timing.json")
        now[0] += seconds
        clock.mark("selection")
        now[0] += 1
        clock.mark("training")
    assert Clock(tmp_path / "timing.json").seconds == {"selection": 7.0, "training": 2.0}


def test_a_result_shows_its_table_in_a_terminal_and_in_a_notebook(tmp_path):
    result = fgen.run({"dataset": {"name": "toy"}, "model": {"name": "ridge"}, "protocol": {"seeds": [0, 1]}})
    assert repr(result) == result.table()
    assert len(repr(result)) < 500
    shown = result._repr_html_()
    assert shown.count("<tr>") == 2
    cells = re.findall("<td>(.*?)</td>", shown)
    assert cells == result.row("%")
    assert re.sub("<[^>]+>", "", shown).startswith("ridge on toy: protocol honest")
    strange = fgen.RunResult(result.description | {"model": "<script>alert(1)</script>"})
    assert "&lt;script&gt;" in strange._repr_html_()
    assert "<script" not in strange._repr_html_()
