from typing import final

__all__ = ["Patience"]

@final
class Patience:
    def __init__(self, sock: object) -> None: ...
