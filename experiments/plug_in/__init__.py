"""How well banks plug into anyone's classifier, without and with calibration: ``make plug-in``."""
