"""The command line: a thin layer over `modelyard.yard.Yard`. Nothing heavy is imported to print help."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from modelyard import __version__, console
from modelyard.cli.base import LazyGroup, Session
from modelyard.errors import ModelyardError, UsageError

_COMMANDS = {
    "init": ("modelyard.cli.project:init", "Make a folder a project."),
    "demo": ("modelyard.cli.demo:demo", "See the whole loop on real flights data."),
    "doctor": ("modelyard.cli.project:doctor", "Find out what is wrong with this machine or project."),
    "up": ("modelyard.cli.project:up", "Start the project's background processes."),
    "down": ("modelyard.cli.project:down", "Stop them."),
    "status": ("modelyard.cli.project:status", "What runs, and what is in production."),
    "logs": ("modelyard.cli.project:logs", "What a background process wrote."),
    "open": ("modelyard.cli.project:open_", "Open an endpoint or the monitor in the browser."),
    "run": ("modelyard.cli.run:run", "Run a script, notebook or command in the project."),
    "runs": ("modelyard.cli.runs:runs", "Tracked runs: list, show, compare."),
    "data": ("modelyard.cli.data:data", "Versions of data: add, status, push, pull, remote."),
    "models": ("modelyard.cli.models:models", "Registered models: list, show, register."),
    "gates": ("modelyard.cli.gates:gates", "What a promotion must pass: list, check."),
    "promote": ("modelyard.cli.promote:promote", "Give an alias to a model version."),
    "rollback": ("modelyard.cli.promote:rollback", "Go back to the version that was deployed before."),
    "history": ("modelyard.cli.promote:history", "Who moved which alias, when and why."),
    "audit": ("modelyard.cli.promote:audit", "Verify the ledger, and that aliases stand where it says."),
    "lineage": ("modelyard.cli.promote:lineage", "Data, code, run and person behind any id."),
    "endpoints": (
        "modelyard.cli.endpoints:endpoints",
        "InferenceServices: apply, list, show, invoke, traffic, logs, delete.",
    ),
    "monitor": ("modelyard.cli.monitor:monitor", "Drift and quality: windows, labels, report, rules."),
    "target": ("modelyard.cli.target:target", "Where the stages run: list, use, add."),
    "ship": ("modelyard.cli.ship:ship", "Copy data, models and their history to a target."),
    "sandbox": (
        "modelyard_sandbox.cli:sandbox",
        "A local Kubernetes cluster with the full stack: up, down, status, doctor, logs, env, bundle.",
    ),
    "plugins": ("modelyard.cli.plugins:plugins", "What is installed: list, check."),
}


@click.group(
    cls=LazyGroup,
    lazy=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="--no-plugins[=NAME] anywhere leaves out third-party plugins (or the one named).",
)
@click.option(
    "--project",
    type=click.Path(path_type=Path),
    help="The project's folder.  [default: here or above]",
)
@click.option("--target", metavar="NAME", help="Where its stages run: local, sandbox, ...")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(__version__, prog_name="modelyard")
@click.pass_context
def cli(
    ctx: click.Context, project: Path | None, target: str | None, overrides: tuple[str, ...], debug: bool
) -> None:
    """Carry a model from a notebook cell to a monitored endpoint.

    \b
    Example:
      modelyard demo                see the whole loop on real data
      modelyard init                make this folder a project
    """
    ctx.obj = Session(project, overrides, target)
    if debug:
        os.environ["MODELYARD_DEBUG"] = "1"


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with a documented status (`errors.EXIT_STATUSES`)."""
    # A caller may have closed them (`>&-`); what was asked for is done all the same.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - open to the end
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    given = _without_plugin_switch(sys.argv[1:] if arguments is None else arguments)
    try:
        status = cli.main(given, prog_name="modelyard", standalone_mode=False)
        sys.stdout.flush()
    except ModelyardError as error:
        sys.exit(_report(error, given))
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as fault:
        if "--json" in given:
            console.print_json({"error": UsageError("usage", fault.format_message()).to_dict()})
        fault.show()
        sys.exit(fault.exit_code)
    except (KeyboardInterrupt, click.Abort):
        print("\ninterrupted; the same command goes on where it stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as fault:
        from modelyard.state import fault_of

        sys.exit(_report(fault_of(fault, Path(fault.filename or ".")), given))
    except Exception as fault:
        if os.environ.get("MODELYARD_DEBUG"):
            raise
        sys.exit(_report(_unforeseen(fault), given))
    sys.exit(status if isinstance(status, int) else 0)


def _unforeseen(fault: Exception) -> ModelyardError:
    from modelyard.plugins import culprit

    said = f"{type(fault).__name__}: {' '.join(str(fault).split())}"
    who = culprit(fault)
    if who:
        return ModelyardError(
            "plugin-failed",
            f"the plugin {who} failed: {said}",
            "run it again with --debug and tell its authors, or choose another provider in modelyard.toml",
        )
    return ModelyardError("unexpected", said, "run it again with --debug and report what it shows")


def _report(error: ModelyardError, arguments: list[str]) -> int:
    if os.environ.get("MODELYARD_DEBUG"):
        import traceback

        traceback.print_exc()
    if "--json" in arguments:
        console.print_json({"error": error.to_dict()})
    console.print_error(error)
    return error.exit_status


def _without_plugin_switch(arguments: list[str]) -> list[str]:
    """Take `--no-plugins[=NAME]` out: it must act before anything is loaded, wherever it stands."""
    kept, names = [], os.environ.get("MODELYARD_NO_PLUGINS", "").split(",")
    end = arguments.index("--") if "--" in arguments else len(arguments)
    for place, argument in enumerate(arguments):
        if place < end and argument == "--no-plugins":
            names.append("all")
        elif place < end and argument.startswith("--no-plugins="):
            names.append(argument.partition("=")[2])
        else:
            kept.append(argument)
    os.environ["MODELYARD_NO_PLUGINS"] = ",".join(name for name in names if name)
    return kept
