"""Build script: the compiled modules, and which folder becomes which package.

All static metadata is in pyproject.toml.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DIRECTIVES = {
    "language_level": "3",
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "embedsignature": True,
    "embedsignature.format": "python",
}

# For `make test-sanitize`: what gcc's -fsanitize= takes. Line numbers and frames, so that a report can be read.
SANITIZE = os.environ.get("SSE_KIT_SANITIZE")
SANITIZED = (
    [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer", "-fno-sanitize-recover=undefined", "-g"] if SANITIZE else []
)

extensions = [
    Extension(
        ".".join(path.with_suffix("").parts),
        [str(path)],
        extra_compile_args=["-O2", "-g0", "-std=gnu11", "-Wall", "-Wno-unused-function", *SANITIZED],
        extra_link_args=["-pthread", *SANITIZED],
        # A change in a shared .pxd changes struct layouts: rebuild all that include it.
        depends=[str(pxd) for pxd in sorted(Path("sse_core").rglob("*.pxd"))],
    )
    for path in sorted(Path("sse_core").rglob("*.pyx"))
]

setup(
    ext_modules=cythonize(extensions, compiler_directives=DIRECTIVES, annotate=False),
    # `service` would be a careless name at the top of somebody's site-packages.
    # See docs/decisions/0001-package-names.md.
    packages=[
        "sse_core",
        "sse_core.fanout",
        "sse_core.backplane",
        "sse_core.backplane.redis",
        "sse_core.contrib",
        "sse_kit",
        "sse_kit.doctor",
        "sse_kit.llm",
        "sse_kit.nginx",
        "sse_kit.nginxkit",
        "sse_kit.resources",
    ],
    # nginx's configuration is data of the package, for `sse-kit nginx`.
    package_dir={"sse_kit": "service", "sse_kit.nginx": "nginx"},
    package_data={
        "sse_core": ["py.typed", "*.pyi", "*.pxd"],
        "sse_core.fanout": ["*.pyi", "*.pxd"],
        "sse_core.backplane.redis": ["*.pyi", "*.lua"],
        "sse_kit.nginx": ["**/*.conf"],
        "sse_kit": ["py.typed", "static/*", "static/**/*", "openapi.json"],
    },
    zip_safe=False,
)
