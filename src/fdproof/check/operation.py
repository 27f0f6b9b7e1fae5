"""Operations: the thing under test, as plain data, and how to find it."""

import importlib
import importlib.util
import inspect
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdproof._errors import Error

__all__ = [
    "CallableOperation",
    "CommandOperation",
    "Operation",
    "OperationError",
    "check_command",
    "load",
]


class OperationError(Error, ValueError):
    """The operation cannot be checked as it is given; the message says what to change."""


@dataclass(frozen=True, slots=True)
class CallableOperation:
    """A Python function without arguments, as ``module:function`` or ``path/to/script.py:function``."""

    target: str

    def __str__(self) -> str:
        return self.target


@dataclass(frozen=True, slots=True)
class CommandOperation:
    """A command and its arguments."""

    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.arguments)


Operation = CallableOperation | CommandOperation


def load(operation: CallableOperation) -> Callable[[], Any]:
    """Import the function of an operation.

    Returns:
        A function to call without arguments; an ``async def`` is run by ``asyncio.run``.

    Raises:
        OperationError: there is no such module or function, or it needs arguments.
    """
    where, _, name = operation.target.rpartition(":")
    if not where or not name:
        raise OperationError(
            f"{operation.target!r} does not say what to check: write module:function, "
            "path/to/script.py:function, or -- command arguments."
        )
    function = _attribute(_module(where), where, name)
    _check_callable(function, operation.target)
    if inspect.iscoroutinefunction(function):
        import asyncio

        return lambda: asyncio.run(function())
    checked: Callable[[], Any] = function
    return checked


def check_command(operation: CommandOperation) -> None:
    """See that a command can be found.

    Raises:
        OperationError: it is not in PATH, or not executable.
    """
    if shutil.which(operation.arguments[0]) is None:
        raise OperationError(
            f"the command {operation.arguments[0]!r} is not found, or not executable: give a path, or a "
            "name that is in PATH. A Python function is written module:function, without --."
        )


def _module(where: str) -> Any:
    if where.endswith(".py") or "/" in where:
        return _script(Path(where))
    # As `python -m` does it: modules in the current directory can be named.
    if sys.path[:1] != [""]:
        sys.path.insert(0, "")
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name is not None and (where == error.name or where.startswith(f"{error.name}.")):
            raise OperationError(
                f"there is no module {where!r}: run fdproof in the environment where it is installed, or "
                "name the file, as in path/to/script.py:function."
            ) from error
        raise OperationError(
            f"importing {where!r} failed: it needs {error.name!r}, which is not installed."
        ) from error
    except Exception as error:
        raise OperationError(
            f"importing {where!r} failed: {type(error).__name__}: {error}. Make it importable first."
        ) from error


def _script(path: Path) -> Any:
    if not path.is_file():
        raise OperationError(f"there is no file {str(path)!r}: give a path that exists from here.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise OperationError(f"{str(path)!r} is not a Python file: its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    # As `python script.py` does it: its neighbours can be imported.
    sys.path.insert(0, str(path.parent.resolve()))
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise OperationError(
            f"running {str(path)!r} failed: {type(error).__name__}: {error}. Make it importable first."
        ) from error
    return module


def _attribute(module: Any, where: str, name: str) -> Any:
    found = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            functions = sorted(
                key
                for key, value in vars(module).items()
                if inspect.isfunction(value) and value.__module__ == module.__name__
            )
            known = f"it has {', '.join(functions)}" if functions else "it defines no function"
            raise OperationError(f"{where!r} has no {name!r}: {known}.") from None
    return found


def _check_callable(function: Any, target: str) -> None:
    if not callable(function):
        raise OperationError(
            f"{target!r} is not a function but {type(function).__name__}: name a function that does the work."
        )
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return
    needed = [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed:
        raise OperationError(
            f"{target!r} needs arguments ({', '.join(needed)}): write a function without any that calls it, "
            "with the arguments that you want checked, and name that one."
        )
