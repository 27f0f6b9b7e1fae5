"""Find and compile the extension modules; everything else is in pyproject.toml."""

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

SOURCES = Path("src")

headers = sorted(SOURCES.rglob("*.h"))

extensions = [
    Extension(
        # Spelt out, so that the name does not depend on which __init__.py files exist.
        name=".".join(path.relative_to(SOURCES).with_suffix("").parts),
        sources=[str(path)],
        include_dirs=sorted({str(header.parent) for header in headers}),
        # setuptools does not look into the C: without this a changed header compiles nothing.
        depends=[str(header) for header in headers],
        extra_compile_args=["-O2", "-Wall"],
    )
    for path in sorted(SOURCES.rglob("*.pyx"))
]

setup(
    ext_modules=cythonize(
        extensions,
        # The generated C stays out of the source tree, where lint, search and eyes would meet it.
        build_dir="build/cython",
        include_path=[str(SOURCES)],
        compiler_directives={
            "language_level": 3,
            # An owner of a descriptor must not be copied, and pickling copies.
            "auto_pickle": False,
            # Doctests run from the docs; the extra module attribute would not be in the stub.
            "autotestdict": False,
        },
    ),
)
