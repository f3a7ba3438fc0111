"""Homes that are drawn at random."""

import random

import pytest

from hatrain.home.clients import CLIENTS
from hatrain.home.devices.services import DOMAINS
from hatrain.home.homes.random_homes import RandomHomes
from hatrain.home.language.load import find_language, load_language


@pytest.mark.parametrize("client", CLIENTS)
def test_each_home_has_a_device_that_takes_requests(client: str) -> None:
    language = load_language(find_language("english"))
    homes, draw = RandomHomes(language, language.names, CLIENTS[client]), random.Random(1).random
    drawn = [homes.draw(draw, max_devices=2) for _ in range(2_000)]
    assert any(not DOMAINS[device.name.domain] for home in drawn for device in home.devices)
    assert all(any(DOMAINS[device.name.domain] for device in home.devices) for home in drawn)
