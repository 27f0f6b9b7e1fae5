"""A leak in the standard library: starting a process by fork, when the start fails half-way."""

import multiprocessing


def start() -> None:
    process = multiprocessing.get_context("fork").Process(target=int)
    process.start()
    process.join()
    process.close()
