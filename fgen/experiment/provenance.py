"""Version of fgen that writes a result."""

import subprocess
from importlib import metadata
from pathlib import Path


def version() -> str:
    """Return the installed version of fgen."""
    try:
        return metadata.version("fgen")
    except metadata.PackageNotFoundError:
        return "not installed"


def git_commit() -> str | None:
    """Return the commit of fgen's own checkout, with ``+`` for local changes; None where it was installed."""
    here = Path(__file__).resolve().parents[1]
    if not (here.parent / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
