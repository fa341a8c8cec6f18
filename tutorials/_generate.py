"""Write the reference pages from the code: settings, commands, hooks, errors.

python tutorials/_generate.py            write them
python tutorials/_generate.py --check    exit 1 if one is stale
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from modelyard import errors, hookspecs
from modelyard.cli import cli
from modelyard.config import Settings
from modelyard.plugins import PluginManager

HERE = Path(__file__).parent
ROOT = HERE.parent
NOTE = "<!-- Written by tutorials/_generate.py; change the code instead. -->\n\n"


def settings_page() -> str:
    """Every key of `modelyard.toml` and of the providers' tables."""
    lines = [
        "# Settings\n",
        "`modelyard.toml` makes a folder a project. A key is taken from the first of: a flag",
        "(`--set stages.track=acme`), the environment (`MODELYARD_STAGES__TRACK=acme`), the file,",
        "the default.",
        "An unknown key is an error that names the key which was meant.",
        "[JSON schema](modelyard.schema.json) for editors.\n",
    ]
    for table, model in (("project", "ProjectTable"), ("stages", "StagesTable")):
        lines += [f"## `[{table}]`\n", *_fields(Settings.model_json_schema()["$defs"][model])]
    for offered in _providers_with_settings():
        schema = offered.offer.settings().model_json_schema()
        lines += [f"## `[providers.{offered.offer.name}]`\n", *_fields(schema)]
    return NOTE + "\n".join(lines)


def schema_file() -> str:
    """The JSON schema of `modelyard.toml`, with the default providers' tables."""
    schema = Settings.model_json_schema()
    tables = {o.offer.name: o.offer.settings().model_json_schema() for o in _providers_with_settings()}
    schema["properties"]["providers"]["properties"] = tables
    return json.dumps(schema, indent=2) + "\n"


def commands_page() -> str:
    """The help of every command."""
    lines = ["# Commands\n", "Every command takes `--help`, and all but `run` take `--json`.\n"]
    for words, command in _commands(cli, ()):
        context = click.Context(command, info_name=" ".join(("modelyard", *words)), max_content_width=90)
        depth = "##" if len(words) == 1 else "###"
        text = command.get_help(context).replace("[default: here or above]", "[default: here or above]")
        lines += [f"{depth} `modelyard {' '.join(words)}`\n", "```text", text, "```\n"]
    return NOTE + "\n".join(lines)


def hooks_page() -> str:
    """Every hook with its arguments, from its docstring."""
    lines = [
        "# Hooks\n",
        inspect.getdoc(hookspecs) or "",
        "\n```text",
        "modelyard COMMAND",
        "   |  plugins are found (entry points, modelyardfile.py), imported, checked",
        "   v",
        "offers    modelyard_trackers, _data_stores, _registries, _servers, _monitors, _gates, _checks",
        "   |  the project picks providers by name and opens them",
        "   v",
        "run       modelyard_after_run_start -> params, metrics, data, model -> modelyard_after_run",
        "   |  its model is registered",
        "   v",
        "promote   gates -> ledger: intent -> alias -> ledger: outcome -> modelyard_after_promote",
        "   |  endpoints that follow the alias are reconciled",
        "   v",
        "deploy    revision ready -> traffic -> modelyard_after_deploy",
        "```\n",
    ]
    for name, function in _hooks():
        signature = ", ".join(inspect.signature(function).parameters)
        lines += [f"## `{name}({signature})`\n", _as_markdown(inspect.getdoc(function) or ""), ""]
    return NOTE + "\n".join(lines)


def errors_page() -> str:
    """Exit statuses, and every code that the packages raise."""
    lines = ["# Errors and exit statuses\n", "| status | meaning |", "|---|---|"]
    lines += [f"| {status} | {meaning} |" for status, meaning in errors.EXIT_STATUSES.items()]
    lines += ["\n## Codes\n", "| code | status | raised in |", "|---|---|---|"]
    lines += [f"| `{code}` | {status} | {where} |" for code, (status, where) in sorted(_codes().items())]
    return NOTE + "\n".join(lines) + "\n"


PAGES = {
    "reference/settings.md": settings_page,
    "reference/modelyard.schema.json": schema_file,
    "reference/commands.md": commands_page,
    "reference/hooks.md": hooks_page,
    "reference/errors.md": errors_page,
}


def _fields(schema: dict[str, object]) -> list[str]:
    properties: dict[str, dict[str, object]] = schema.get("properties", {})  # type: ignore[assignment]
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for key, field in properties.items():
        default = f"`{json.dumps(field['default'])}`" if "default" in field else "required"
        lines.append(f"| `{key}` | {default} | {field.get('description', '')} |")
    return [*lines, ""]


def _providers_with_settings() -> Iterator[object]:
    plugins = PluginManager(None, disabled=["all"])
    seen = set()
    for kind in ("trackers", "data_stores", "registries", "servers", "monitors"):
        for offered in plugins.offers(f"modelyard_{kind}"):
            if offered.offer.settings is not None and offered.offer.name not in seen:
                seen.add(offered.offer.name)
                yield offered


def _commands(group: click.Group, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*words, name), command
        if isinstance(command, click.Group):
            yield from _commands(command, (*words, name))


def _hooks() -> list[tuple[str, object]]:
    found = [(n, f) for n, f in vars(hookspecs).items() if n.startswith("modelyard_")]
    return sorted(found, key=lambda pair: pair[1].__code__.co_firstlineno)  # type: ignore[attr-defined]


def _as_markdown(doc: str) -> str:
    """Google-style docstring sections as Markdown."""
    example = re.search(r"Example:\n((?: {4}.*\n?|\n)+)", doc)
    if example:
        code = inspect.cleandoc(example.group(1))
        doc = doc.replace(example.group(0), f"```python\n{code}\n```\n\n")
    doc = re.sub(r"Args:\n", "Arguments:\n\n", doc)
    doc = re.sub(r"Returns:\n\s+", "Returns: ", doc)
    return re.sub(r"^ {4}(\w+): ", r"- `\1`: ", doc, flags=re.MULTILINE)


def _codes() -> dict[str, tuple[int, str]]:
    """Every literal code given to an error class, read from the syntax trees."""
    statuses = {
        name: kind.exit_status
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.ModelyardError)
    }
    found: dict[str, tuple[int, str]] = {}
    for file in sorted([*ROOT.glob("core/modelyard/**/*.py"), *ROOT.glob("plugins/modelyard_*/**/*.py")]):
        if "testing" in file.parts:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            first = node.args[0]
            if name in statuses and isinstance(first, ast.Constant) and isinstance(first.value, str):
                package = file.relative_to(ROOT).parts[1]
                found.setdefault(first.value, (statuses[name], package))
    return found


def main() -> int:
    """Write or check the pages; the exit status counts the stale ones."""
    check, stale = "--check" in sys.argv, []
    for path, make in PAGES.items():
        text = make()
        if (HERE / path).exists() and (HERE / path).read_text(encoding="utf-8") == text:
            continue
        stale.append(path)
        if not check:
            (HERE / path).parent.mkdir(parents=True, exist_ok=True)
            (HERE / path).write_text(text, encoding="utf-8")
            print(f"wrote {path}")
    if check and stale:
        print(f"stale: {', '.join(stale)}; run: make docs", file=sys.stderr)
    return len(stale) if check else 0


if __name__ == "__main__":
    sys.exit(main())
