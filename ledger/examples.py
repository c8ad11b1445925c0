"""The example platforms, for a fresh home to register. In: the bundled files. Out: registrations.

Simulated orders come from the platforms of `example_platforms.yaml`; each bundled mapping names its own.
"""

from functools import cache
from importlib.resources import files

from ledger import yamlfile
from ledger.mapping import bundled
from schemas.platforms import PlatformFile, PlatformRegistration


@cache
def simulated() -> tuple[PlatformRegistration, ...]:
    """The platforms whose orders `danbao simulate` makes."""
    name = "example_platforms.yaml"
    raw = files("ledger").joinpath(name).read_bytes()
    return yamlfile.parse(raw, name, PlatformFile, yamlfile.OURS).platforms


def registrations() -> tuple[PlatformRegistration, ...]:
    """All of them: the simulated ones and those of the bundled mappings."""
    mapped = (platform for mapping in bundled().values() for platform in mapping.shape.platforms)
    return (*simulated(), *mapped)
