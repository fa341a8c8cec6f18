"""The lock of images: every image that the stack runs, pinned, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from modelyard.errors import UsageError
from modelyard.plugins import PluginManager
from modelyard_sandbox.lock import Lock, LockedImage, reference
from modelyard_sandbox.selection import offered


def test_the_lock_names_what_the_components_run_and_nothing_else() -> None:
    ours = offered(PluginManager(disabled=["all"]))
    run = {image for component in ours.values() for image in component.images}
    assert run == set(Lock.load().images)


def test_every_image_of_others_is_pinned_where_its_digest_was_to_be_read() -> None:
    lock = Lock.load()
    open_ = {image.reference for image in (lock.node, *lock.listed) if not image.digest and not image.build}
    # Their releases name tags and no digests: what a tag names at the first pull is kept.
    assert open_ == {
        *(f"docker.io/kserve/{name}:v0.20.0" for name in ("kserve-controller", "agent", "router")),
        *(f"quay.io/jetstack/cert-manager-{n}:v1.19.4" for n in ("controller", "webhook", "cainjector")),
    }


def test_no_tag_that_moves_is_in_the_lock() -> None:
    lock = Lock.load()
    for image in (lock.node, *lock.listed):
        assert "latest" not in image.reference
        assert any(letter.isdigit() for letter in image.reference.rpartition(":")[2])


def test_the_images_are_published_for_laptops_of_both_kinds() -> None:
    for image in Lock.load().listed:
        assert set(image.platforms) == {"linux/amd64", "linux/arm64"}, image.reference


def test_what_no_lock_knows_is_taken_by_its_tag() -> None:
    lock = Lock.load()
    found = lock.entry("docker.io/birds/owl:2", "linux/arm64")
    assert (found.digest, found.platforms, found.build) == (None, ("linux/arm64",), False)
    assert lock.entry(lock.node.reference, "linux/arm64") is lock.node
    known = next(iter(lock.images))
    assert lock.entry(known, "linux/arm64") is lock.images[known]
    with pytest.raises(UsageError):
        lock.entry("docker.io/birds/owl@sha256:" + "0" * 64, "linux/arm64")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"reference": "postgres:17"}, "written in full: docker.io/library/postgres:17"),
        ({"reference": "docker.io/library/postgres"}, "written in full: docker.io/library/postgres:latest"),
        ({"reference": "docker.io/a/b@sha256:" + "0" * 64}, "without a digest"),
        ({"digest": "sha256:" + "0" * 64}, "needs the source"),
        ({"digest": "sha256:12", "source": "x"}, "pattern"),
        ({"platforms": []}, "at least 1"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_entry_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        LockedImage(**{"reference": "docker.io/a/b:1", "platforms": ("linux/amd64",), **change})


def test_an_image_that_is_listed_twice_is_refused() -> None:
    one = {"reference": "docker.io/a/b:1", "platforms": ["linux/amd64"]}
    with pytest.raises(ValidationError, match="listed twice"):
        Lock.model_validate({"version": 1, "node": one, "images": [one, one]})


@pytest.mark.parametrize(
    ("written", "full"),
    [
        ("postgres:17", "docker.io/library/postgres:17"),
        ("kserve/agent", "docker.io/kserve/agent:latest"),
        ("docker.io/postgres:17", "docker.io/library/postgres:17"),
        ("localhost:5001/a/b__c-d.e:V1_2", "localhost:5001/a/b__c-d.e:V1_2"),
    ],
)
def test_names_are_written_in_full(written: str, full: str) -> None:
    assert reference(written) == full


@pytest.mark.parametrize(
    "written", ["", "a b:1", "a:1\nb", "A/B:1", "a:b:c", "../../etc:1", "a/b@sha256:" + "0" * 64, "a" * 500]
)
def test_what_is_no_name_is_refused_in_one_sentence(written: str) -> None:
    with pytest.raises(UsageError) as fault:
        reference(written)
    assert fault.value.code == "image-name"


@given(st.text(max_size=60))
def test_a_name_is_refused_or_in_full(text: str) -> None:
    try:
        full = reference(text)
    except UsageError:
        return
    assert reference(full) == full
    assert not any(letter.isspace() for letter in full)
    assert ".." not in full.rpartition(":")[0].split("/")
