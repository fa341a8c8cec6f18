"""Plugins: found by entry points, loaded guarded, picked by name.

A plugin is a module under the entry-point group `modelyard`, or `modelyardfile.py` beside
`modelyard.toml`. One that fails to import, misspells a hook or yields rubbish is set aside and
named; everything else goes on. Nothing is loaded for `--help`, `status` or `history`.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.metadata
import importlib.util
import inspect
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from modelyard import hookspecs, stages
from modelyard.components import Component
from modelyard.errors import ConfigError, ConflictError, MissingRequirementError, ModelyardError
from modelyard.offers import CheckOffer, GateOffer, Offer, PluginInfo
from modelyard.stages import StageContext, StageName
from modelyard.targets import TargetOffer

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "modelyard"
INLINE_FILE = "modelyardfile.py"
#: A plugin that needs longer to import is named: its users pay this at every command.
SLOW_IMPORT_SECONDS = 1.0

_HOOK_OF_STAGE: dict[StageName, str] = {
    "track": "modelyard_trackers",
    "data": "modelyard_data_stores",
    "registry": "modelyard_registries",
    "serving": "modelyard_servers",
    "monitoring": "modelyard_monitors",
}
_RECORD_OF_HOOK: dict[str, type] = {
    "modelyard_gates": GateOffer,
    "modelyard_checks": CheckOffer,
    "modelyard_sandbox_components": Component,
    "modelyard_targets": TargetOffer,
}
_PROTOCOL_OF_STAGE: dict[StageName, type] = {
    "track": stages.Tracker,
    "data": stages.DataStore,
    "registry": stages.Registry,
    "serving": stages.Server,
    "monitoring": stages.Monitor,
}


@dataclass(frozen=True, slots=True)
class Offered:
    """An offer together with the plugin that made it."""

    offer: Any
    plugin: PluginInfo

    @property
    def source(self) -> str:
        """The plugin as a person would name it: distribution and entry point."""
        return f"{self.plugin.name} (from {self.plugin.distribution})"


class PluginManager:
    """Loads plugins and asks them for offers.

    Args:
        root: the project's folder, for `modelyardfile.py`; None outside a project.
        disabled: entry-point names to leave out; `all` leaves out every plugin that is not ours.
        warn: gets one sentence for each plugin that is set aside.
    """

    def __init__(
        self,
        root: Path | None = None,
        *,
        disabled: Iterable[str] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self._disabled = disabled_plugins() if disabled is None else frozenset(disabled)
        self._warn = warn or _warn_on_stderr
        self._manager = pluggy.PluginManager("modelyard")
        self._manager.add_hookspecs(hookspecs)
        self._infos: dict[str, PluginInfo] = {}
        self._offers: dict[str, list[Offered]] = {}
        if os.environ.get("MODELYARD_TRACE"):
            self._manager.add_hookcall_monitoring(_trace_before, _trace_after)
        self._register(PluginInfo(name="core", distribution="modelyard", version="", status="ok"), _core)
        for entry_point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda e: e.name):
            self._load(entry_point)
        if root is not None and (root / INLINE_FILE).is_file():
            self._load_inline(root / INLINE_FILE)
        self._manager.check_pending()

    # -- what there is ----------------------------------------------------------------------

    def infos(self) -> list[PluginInfo]:
        """Every plugin that was found, with its status and what it offers."""
        return [self._described(info) for info in self._infos.values()]

    def names(self, stage: StageName) -> list[str]:
        """The provider names that are offered for a stage, sorted."""
        return sorted({offered.offer.name for offered in self.offers(_HOOK_OF_STAGE[stage])})

    def offers(self, hook: str) -> list[Offered]:
        """All valid offers of one hook. A plugin that raises while it is asked is set aside."""
        if hook not in self._offers:
            self._offers[hook] = [
                Offered(offer, self._infos[name])
                for name in list(self._infos)
                if self._manager.has_plugin(name)
                for offer in self._ask(name, hook)
            ]
        return self._offers[hook]

    # -- using them -------------------------------------------------------------------------

    def find(self, stage: StageName, name: str) -> Offered:
        """The one offer of that name for a stage.

        Raises:
            ConfigError: `provider-unknown`, with those that are offered and by whom.
            ConflictError: `provider-name-taken`: two plugins offer the name.
        """
        everything = self.offers(_HOOK_OF_STAGE[stage])
        found = [offered for offered in everything if offered.offer.name == name]
        if len(found) > 1:
            raise ConflictError(
                "provider-name-taken",
                f"two plugins offer the {stage} provider '{name}': "
                + " and ".join(offered.source for offered in found),
                f"switch one off: modelyard --no-plugins={found[-1].plugin.name} ...",
                details={"distributions": [offered.plugin.distribution for offered in found]},
            )
        if not found:
            raise self._unknown_provider(stage, name, everything)
        return found[0]

    def open(self, stage: StageName, name: str, context: StageContext) -> Any:
        """Open the provider of a stage.

        Raises:
            MissingRequirementError: `extra-missing`, with the pip command.
            ConfigError: `provider-wrong-type`: what the factory returned is not such a provider.
        """
        offered = self.find(stage, name)
        offer: Offer[Any] = offered.offer
        missing = missing_requirements(offer)
        if missing:
            raise MissingRequirementError(
                "extra-missing",
                f"the {stage} provider '{name}' needs {', '.join(missing)}, which is not installed",
                f"pip install '{offer.install or ' '.join(missing)}'",
            )
        try:
            provider = offer.factory(context)
        except ModelyardError:
            raise
        except (Exception, SystemExit) as fault:
            raise ConfigError(
                "provider-failed",
                f"the {stage} provider '{name}' of {offered.source} failed to open: "
                f"{type(fault).__name__}: {fault}",
                "run it again with --debug, or choose another provider in modelyard.toml",
            ) from fault
        lacking = _missing_methods(provider, _PROTOCOL_OF_STAGE[stage])
        if lacking:
            raise ConfigError(
                "provider-wrong-type",
                f"the {stage} provider '{name}' of {offered.source} is a {type(provider).__name__} "
                f"without {', '.join(lacking)}",
                f"modelyard plugins check {offered.plugin.name}",
            )
        return provider

    def tell(self, hook: str, **arguments: Any) -> None:
        """Call an event's listeners, each guarded: one that fails is reported, the rest are called."""
        for name in list(self._infos):
            if self._manager.has_plugin(name):
                try:
                    self._call(name, hook, **arguments)
                except (Exception, SystemExit) as fault:
                    self._warn(f"plugin {self._source(name)}: {hook} failed: {_in_a_line(fault)}")

    # -- loading ----------------------------------------------------------------------------

    def _load(self, entry_point: EntryPoint) -> None:
        distribution = entry_point.dist
        info = PluginInfo(
            name=entry_point.name,
            distribution=distribution.name if distribution else "unknown",
            version=distribution.version if distribution else "",
            status="ok",
        )
        if info.name in self._infos:
            other = self._infos[info.name].distribution
            if other == info.distribution:
                return  # the same distribution seen twice on sys.path
            info = replace(info, name=f"{info.name}@{info.distribution}")
        ours = info.distribution == "modelyard"
        if entry_point.name in self._disabled or ("all" in self._disabled and not ours):
            self._infos[info.name] = replace(info, status="disabled")
            return
        self._register(info, entry_point.load)

    def _load_inline(self, file: Path) -> None:
        info = PluginInfo(name=INLINE_FILE, distribution=str(file), version="", status="ok")
        if self._disabled & {"all", INLINE_FILE}:
            self._infos[info.name] = replace(info, status="disabled")
        else:
            self._register(info, lambda: _module_from(file))

    def _register(self, info: PluginInfo, load: Callable[[], ModuleType]) -> None:
        started = time.monotonic()
        try:
            with _stdout_is_the_commands():
                module = load()
            hooks = self._hooks_of(module)
            self._manager.register(module, name=info.name)
        except (Exception, SystemExit) as fault:
            self._set_aside(info, _in_a_line(fault))
            return
        seconds = time.monotonic() - started
        self._infos[info.name] = replace(info, hooks=hooks, import_seconds=seconds)
        if seconds > SLOW_IMPORT_SECONDS:
            self._warn(
                f"plugin {self._source(info.name)} took {seconds:.1f} s to import; "
                f"switch it off with --no-plugins={info.name} or tell its authors"
            )

    def _hooks_of(self, module: ModuleType) -> tuple[str, ...]:
        """The plugin's hook names; a name that is almost a hook is an error, not a silent nothing."""
        known = {name for name in vars(hookspecs) if name.startswith("modelyard_")}
        hooks = []
        for name, member in inspect.getmembers(module, inspect.isfunction):
            marked = self._manager.parse_hookimpl_opts(module, name) is not None
            if marked and name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                raise ConfigError(
                    "hook-unknown",
                    f"there is no hook '{name}'" + (f"; did you mean '{near[0]}'?" if near else ""),
                )
            if not marked and name in known and member.__module__ == module.__name__:
                raise ConfigError("hook-unmarked", f"'{name}' is not marked with @modelyard.hookimpl")
            if marked:
                hooks.append(name)
        return tuple(hooks)

    def _set_aside(self, info: PluginInfo, message: str) -> None:
        if self._manager.has_plugin(info.name):
            self._manager.unregister(name=info.name)
        self._infos[info.name] = replace(info, status="broken", message=message)
        self._warn(
            f"plugin {self._source(info.name)} is broken and left out: {message}; "
            f"--no-plugins={info.name} or MODELYARD_NO_PLUGINS={info.name} silences this"
        )

    def _source(self, name: str) -> str:
        return f"'{name}' of {self._infos[name].distribution}"

    # -- calling ----------------------------------------------------------------------------

    def _call(self, name: str, hook: str, **arguments: Any) -> list[Any]:
        """Call one hook of one plugin, through pluggy."""
        others = [
            plugin
            for other, plugin in self._manager.list_name_plugin()
            if other != name and plugin is not None
        ]
        with _stdout_is_the_commands():
            results: list[Any] = self._manager.subset_hook_caller(hook, others)(**arguments)
        return results

    def _ask(self, name: str, hook: str) -> list[Any]:
        wanted = _RECORD_OF_HOOK.get(hook, Offer)
        try:
            results = self._call(name, hook)
            with _stdout_is_the_commands():  # a generator does its work here
                offers = [offer for result in results for offer in result]
            wrong = [offer for offer in offers if not isinstance(offer, wanted)]
            if wrong:
                raise TypeError(f"{hook} yielded a {type(wrong[0]).__name__}, not a {wanted.__name__} record")
        except (Exception, SystemExit) as fault:
            self._set_aside(self._infos[name], _in_a_line(fault))
            return []
        return offers

    def _described(self, info: PluginInfo) -> PluginInfo:
        if info.status != "ok":
            return info
        offers: dict[str, tuple[str, ...]] = {}
        missing: dict[str, str] = {}
        for hook in info.hooks:
            if hook.startswith("modelyard_after_"):
                continue
            mine = [offered.offer for offered in self.offers(hook) if offered.plugin.name == info.name]
            offers[hook.removeprefix("modelyard_")] = tuple(offer.name for offer in mine)
            missing |= {o.install or ", ".join(m): o.name for o in mine if (m := missing_requirements(o))}
        info = replace(self._infos[info.name], offers=offers)
        if info.status == "ok" and (taken := self._taken_names(info.name)):
            return replace(info, status="conflict", message=taken)
        if info.status == "ok" and missing:
            message = f"pip install '{next(iter(missing))}'"
            return replace(info, status="needs extra", message=message)
        return info

    def _taken_names(self, plugin: str) -> str:
        """Which of the plugin's provider names somebody else offers too: nobody can use those."""
        said = []
        for stage, hook in _HOOK_OF_STAGE.items():
            offered = self.offers(hook)
            for mine in (o for o in offered if o.plugin.name == plugin):
                others = [o.source for o in offered if o is not mine and o.offer.name == mine.offer.name]
                said += [f"the {stage} provider '{mine.offer.name}' is offered by {o} too" for o in others]
        return "; ".join(said)

    def _unknown_provider(self, stage: str, name: str, everything: list[Offered]) -> ConfigError:
        offered = ", ".join(f"{o.offer.name} (by {o.plugin.distribution})" for o in everything)
        aside = [i for i in self._infos.values() if i.status in ("broken", "disabled")]
        note = f"; left out: {', '.join(f'{i.name} ({i.status})' for i in aside)}" if aside else ""
        near = difflib.get_close_matches(name, [o.offer.name for o in everything], n=1)
        return ConfigError(
            "provider-unknown",
            f"nobody offers the {stage} provider '{name}'; offered: {offered or 'none'}{note}",
            f'set `{stage} = "{(near or [everything[0].offer.name] if everything else ["..."])[0]}"` '
            "under [stages] in modelyard.toml, or install the plugin that offers it",
            details={"offered": [o.offer.name for o in everything]},
        )


def disabled_plugins() -> frozenset[str]:
    """The names in `MODELYARD_NO_PLUGINS` (comma-separated; `all` or `1`: all that are not ours)."""
    words = os.environ.get("MODELYARD_NO_PLUGINS", "").replace(" ", "").split(",")
    return frozenset("all" if word == "1" else word for word in words if word)


def missing_requirements(offer: Any) -> list[str]:
    """The import names that a provider needs and this Python lacks; nothing is imported."""
    needed = offer.requires if isinstance(offer, Offer) else ()  # others import nothing heavy
    return [name for name in needed if importlib.util.find_spec(name) is None]


def _missing_methods(provider: object, protocol: type) -> list[str]:
    methods = [name for name in vars(protocol) if not name.startswith("_")]
    return [name for name in methods if not callable(getattr(provider, name, None))]


def _core() -> ModuleType:
    from modelyard import gates

    return gates


def _module_from(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("modelyardfile", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} can't be loaded")
    module = importlib.util.module_from_spec(spec)
    # Registered while it runs, as any import would be: dataclasses and pickles look it up there.
    sys.modules["modelyardfile"] = module
    spec.loader.exec_module(module)
    return module


def culprit(fault: BaseException) -> str:
    """The plugin of a third party in which something unexpected was raised, or nothing.

    Only the names in the traceback are compared: this is for faults that nobody foresaw.
    """
    sources = {
        point.module.partition(".")[0]: f"'{point.name}' of {point.dist.name if point.dist else 'unknown'}"
        for point in importlib.metadata.entry_points(group=GROUP)
        if point.dist is None or point.dist.name != "modelyard"
    }
    sources["modelyardfile"] = f"'{INLINE_FILE}'"
    frames = [frame for frame, _ in traceback.walk_tb(fault.__traceback__)]
    modules = [str(frame.f_globals.get("__name__", "")).partition(".")[0] for frame in frames]
    return next((sources[module] for module in reversed(modules) if module in sources), "")


@contextlib.contextmanager
def _stdout_is_the_commands() -> Iterator[None]:
    """What plugins print goes to stderr: scripts read the JSON on stdout."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _in_a_line(fault: BaseException) -> str:
    if isinstance(fault, ModelyardError):
        return fault.message
    text = " ".join(str(fault).split())
    return f"{type(fault).__name__}: {text}" if text else type(fault).__name__


def _warn_on_stderr(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _trace_before(hook: str, implementations: Any, arguments: Any) -> None:
    names = ", ".join(i.plugin_name for i in implementations)
    if names:
        given = ", ".join(f"{key}={value!r:.60}" for key, value in arguments.items())
        print(f"trace: {hook}({given}) -> {names}", file=sys.stderr)


def _trace_after(outcome: Any, hook: str, implementations: Any, arguments: Any) -> None:  # noqa: ARG001
    if implementations and outcome.exception is not None:
        print(f"trace: {hook} raised {outcome.exception!r}", file=sys.stderr)
