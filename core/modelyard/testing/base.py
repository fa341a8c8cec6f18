"""What all suites share: fixtures that make projects, open the offered provider, and clean up."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from modelyard.errors import ModelyardError
from modelyard.offers import Offer
from modelyard.stages import StageContext, StageName
from modelyard.testing.apart import NOT_IMPORTABLE, open_apart
from modelyard.testing.contexts import ModelShelf, make_context, settings_of

T = TypeVar("T")
Raised = TypeVar("Raised", bound=ModelyardError)


#: Seconds to wait for what happens in the background, e.g. an event on its way to the log.
PATIENCE = 60.0


class StageSuite:
    """Base of the suites. A subclass must give the fixture `offer`; the rest has defaults.

    Fixtures of class scope are shared by the tests, because real tools are slow to open: every test
    uses names of its own (`unique`), and those that need an empty place ask for `fresh`.
    """

    stage: ClassVar[StageName]
    protocol: ClassVar[type]
    #: A method without arguments that only reads.
    reads: ClassVar[str]

    @pytest.fixture(scope="class")
    @classmethod
    def offer(cls) -> Offer[Any]:
        """The offer under test, as the plugin's hook yields it."""
        return pytest.fail(f"{cls.__name__} must override the class-scoped fixture `offer`")

    @pytest.fixture(scope="class")
    @classmethod
    def provider_settings(cls) -> Mapping[str, Any]:
        """The `[providers.NAME]` table for the tests."""
        return {}

    @pytest.fixture(scope="class")
    @classmethod
    def shelf(cls) -> ModelShelf:
        """The models that `context.resolve_model` knows."""
        return ModelShelf()

    @pytest.fixture(scope="class")
    @classmethod
    def event_sink(cls) -> Callable[[], str | None]:
        """What `context.event_sink` gives."""
        return lambda: None

    @pytest.fixture(scope="class")
    @classmethod
    def prepare_project(cls) -> Callable[[Path], None]:
        """Makes a new project's folder what your provider expects, e.g. a git repository."""
        return lambda _: None

    @pytest.fixture(scope="class")
    @classmethod
    def new_context(
        cls,
        offer: Offer[Any],
        provider_settings: Mapping[str, Any],
        prepare_project: Callable[[Path], None],
        shelf: ModelShelf,
        event_sink: Callable[[], str | None],
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Iterator[Callable[[], StageContext]]:
        """Makes a new empty project at each call; all processes are ended after the class."""
        made: list[StageContext] = []

        def make() -> StageContext:
            # Folders of real people have spaces and umlauts.
            root = tmp_path_factory.mktemp("ein Projekt äö")
            prepare_project(root)
            context = make_context(
                root,
                provider=offer.name,
                settings=settings_of(offer, provider_settings),
                resolve_model=shelf.resolve,
                event_sink=event_sink,
            )
            made.append(context)
            return context

        yield make
        for context in made:
            stop_everything(context)

    @pytest.fixture(scope="class")
    @classmethod
    def context(cls, new_context: Callable[[], StageContext]) -> StageContext:
        """The project that the tests of the class share."""
        return new_context()

    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls, offer: Offer[Any], context: StageContext) -> Any:
        """The provider that the tests of the class share."""
        return offer.factory(context)

    @pytest.fixture
    def reopen(self, offer: Offer[Any], context: StageContext) -> Callable[[], Any]:
        """Opens the provider once more on the same state, as another command would."""
        return lambda: offer.factory(context)

    @pytest.fixture
    def fresh(self, offer: Offer[Any], new_context: Callable[[], StageContext]) -> Any:
        """A provider in an empty project."""
        return offer.factory(new_context())

    @pytest.fixture
    def unique(self) -> str:
        """A name that no other test uses, with a space and letters beyond ASCII."""
        return f"späte flüge {uuid.uuid4().hex[:8]}"

    def test_the_offer_says_what_it_is(self, offer: Offer[Any]) -> None:
        """Name and summary are what `modelyard.toml` and `plugins list` show."""
        assert isinstance(offer, Offer), f"the hook must yield Offer records, not {type(offer).__name__}"
        assert offer.name, "the offer has no name"
        assert offer.name == offer.name.lower(), f"'{offer.name}' is not lower case"
        assert offer.summary, "the offer has no summary"
        assert "\n" not in offer.summary, "the summary must be one line"

    def test_the_provider_has_every_method(self, provider: Any) -> None:
        """What the factory opens fits the stage's protocol."""
        lacking = [
            name
            for name in vars(self.protocol)
            if not name.startswith("_") and not callable(getattr(provider, name, None))
        ]
        assert not lacking, f"the provider lacks {', '.join(lacking)}"
        assert isinstance(provider, self.protocol), "the provider does not fit the stage's protocol"

    def test_two_processes_may_open_a_new_project_at_once(
        self, offer: Offer[Any], new_context: Callable[[], StageContext]
    ) -> None:
        """Whatever the first one must set up, the second waits for."""
        context = new_context()
        children = [open_apart(offer, context, self.reads) for _ in range(2)]
        try:
            ended = [(child.communicate(timeout=120)[0], child.returncode) for child in children]
        finally:
            for child in children:
                child.kill()
        if any(status == NOT_IMPORTABLE for _, status in ended):
            pytest.skip("the factory can't be imported by another process")
        for said, status in ended:
            assert status == 0, f"opening it in two processes at once failed in one: {said[-2000:]}"
        getattr(offer.factory(context), self.reads)()


def stop_everything(context: StageContext) -> None:
    """End the background processes that a provider started through its context."""
    for service in getattr(context.services, "all", list)():
        context.services.stop(service.name)


def refusal(kind: type[Raised], code: str, call: Callable[..., Any], *args: Any, **named: Any) -> Raised:
    """The error that the call must raise, checked for its kind, code and wording."""
    said = f"{getattr(call, '__name__', call)} must raise {kind.__name__} `{code}`"
    error = _raised_by(said, call, *args, **named)
    if not isinstance(error, kind):
        pytest.fail(f"{said}, but it raised {type(error).__name__}: {error}")
    assert error.code == code, f"{said}, but its code is `{error.code}`: {error}"
    assert error.message.strip(), f"{said} with a sentence, but its message is empty"
    assert "Traceback" not in error.message, f"{said} with a sentence, but it holds a traceback"
    return error


def _raised_by(said: str, call: Callable[..., Any], *args: Any, **named: Any) -> Exception:
    try:
        got = call(*args, **named)
    except Exception as error:
        return error
    return pytest.fail(f"{said}, but it returned {got!r:.200}")


def eventually(what: str, check: Callable[[], T | None]) -> T:
    """What `check` gives once it is neither None nor an error of ours; fails after `PATIENCE`."""
    deadline, said = time.monotonic() + PATIENCE, ""
    while True:
        try:
            got = check()
            if got is not None:
                return got
        except ModelyardError as error:
            said = f" ({error.code}: {error})"
        if time.monotonic() > deadline:
            return pytest.fail(f"{what} did not happen within {PATIENCE:.0f} s{said}")
        time.sleep(0.05)


def at_once(*calls: Callable[[], T]) -> list[T]:
    """The results of calls made in threads of their own, started together."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]
