"""Run something during a test, on a thread of its own."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def repeatedly(act: Callable[[], object], *, pause: float) -> Iterator[None]:
    """Call `act` again and again during the block, each time after `pause` seconds.

    It is not called any more once it has raised an error; the end of the block raises that.
    """
    ending = threading.Event()

    def run() -> None:
        while not ending.wait(pause):
            act()

    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(run)
        try:
            yield
        finally:
            ending.set()
            running.result()
