"""`sigwindow doctor`."""

from __future__ import annotations

import click


@click.command(short_help="Say whether tracing works here.")
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
def doctor(as_json: bool) -> int:
    """Say whether tracing works here, with what, and what to do where it does not."""
    import json
    from dataclasses import asdict

    from sigwindow.collector import backends
    from sigwindow.collector.session import Ability
    from sigwindow.probes.preflight import can_trace
    from sigwindow.terminal import streams

    found = backends.survey()
    if as_json:
        told = [
            {
                "backend": backend.name,
                "works": can_trace(checks),
                "can": ["run", *(ability.value for ability in Ability if ability in backend.abilities())],
                "cost": backend.cost,
                "checks": [asdict(check) for check in checks],
            }
            for backend, checks in found
        ]
        streams.write(json.dumps(told, indent=2) + "\n")
    else:
        from sigwindow.terminal import render

        streams.Streams().show(render.backends(found))
    return 0 if any(can_trace(checks) for _, checks in found) else 3
