"""Requests to stop: by signal, and by the stop file."""

import os
import signal

import pytest

from hatrain.runtime import stop
from hatrain.runtime.stop import SignalListener, Stop


@pytest.fixture(autouse=True)
def handlers():
    before = {number: signal.getsignal(number) for number in stop.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("numbers", "requeue"),
    [
        ([signal.SIGTERM], True),
        ([signal.SIGUSR1, signal.SIGTERM], True),
        ([signal.SIGINT], False),
        ([signal.SIGTERM, signal.SIGINT], False),
        ([signal.SIGINT, signal.SIGTERM], False),
    ],
)
def test_a_users_signal_is_never_replaced_by_a_schedulers(numbers, requeue):
    listener = SignalListener()
    assert listener.stop is None
    listener.listen()
    for number in numbers:
        os.kill(os.getpid(), number)
    assert listener.stop.requeue is requeue


def test_the_first_of_two_equal_requests_stands():
    listener = SignalListener()
    listener.listen()
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGTERM)
    assert listener.stop == Stop("SIGUSR1", requeue=True)


def test_an_ignored_signal_ends_nothing():
    stop.ignore_signals()
    for number in stop.SIGNALS:
        os.kill(os.getpid(), number)
