"""A successor that dies at a random moment before it has taken over: ``python -m benchmarks.crashing_successor PLACE``."""

import os
import random
import signal
import sys
import threading
import time

from fdproof import handover
from fdproof.handover._succession import Word
from fdproof.handover._waiting import Blocking, finished
from fdproof.passing._deadline import Deadline

# Seconds within which it dies, and between two steps that it takes.
_WITHIN = 0.1
_STEP = 0.03


def main(place: str) -> None:
    """Take what is offered, say that it is ready, never take over, and die somewhere on the way."""
    threading.Timer(random.uniform(0, _WITHIN), os.kill, (os.getpid(), signal.SIGKILL)).start()
    time.sleep(_STEP)
    with handover.take(place) as taken:
        time.sleep(_STEP)
        # Half of what ready() says: the predecessor waits for the rest.
        assert taken._line is not None
        finished(taken._line.say(Blocking(), Deadline(None, ""), Word.READY))
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1])
