"""config/hardware.yaml: which variant to choose on which hardware, and what it needs."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from phiforge.settings.blocks import Block, Items, Text, read_block
from phiforge.settings.documents import read_named_blocks

_Names = Annotated[Items[str], Field(min_length=1)]


class Driver(Block):
    """A driver and its version.

    Attributes:
        name: name of the driver; e.g. Intel NPU driver
        lowest: the lowest version known to suffice; null: not known; e.g. 0.18.0
    """

    name: str
    lowest: str | None


class Package(Block):
    """A Python package and its version.

    Attributes:
        package: name of the package; e.g. openvino-genai
        lowest: the lowest version known to suffice; null: not known; e.g. 0.18.0
    """

    package: str
    lowest: str | None


class Hardware(Block):
    """One kind of hardware of config/hardware.yaml, under its own name.

    Attributes:
        title: name of the hardware in the table; e.g. Intel NPU (Core Ultra)
        devices: the device rows whose receipts prove a variant there; e.g. ["npu"]
        choose: variants that are made for it; measurements order them, and those that are not
            released are left out; e.g. ["openvino-int4-npu"]
        when: what speaks for it; e.g. leaves CPU and GPU to other work
        system: the lowest operating system known to suffice; null: not known; e.g. Windows 11
        driver: the driver it needs
        runtime: the package that loads it
    """

    title: Text
    devices: _Names
    choose: _Names
    when: Text
    system: str | None
    driver: Driver
    runtime: Package


def load_hardware(path: Path) -> dict[str, Hardware]:
    """Read every kind of hardware.

    Raises:
        ConfigurationError: the first thing that is wrong, naming file and key.
    """
    return {name: read_block(Hardware, row, path, name) for name, row in read_named_blocks(path)}
