"""Write the man pages of all commands into a folder, from what `--help` says: make man."""

from __future__ import annotations

import sys
from pathlib import Path

from click_man.core import write_man_pages

import sigwindow
from sigwindow.commands import cli

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
write_man_pages("sigwindow", cli, version=sigwindow.__version__, target_dir=str(folder))
