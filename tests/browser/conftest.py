"""A real JupyterLab with the built panel, in a real browser, on real projects."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.served import free_port, serving

sync_api = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
pytest.importorskip("jupyterlab", reason="the browser tests need jupyterlab")

ROOT = Path(__file__).parents[2]
EXTENSION = ROOT / "jupyter_ext"
SHOTS = ROOT / "build" / "screenshots"
_CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: Milliseconds that anything in the browser may take.
PATIENCE = 60_000
sync_api.expect.set_options(timeout=PATIENCE)
#: Kinds of findings of axe-core that are faults.
_FAULTS = ("serious", "critical")
#: Messages that say nothing about the panel: JupyterLab's, and of the machine's networks that come and go.
_NOT_OURS = (
    *("favicon", "jupyterlab-lsp", "Content Security Policy", "/lsp/", "listings", "extensions"),
    "ERR_NETWORK_CHANGED",
)
#: Whether both the layout and the list of our tabs, which are stored apart, name a tab.
_KEPT = """async name => {
    const kept = await window.jupyterapp.serviceManager.workspaces.fetch('default').catch(() => null);
    const layout = JSON.stringify(kept?.data['layout-restorer:data'] ?? '');
    const ours = Object.keys(kept?.data ?? {}).filter(key => key.startsWith('modelyard-tabs:'));
    return layout.includes(name) && ours.some(key => key.includes(name));
}"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say why nothing can be tested, instead of failing item by item."""
    missing = _missing()
    for item in items:
        if missing and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=missing))


def _missing() -> str | None:
    if not Path(_CHROMIUM).exists():
        return "the browser tests need chromium"
    if not (EXTENSION / "labextension" / "package.json").exists():
        return "the panel is not built: build the wheel, or run `npm run build` in jupyter_ext"
    return None


@dataclass(frozen=True)
class Server:
    """A JupyterLab server that runs. `url` ends in `/`."""

    url: str
    token: str
    folder: Path
    log: Path
    pid: int


def start_server(
    folder: Path,
    home: Path,
    *options: str,
    app: str = "jupyterlab",
    panel: bool = True,
    python: str | Path = sys.executable,
) -> Iterator[Server]:
    """Serve a folder, with settings, state and extensions of its own; ends in the end.

    Args:
        folder: what the server shows.
        home: where it keeps everything else.
        options: further ones of its command line.
        app: the module that is run: `jupyterlab` or `notebook`.
        panel: whether it has the panel.
        python: who runs it.
    """
    port, token, log = free_port(), uuid.uuid4().hex, home / "server.log"
    settings = home / ".jupyter" / "jupyter_server_config.d"
    settings.mkdir(parents=True)
    switch = {"ServerApp": {"jpserver_extensions": {"modelyard_jupyter": panel}}}
    (settings / "modelyard_jupyter.json").write_text(json.dumps(switch))
    disabled = {"@jupyterlab/apputils-extension:announcements": True, "@modelyard/jupyterlab": not panel}
    page = {"disabledExtensions": disabled}  # the first asks about news
    (home / ".jupyter" / "labconfig").mkdir()
    (home / ".jupyter" / "labconfig" / "page_config.json").write_text(json.dumps(page))
    share = home / "share" / "labextensions" / "@modelyard"
    share.mkdir(parents=True)
    (share / "jupyterlab").symlink_to(EXTENSION / "labextension")
    command = [str(python), "-m", app, "--no-browser", "--ip=127.0.0.1", f"--port={port}"]
    command += [
        "--allow-root",
        f"--IdentityProvider.token={token}",
        "--LabApp.expose_app_in_browser=True",
        *options,
    ]
    env = {
        **os.environ,
        "HOME": str(home),
        "JUPYTER_CONFIG_DIR": str(home / ".jupyter"),
        "JUPYTER_PATH": str(home / "share"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "PYTHONPATH": str(EXTENSION),
    }
    url = f"http://127.0.0.1:{port}/"

    def answers() -> bool:
        with urllib.request.urlopen(f"{url}api/status?token={token}", timeout=10):
            return True

    with serving(command, folder, env, log, answers) as pid:
        yield Server(url, token, folder, log, pid)


def modelyard(*args: str, cwd: Path | None = None) -> str:
    """Run the command line; what it prints."""
    command = [sys.executable, "-m", "modelyard", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def python(code: str, cwd: Path) -> str:
    """Run Python in a project, as a user's script; what it prints."""
    env = {**os.environ, "PYTHONPATH": str(EXTENSION)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=cwd, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass
class Lab:
    """JupyterLab in a browser page, with the panel in sight.

    Attributes:
        page: Playwright's page.
        server: what it shows.
        errors: what the browser's console called errors.
        refusals: patterns of those that the test itself brings about.
    """

    page: Any
    server: Server
    errors: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    @property
    def panel(self) -> Any:
        return self.page.locator("#modelyard-panel")

    def section(self, name: str) -> Any:
        """A section's content, opened if it is closed."""
        title = self.panel.locator(".jp-AccordionPanel-title, .lm-AccordionPanel-title", has_text=name).first
        if title.get_attribute("aria-expanded") != "true":
            title.click()
        return self.panel.locator(f"[data-section='{name.lower()}']")

    def open(self, document: str = "", *, reset: bool = True) -> None:
        """Load the page and show the panel; `document` is a path below the server's folder."""
        path = f"lab/tree/{document}" if document else "lab"
        self.page.goto(f"{self.server.url}{path}?token={self.server.token}{'&reset' if reset else ''}")
        self.page.locator("#main .jp-SideBar").first.wait_for(timeout=60_000)
        tab = self.page.locator(".jp-SideBar [data-id='modelyard-panel']")
        tab.wait_for(timeout=60_000)
        # Until then JupyterLab may show the file browser again, and take the focus.
        self.page.evaluate("() => window.jupyterapp.restored.then(() => null)")
        if reset:  # what is opened then takes the focus once it is there
            first = ".jp-Notebook" if document else ".jp-Launcher"
            self.page.wait_for_function("first => document.activeElement?.closest(first)", arg=first)
        if not self.panel.is_visible():
            tab.click()
        self.panel.wait_for()

    def run(self, command: str, args: dict[str, Any] | None = None) -> None:
        """Execute a command as the palette does, without waiting for what it waits for."""
        self.page.evaluate(
            "([id, args]) => void window.jupyterapp.commands.execute(id, args)", [command, args or {}]
        )

    def dark(self) -> None:
        """JupyterLab's dark theme."""
        self.run("apputils:change-theme", {"theme": "JupyterLab Dark"})
        self.page.wait_for_selector("body[data-jp-theme-light='false']", state="attached")

    def shot(self, name: str, of: Any = None) -> Path:
        """Take a picture of the page, or of a part of it."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        path = SHOTS / f"{name}.png"
        (of or self.page).screenshot(path=path)
        return path

    def kept(self, kind: str) -> None:
        """Wait until JupyterLab has stored that a tab of this kind is open: it does so a while after."""
        self.page.wait_for_function(_KEPT, arg=f"modelyard-{kind}-")

    def refuses(self, status: str, address: str) -> None:
        """The browser calls a refusal an error, and as often as something is asked: these are what is tested.

        Args:
            status: HTTP's, as a pattern.
            address: how the address that is asked goes on after the project, or a part of that, as a pattern.
        """
        self.refusals.append(rf"status of {status} .*/modelyard/api/v1/projects/\w+/{address}")

    def faults(self) -> list[str]:
        """The errors that nobody expected."""
        known = [*map(re.escape, _NOT_OURS), *self.refusals]
        return [error for error in self.errors if not any(re.search(one, error) for one in known)]

    def hear(self, said: Any) -> None:
        """Take note of what the browser's console calls an error, with the address that it is about."""
        if said.type == "error":
            self.errors.append(f"{said.text} {said.location['url']}")

    def must_be_accessible(self, selector: str) -> None:
        """Ask axe-core about a part of the page: nothing serious, nothing critical."""
        script = EXTENSION / "node_modules" / "axe-core" / "axe.min.js"
        if not script.exists():
            pytest.skip("axe-core is not installed: run `npm ci` in jupyter_ext")
        if not self.page.evaluate("() => typeof axe !== 'undefined'"):
            self.page.evaluate(script.read_text())
        found = self.page.evaluate(
            "async selector => (await axe.run(selector, {resultTypes: ['violations']})).violations.map("
            "v => ({id: v.id, impact: v.impact, where: v.nodes.map(n => n.html + ' ' + n.failureSummary)}))",
            selector,
        )
        assert not [one for one in found if one["impact"] in _FAULTS], found


_FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="package")
def browser_kit() -> Any:
    """`start_server`, `modelyard` and `python` for modules with projects of their own."""
    return sys.modules[__name__]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser; every test has a context of its own in it. While it is there an event loop runs, so that it
    ends with the module: tests elsewhere begin loops of their own."""
    with sync_api.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=_CHROMIUM, headless=True, args=list(_FLAGS))
        yield browser
        browser.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Let fixtures know that their test failed: its last picture says more than its traceback."""
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest.fixture
def open_lab(chromium: Any, request: pytest.FixtureRequest) -> Iterator[Callable[..., Lab]]:
    """Makes labs: `open_lab(server, "train.ipynb")`. Errors in the console fail the test."""
    contexts, labs = [], []

    def make(server: Server, document: str = "", **viewport: int) -> Lab:
        size = {"width": 1280, "height": 900, **viewport}
        context = chromium.new_context(
            viewport=size, permissions=["clipboard-read", "clipboard-write"], reduced_motion="reduce"
        )
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        lab = Lab(context.new_page(), server)
        labs.append(lab)
        lab.page.on("console", lab.hear)
        lab.page.on("pageerror", lambda fault: lab.errors.append(str(fault)))
        lab.open(document)
        return lab

    yield make
    if request.node.stash.get(_FAILED, False):
        for number, lab in enumerate(labs):
            lab.shot(f"failed-{request.node.name}-{number}")
    for lab in labs:
        if not lab.page.is_closed():  # an answer that a test rewrites may be on its way
            lab.page.unroute_all(behavior="ignoreErrors")
    for context in contexts:
        context.close()
    for lab in labs:
        faults = lab.faults()
        assert not faults, faults


@pytest.fixture(scope="package")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The demo's project with its endpoint up, in a folder with a space and an umlaut."""
    folder = tmp_path_factory.mktemp("browser") / "arbeit" / "späte Flüge"
    folder.parent.mkdir()
    modelyard("demo", str(folder), "--fast", "--keep")
    yield folder
    modelyard("--project", str(folder), "down")


@pytest.fixture(scope="package")
def demo_server(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server above the demo's project."""
    yield from start_server(demo.parent, tmp_path_factory.mktemp("home"))


@pytest.fixture
def lab(open_lab: Callable[..., Lab], demo_server: Server) -> Lab:
    """The panel on the demo's project."""
    return open_lab(demo_server)
