"""`sigwindow inspect`."""

from __future__ import annotations

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the threads as JSON.")
@click.argument("pid", type=click.IntRange(min=1))
def inspect(pid: int, as_json: bool) -> None:
    """Show the signal masks of a live process's threads now, from /proc, with no probe."""
    import json

    from sigwindow.collector import procfs
    from sigwindow.terminal import draw, render

    threads = procfs.threads(pid)
    if as_json:
        click.echo(json.dumps([thread._asdict() for thread in threads], indent=2))
    else:
        draw.console().print(render.threads_now(threads))
