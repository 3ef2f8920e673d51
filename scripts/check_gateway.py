#!/usr/bin/env python3
"""Check the HTTPRoutes of k8s/ against the Gateway API, whose schemas are none of Kubernetes' own.

They are types of TypeScript, which find a field that does not exist, and validators, which find a value that is not allowed;
npm fetches both once into a folder of the virtual environment. What the API server would say beyond that (its rules in CEL) is
not checked.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from check_kubernetes import Object, places

FOLDER = Path(sys.prefix) / "gateway-api"
#: Exact: the second one's newer versions ask for other options, the first one's older ones lack most of the API.
PACKAGES = ("@kubernetes-models/gateway-api@2.0.0", "typescript@5.9.3")
MODULE = "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1"
ATTEMPTS = 3

VALIDATE = f"""
import {{ readFileSync }} from 'node:fs';
import {{ HTTPRoute }} from '{MODULE}';
for (const [i, route] of JSON.parse(readFileSync('routes.json', 'utf8')).entries()) {{
  try {{ await new HTTPRoute(route).validate(); }}
  catch (error) {{ console.log(`${{i}}: ${{error.message.replaceAll('\\n', ' ')}}`); }}
}}
"""


class NoNpmError(Exception):
    """There is nothing to check with."""


class InstallError(Exception):
    """What npm says when it cannot install."""


def prepare() -> None:
    """Install what checks, unless it is there. Raises `NoNpmError`, `InstallError`."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise NoNpmError(
            "there is no npm: HTTPRoutes are not checked against the Gateway API (Debian: apt install npm)"
        )
    stamp = FOLDER / "installed"
    if stamp.exists() and stamp.read_text() == " ".join(PACKAGES):
        return
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "package.json").write_text('{"private": true, "type": "module"}')
    command = ["npm", "install", "--no-save", "--no-package-lock", "--no-audit", "--no-fund", *PACKAGES]
    for _ in range(ATTEMPTS):
        done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True)
        if done.returncode == 0:
            stamp.write_text(" ".join(PACKAGES))
            return
    raise InstallError(done.stderr.strip())


def route_faults(routes: list[Object]) -> list[list[str]]:
    """Return what is wrong with each route, by types and by validators. Raises `NoNpmError`, `InstallError`."""
    prepare()
    faults: list[list[str]] = [[] for _ in routes]
    for i, route in enumerate(routes):
        # Written out in place: of a value that comes from elsewhere the compiler does not look for excess fields.
        literal = f"import type {{ IHTTPRoute }} from '{MODULE}';\nexport const it: IHTTPRoute = {json.dumps(route)};\n"
        (FOLDER / f"route{i}.mts").write_text(literal)
    (FOLDER / "routes.json").write_text(json.dumps(routes))
    (FOLDER / "validate.mjs").write_text(VALIDATE)
    tsc = ["node_modules/.bin/tsc", "--noEmit", "--strict", "--skipLibCheck", "--pretty", "false"]
    tsc += ["--module", "nodenext", "--moduleResolution", "nodenext", *(f"route{i}.mts" for i in range(len(routes)))]
    typed = subprocess.run(tsc, cwd=FOLDER, capture_output=True, text=True)
    for line in typed.stdout.splitlines():
        match = re.match(r"route(\d+)\.mts\(\d+,\d+\): error (.*)", line)
        if match is not None:
            faults[int(match[1])].append(match[2])
        elif not line.startswith(" "):
            # Of the compiler's own: nothing was checked then.
            raise InstallError(line)
    validated = subprocess.run(["node", "validate.mjs"], cwd=FOLDER, capture_output=True, text=True)
    if validated.returncode != 0:
        raise InstallError(validated.stderr.strip())
    for line in validated.stdout.splitlines():
        number, _, message = line.partition(": ")
        faults[int(number)].append(message)
    return faults


def main() -> None:
    """Check the routes of every place; exit with 1 and the faults if there are any."""
    found = [(place, each) for place, objects in places() for each in objects if each["kind"] == "HTTPRoute"]
    if not found:
        sys.exit("check_gateway: there is no HTTPRoute")
    try:
        faults = route_faults([route for _, route in found])
    except NoNpmError as error:
        print(f"Gateway API: {error}")
        return
    except InstallError as error:
        sys.exit(f"check_gateway: {error}")
    wrong = [f"{place}: {fault}" for (place, _), each in zip(found, faults, strict=True) for fault in each]
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"Gateway API: {len(found)} routes are valid for {PACKAGES[0]}")


if __name__ == "__main__":
    main()
