"""The background publisher never makes its caller wait, and survives an unavailable broker."""

from __future__ import annotations

import threading

from zoodip_core.service.background_publisher import BackgroundPublisher


def test_messages_are_published_in_order() -> None:
    """Closing publishes what is queued."""
    published: list[int] = []
    publisher = BackgroundPublisher("test", published.append, (OSError,))
    for number in range(100):
        publisher.send(number)
    publisher.close()
    assert published == list(range(100))


def test_a_frozen_broker_blocks_no_caller() -> None:
    """While one message hangs, any number can be sent; those that the queue cannot hold are dropped."""
    hangs, thaw = threading.Event(), threading.Event()

    def publish(_message: int) -> None:
        hangs.set()
        assert thaw.wait(60)

    publisher = BackgroundPublisher("test", publish, (OSError,))
    publisher.send(0)
    assert hangs.wait(60)
    for number in range(5000):
        publisher.send(number)
    thaw.set()


def test_a_failed_broker_is_not_tried_for_each_message() -> None:
    """After a failure the breaker drops messages, and the thread goes on."""
    tried: list[int] = []

    def publish(message: int) -> None:
        tried.append(message)
        raise ConnectionRefusedError

    publisher = BackgroundPublisher("test", publish, (OSError,))
    for number in range(100):
        publisher.send(number)
    publisher.close()
    assert tried == [0]
