"""How Descriptors, Messages and Processes travel through multiprocessing: reducers of its pickler.

Importing this registers them. Plain pickle keeps refusing, because its bytes can go anywhere.
"""

from multiprocessing import reduction
from multiprocessing.context import get_spawning_popen
from typing import Any

from fdproof._descriptor import Descriptor
from fdproof.passing._identity import process_behind
from fdproof.passing._message import Message
from fdproof.passing._sharing import fetch, share
from fdproof.process import Process

__all__: list[str] = []

_Reduced = tuple[Any, tuple[Any, ...]]


def _reduce_descriptor(descriptor: Descriptor) -> _Reduced:
    starting: Any = get_spawning_popen()
    if starting is None:
        return fetch, (share(descriptor),)
    # OWNERSHIP: the child that is being started gets a descriptor of its own; ours is borrowed.
    return _adopted, (starting.DupFd(starting.duplicate_for_child(descriptor.fileno())),)


def _adopted(inherited: Any) -> Descriptor:
    return Descriptor(inherited.detach())


def _reduce_message(message: Message) -> _Reduced:
    # One by one, so that a Descriptor that is elsewhere in the pickle, too, is one object over there.
    return _message, (
        message.data,
        message.files,
        message.credentials,
        message.process,
        message.address,
        message.flags,
    )


def _message(
    data: bytes, files: Any, credentials: Any, process: Any, address: Any, flags: int
) -> Message:
    return Message(
        data, files, credentials=credentials, process=process, address=address, flags=flags
    )


def _reduce_process(process: Process) -> _Reduced:
    return process_behind, (process._child.pidfd, process.pid)


reduction.register(Descriptor, _reduce_descriptor)
reduction.register(Message, _reduce_message)
reduction.register(Process, _reduce_process)
