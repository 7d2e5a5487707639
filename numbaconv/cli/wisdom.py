"""``numbaconv wisdom``: show, export, import and clear what was measured."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from numbaconv import wisdom
from numbaconv.cli.common import AsJson, new_table, plural, print_json, print_table, say
from numbaconv.plan import format_seconds

wisdom_app = typer.Typer(name="wisdom", no_args_is_help=True, rich_markup_mode="markdown")

Target = Annotated[Path, typer.Argument(metavar="PATH", help="A wisdom file.", show_default=False)]


@wisdom_app.callback()
def _group() -> None:
    """Show, export, import or clear what was measured.

    Example: numbaconv wisdom show
    """


@wisdom_app.command()
def show(
    everything: Annotated[bool, typer.Option("--all", help="Records of other machines and versions, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the records of this machine: a problem, its best algorithm, and the time that takes.

    Example: numbaconv wisdom show --all
    """
    here = wisdom.machine_fingerprint()
    records = wisdom.records()
    shown = [record for record in records if everything or record.machine == here]
    if as_json:
        print_json([{**asdict(record), "this_machine": record.machine == here} for record in shown])
        return
    if shown:
        words = dict.fromkeys(("dtype", "weight", "accuracy"), "word")
        result = {"threads": "number", "effort": "word", "algorithm": "word", "time": "number", "machine": "word"}
        table = new_table({"problem": "text"} | words | result)
        for record in shown:
            table.add_row(
                record.problem, record.dtype, "constant" if record.constant_weight else "changing",
                record.accuracy, str(record.threads), record.effort, record.algorithm, format_seconds(record.seconds),
                "this" if record.machine == here else record.machine,
            )  # fmt: skip
        print_table(table)
    say(f"{len(shown)} of {len(records)} records in {wisdom.default_path()}")


@wisdom_app.command("export")
def export_wisdom(path: Target) -> None:
    """Write all records to a file, merged with those that it already holds.

    Example: numbaconv wisdom export machine-room.jsonl
    """
    wisdom.check_target(path)
    count = len(wisdom.records())
    if not count:
        raise ValueError(f"nothing to export: there is no wisdom in {wisdom.default_path()} (tune keeps some)")
    say(f"{plural(count, 'record')} written to {wisdom.save(path)}")


@wisdom_app.command("import")
def import_wisdom(path: Target) -> None:
    """Merge the records of a file into the user's wisdom; a record of more effort stays.

    Example: numbaconv wisdom import machine-room.jsonl
    """
    count = wisdom.load(path)
    if not count:
        raise ValueError(f"{path}: expected wisdom records, one a line, and found none")
    say(f"{plural(count, 'record')} read from {path} into {wisdom.save()}")


@wisdom_app.command()
def clear(yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Forget all that was measured.

    Example: numbaconv wisdom clear --yes
    """
    count = len(wisdom.records())
    if not yes:
        if not sys.stdin.isatty():
            raise ValueError("nothing was cleared: there is no terminal to ask on (--yes does not ask)")
        if not typer.confirm(f"Forget {plural(count, 'record')} in {wisdom.default_path()}?", err=True):
            say("nothing was cleared")
            raise typer.Exit(1)
    wisdom.clear()
    say(f"{plural(count, 'record')} cleared from {wisdom.default_path()}")
