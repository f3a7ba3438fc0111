"""Runs inside the image: `sizes` prints the largest packages, `sbom NAME` an SBOM in CycloneDX 1.6.

It reads the records of dpkg and pip, and needs only the standard library.
"""

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
    for package in sorted(metadata.distributions(), key=lambda package: package.name.lower()):
        files = (Path(str(path.locate())) for path in package.files or ())
        yield package, sum(path.stat().st_size for path in files if path.is_file())


def debian_packages() -> Iterator[tuple[str, str, str, int]]:
    """Yield name, version, architecture and bytes of every installed package."""
    fields = "${db:Status-Abbrev}\t${Package}\t${Version}\t${Architecture}\t${Installed-Size}\n"
    listing = subprocess.run(
        ["dpkg-query", "--show", "--showformat", fields], capture_output=True, text=True, check=True
    )
    for line in listing.stdout.splitlines():
        status, name, version, architecture, kilobytes = line.split("\t")
        if status.startswith("ii"):
            yield name, version, architecture, int(kilobytes or 0) * 1024


def sizes() -> None:
    """Print the largest packages and the total, of each kind."""
    groups = {
        "Python packages": [(package.name, package.version, size) for package, size in python_packages()],
        "Debian packages": [(name, version, size) for name, version, _, size in debian_packages()],
    }
    for title, packages in groups.items():
        total = sum(size for _, _, size in packages)
        print(f"{title}: {len(packages)}, {total / 1e6:,.0f} MB")
        for name, version, size in sorted(packages, key=lambda package: -package[2])[:12]:
            print(f"  {size / 1e6:>8,.0f} MB  {name} {version}")


def sbom(image: str) -> dict[str, Any]:
    """Return a bill of materials of all installed packages."""
    system = platform.freedesktop_os_release()
    components = [
        {
            "type": "operating-system",
            "bom-ref": "os",
            "name": system["ID"],
            "version": system.get("VERSION_ID", "unknown"),
        }
    ]
    for package, _ in python_packages():
        purl = f"pkg:pypi/{package.name.lower().replace('_', '-')}@{quote(package.version)}"
        components.append(_component(purl, package.name, package.version, licences(package)))
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


def licences(package: metadata.Distribution) -> list[dict[str, Any]]:
    """Return a package's licences as it states them: an SPDX expression, else names, else nothing."""
    stated = package.metadata
    if expression := stated.get("License-Expression"):
        return [{"expression": expression}]
    names = [line.rpartition(" :: ")[2] for line in stated.get_all("Classifier") or () if line.startswith("License ::")]
    # Some packages put the whole licence text there; its first line is the name.
    text = (stated.get("License") or "").strip().splitlines()
    return [{"license": {"name": name}} for name in names or text[:1] if name]


def _component(purl: str, name: str, version: str, licences: list[dict[str, Any]]) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
    }
    return component | ({"licenses": licences} if licences else {})


if __name__ == "__main__":
    if sys.argv[1] == "sizes":
        sizes()
    else:
        json.dump(sbom(sys.argv[2]), sys.stdout, indent=1)
        print()
