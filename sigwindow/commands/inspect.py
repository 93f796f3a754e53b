"""`sigwindow inspect`."""

from __future__ import annotations

import click

from . import completion


@click.command(short_help="Show a live process's signal masks.")
@click.option("--json", "as_json", is_flag=True, help="Print the threads as JSON.")
@click.argument("pid", shell_complete=completion.processes)
def inspect(pid: str, as_json: bool) -> None:
    """Show the signal masks of a live process's threads now, from /proc, with no probe."""
    import json

    from sigwindow.collector import procfs
    from sigwindow.terminal import streams

    threads = procfs.threads(procfs.pid_of(pid))
    if as_json:
        streams.write(json.dumps([thread._asdict() for thread in threads], indent=2) + "\n")
    else:
        from sigwindow.terminal import render

        streams.Streams().show(render.threads_now(threads))
