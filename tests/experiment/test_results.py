"""What a run notes of itself: seconds that add up, and the calibration beside the predictions."""

import time

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
