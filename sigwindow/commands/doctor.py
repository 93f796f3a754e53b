"""`sigwindow doctor`."""

from __future__ import annotations

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
def doctor(as_json: bool) -> int:
    """Say whether tracing works here, with what, and what to do where it does not."""
    import json
    from dataclasses import asdict

    from sigwindow.probes import preflight
    from sigwindow.terminal import draw, render

    found = preflight.checks()
    if as_json:
        click.echo(json.dumps([asdict(check) for check in found], indent=2))
    else:
        draw.console().print(render.checks(found))
    return 0 if preflight.can_trace(found) else 3
