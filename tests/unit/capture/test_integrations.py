"""The table of integrations."""

from __future__ import annotations

import re

import pytest
from tools.generate import repository
from tools.generators.libraries_document import pinned

from mlaudit.capture.integrations import INTEGRATIONS, Registration


@pytest.mark.parametrize("registration", INTEGRATIONS, ids=lambda one: one.name)
def test_every_integration_can_be_loaded_and_says_who_it_is(registration: Registration) -> None:
    """The table, the module it waits for and the integration itself agree."""
    integration = registration.load()
    assert (integration.name, integration.module) == (registration.name, registration.module)


def test_names_are_unique_and_versions_are_versions() -> None:
    """A name switches one integration off; a version is stated for whatever is installed from PyPI."""
    names = [one.name for one in INTEGRATIONS]
    assert sorted(set(names)) == sorted(names)
    for one in INTEGRATIONS:
        assert re.fullmatch(r"\d+(\.\d+)*", one.oldest) if one.distribution else one.oldest == "", one.name


def test_every_library_is_tested_in_its_newest_version() -> None:
    """The lock files pin a version of every library that is hooked."""
    tested = pinned(repository())
    assert [one.name for one in INTEGRATIONS if one.distribution and one.distribution not in tested] == []
