"""Runs inside the image: `sizes` prints what takes the room, `sbom NAME` an SBOM in CycloneDX 1.6. It reads what the
installers wrote down, dpkg and Python's; it needs nothing but the standard library."""

import json
import os
import platform
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote


def python_packages() -> Iterator[tuple[metadata.Distribution, int]]:
    """Yield every Python package with its bytes on disk."""
    for found in sorted(metadata.distributions(), key=lambda one: one.name.lower()):
        files = (Path(str(path.locate())) for path in found.files or ())
        yield found, sum(path.stat().st_size for path in files if path.is_file())


def debian_packages() -> Iterator[tuple[str, str, str, int]]:
    """Yield name, version, architecture and bytes of every installed package."""
    form = "${db:Status-Abbrev}\t${Package}\t${Version}\t${Architecture}\t${Installed-Size}\n"
    told = subprocess.run(
        ["dpkg-query", "--show", "--showformat", form], capture_output=True, text=True, check=True
    )
    for line in told.stdout.splitlines():
        status, name, version, architecture, kilobytes = line.split("\t")
        if status.startswith("ii"):
            yield name, version, architecture, int(kilobytes or 0) * 1024


def sizes() -> None:
    """Print the largest packages, and what all of either kind come to."""
    groups = {
        "Python packages": [(found.name, found.version, size) for found, size in python_packages()],
        "Debian packages": [(name, version, size) for name, version, _, size in debian_packages()],
    }
    for title, packages in groups.items():
        total = sum(size for _, _, size in packages)
        print(f"{title}: {len(packages)}, {total / 1e6:,.0f} MB")
        for name, version, size in sorted(packages, key=lambda one: -one[2])[:12]:
            print(f"  {size / 1e6:>8,.0f} MB  {name} {version}")


def sbom(image: str) -> dict[str, Any]:
    """Return the bill of materials of everything that has an installer's record."""
    system = platform.freedesktop_os_release()
    components = [
        {
            "type": "operating-system",
            "bom-ref": "os",
            "name": system["ID"],
            "version": system.get("VERSION_ID", "unknown"),
        }
    ]
    for found, _ in python_packages():
        name = found.name.lower().replace("_", "-")
        components.append(
            _component(f"pkg:pypi/{name}@{quote(found.version)}", found.name, found.version, licences(found))
        )
    for name, version, architecture, _ in debian_packages():
        purl = f"pkg:deb/{system['ID']}/{quote(name)}@{quote(version)}?arch={architecture}"
        components.append(_component(purl, name, version, []))
    listed = json.dumps(components)
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    when = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, listed)}",
        "version": 1,
        "metadata": {
            "timestamp": when.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "component": {
                "type": "container",
                "bom-ref": "image",
                "name": image,
                "version": metadata.version("hatrain"),
                "properties": [{"name": "revision", "value": os.environ.get("HATRAIN_REVISION", "unknown")}],
            },
        },
        "components": components,
    }


def licences(found: metadata.Distribution) -> list[dict[str, Any]]:
    """Return a package's licences as it states them: an SPDX expression, else names; none where it states none."""
    told = found.metadata
    if expression := told.get("License-Expression"):
        return [{"expression": expression}]
    names = [
        line.rpartition(" :: ")[2]
        for line in told.get_all("Classifier") or ()
        if line.startswith("License ::")
    ]
    # Some put the whole text of their licence there; its first line is its name.
    stated = (told.get("License") or "").strip().splitlines()
    return [{"license": {"name": name}} for name in names or stated[:1] if name]


def _component(purl: str, name: str, version: str, told: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
    }
    return found | ({"licenses": told} if told else {})


if __name__ == "__main__":
    if sys.argv[1] == "sizes":
        sizes()
    else:
        json.dump(sbom(sys.argv[2]), sys.stdout, indent=1)
        print()
