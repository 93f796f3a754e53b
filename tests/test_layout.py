"""The shape of the project: which part may import which, and documents that must agree with declarations."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from sigwindow.analysis.tables import TABLES
from sigwindow.probes import events

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("probes", "collector", "analysis")
# Within a part, files and folders from the ground up: each may import what stands in an earlier line, and nothing else.
ORDER = {
    "probes": (
        "errors text",
        "events signals",
        "traceinfo btf ring",
        "bcc",
        "preflight",
        "dtrace strace",
    ),
    "collector": (
        "session procfs command remote lines pump",
        "tracefile files external ring_session strace",
        "backends importing",
    ),
    "analysis": (
        "question tables captions colours durations",
        "words totals export",
        "result summary",
        "engine statistics findings",
        "sheets canvas",
        "notebook plots",
        "risk compare report",
    ),
    "sigwindow": (
        "control gates fleet",
        "trace capture",
        "recording terminal",
        "commands",
        "magic",
        "__init__ __main__",
    ),
}
# What knows neither the command line nor a terminal, and never prints.
QUIET = ("trace", "recording", "fleet", "capture", "gates", "control")
TRACERS = {"bcc"} | {f"sigwindow.probes.{name}" for name in ("bcc", "btf", "ring", "preflight", "dtrace", "strace")}


def imports(path: Path, package: str) -> set[str]:
    """The absolute dotted names that a module of `package` imports, at its head or inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def modules(part: str) -> list[Path]:
    """Every module of a part, in its subfolders too."""
    return sorted((ROOT / part).rglob("*.py"))


def imports_of(part: str) -> dict[str, set[str]]:
    """For each module of a part, by its path, what it imports."""
    found = {}
    for path in modules(part):
        package = ".".join(("sigwindow", *path.parent.relative_to(ROOT).parts))
        found[str(path.relative_to(ROOT))] = imports(path, package)
    return found


def within(name: str, allowed: tuple[str, ...]) -> bool:
    """Whether a dotted name is one of `allowed`, or lies in it."""
    return any(name == top or name.startswith(f"{top}.") for top in allowed)


@pytest.mark.parametrize(
    ("part", "below"),
    [
        ("probes", ("sigwindow.probes",)),
        ("collector", ("sigwindow.collector", "sigwindow.probes")),
        ("analysis", ("sigwindow.analysis", "sigwindow.probes")),
    ],
)
def test_imports_point_one_way(part: str, below: tuple[str, ...]) -> None:
    for module, names in imports_of(part).items():
        ours = {name for name in names if name.split(".")[0] in ("sigwindow", *PARTS)}
        outside = {name for name in ours if not within(name, below)}
        assert not outside, f"{module} imports {outside}"


@pytest.mark.parametrize("part", ORDER)
def test_within_a_part_imports_point_down(part: str) -> None:
    rank = {unit: place for place, units in enumerate(ORDER[part]) for unit in units.split()}
    inside = "sigwindow" if part == "sigwindow" else f"sigwindow.{part}"
    found = set()
    for module, names in imports_of(part).items():
        unit = module.split("/")[1].removesuffix(".py")
        if unit == "__init__" and part != "sigwindow":
            continue
        found.add(unit)
        targets = {name.removeprefix(f"{inside}.").split(".")[0] for name in names if name.startswith(f"{inside}.")}
        above = {target for target in targets - {unit, *PARTS} if rank.get(target, -1) >= rank[unit]}
        assert not above, f"{module} imports {above}"
    assert found == set(rank)


def test_the_python_interface_knows_no_terminal_and_never_prints() -> None:
    for module, names in imports_of("sigwindow").items():
        if module.removeprefix("sigwindow/").removesuffix(".py") in QUIET:
            assert not {name for name in names if within(name, ("click", "rich", "sigwindow.terminal"))}, module
            calls = [node for node in ast.walk(ast.parse((ROOT / module).read_text())) if isinstance(node, ast.Call)]
            assert not [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"], module


def test_analysis_imports_no_tracer() -> None:
    for module, names in imports_of("analysis").items():
        tracers = {name for name in names if within(name, tuple(TRACERS))}
        assert not tracers, f"{module} imports {tracers}"


def test_an_import_in_a_subfolder_is_seen(tmp_path: Path) -> None:
    module = tmp_path / "x.py"
    module.write_text("from ..procfs import threads\nfrom sigwindow.analysis.engine import windows\n")
    assert imports(module, "sigwindow.collector.strace") == {
        "sigwindow.collector.procfs.threads",
        "sigwindow.analysis.engine.windows",
    }


def test_every_package_is_in_the_wheel() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {"sigwindow"} | {
        ".".join(("sigwindow", *path.parent.relative_to(ROOT / "sigwindow" if top == "sigwindow" else ROOT).parts))
        for top in (*PARTS, "sigwindow")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert set(declared) == found


def test_every_part_has_modules_and_a_docstring_in_each() -> None:
    for part in (*PARTS, "sigwindow"):
        found = modules(part)
        assert found
        for path in found:
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path}: no docstring"


def table(document: str, heading: str) -> list[list[str]]:
    """The rows of the first table under a heading of a document."""
    section = re.split(rf"^## {heading}$", (ROOT / "docs" / document).read_text(), flags=re.MULTILINE)[1].split(
        "\n## "
    )[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_events_page_is_the_declaration() -> None:
    types = {c.name: "dictionary of string" if c.name == "kind" else str(c.arrow) for c in events.COLUMNS}
    assert table("events.md", "Columns") == [[c.name, types[c.name], c.meaning] for c in events.COLUMNS]
    assert table("events.md", "Kinds") == [[kind.name, kind.meaning] for kind in events.KINDS]
    assert all(column.meaning for column in events.COLUMNS)
    assert f"today it\nis {events.FORMAT_VERSION}. " in (ROOT / "docs" / "events.md").read_text()
    assert all(column.since <= events.FORMAT_VERSION for column in events.COLUMNS)


def test_flags_page_is_the_declaration() -> None:
    documented = {(kind, int(bits, 16)) for kind, bits, _ in table("events.md", "Flags") if bits.startswith("0x")}
    assert documented == {
        ("born", events.CLONE_THREAD),
        ("born", events.BORN_KERNEL_WORKER),
        ("generate", events.GENERATE_RESULT),
        ("generate", events.GENERATE_PROCESS),
        ("exit", events.EXIT_GROUP),
    }


def test_the_result_tables_page_is_the_declaration() -> None:
    for name, columns in TABLES.items():
        declared = [[of.name, of.type.arrow, of.type.unit, of.meaning] for of in columns]
        assert table("tables.md", name) == declared, name


def test_the_python_interface_is_documented() -> None:
    import sigwindow

    assert sorted(row[0].strip("`") for row in table("python.md", "Names")) == sorted(sigwindow.__all__)
    assert all(getattr(sigwindow, name).__doc__ for name in sigwindow.__all__)


def test_every_message_that_troubleshooting_explains_is_one_of_ours() -> None:
    """By its longest piece without what is filled in."""
    sources = (path.read_text(encoding="utf-8") for part in (*PARTS, "sigwindow") for path in modules(part))
    texts = [re.sub(r'"\s*\n\s*f?"', "", source) for source in sources]  # one text in several lines of source
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    for section in ("The command line", "Reading a trace", "What the answer says"):
        rows = page.partition(f"## {section}")[2].partition("\n## ")[0]
        for message in re.findall(r"`([^`]+)`", " ".join(re.findall(r"^\| (`[^|]+) \|", rows, re.MULTILINE))):
            longest = max((piece.strip(" ,:;()") for piece in message.split("…")), key=len)
            assert any(longest in text for text in texts), message
