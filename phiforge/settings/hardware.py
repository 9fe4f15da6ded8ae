"""config/hardware.yaml: which variant to choose on which hardware, and what it needs."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from phiforge.settings.blocks import Block, Items, Text, read_block
from phiforge.settings.documents import read_named_blocks

_Names = Annotated[Items[str], Field(min_length=1)]


class Driver(Block):
    """A driver and its version."""

    name: str = Field(description="name of the driver", examples=["Intel NPU driver"])
    lowest: str | None = Field(
        description="the lowest version known to suffice; null: not known", examples=["0.18.0"]
    )


class Package(Block):
    """A Python package and its version."""

    package: str = Field(description="name of the package", examples=["openvino-genai"])
    lowest: str | None = Field(
        description="the lowest version known to suffice; null: not known", examples=["0.18.0"]
    )


class Hardware(Block):
    """One kind of hardware of config/hardware.yaml, under its own name."""

    title: Text = Field(
        description="name of the hardware in the table", examples=["Intel NPU (Core Ultra)"]
    )
    devices: _Names = Field(
        description="the device rows whose receipts prove a variant there", examples=[["npu"]]
    )
    choose: _Names = Field(
        description="variants, the best first; those that are not released are left out",
        examples=[["openvino-int4-npu"]],
    )
    when: Text = Field(
        description="what speaks for it", examples=["leaves CPU and GPU to other work"]
    )
    system: str | None = Field(
        description="the lowest operating system known to suffice; null: not known",
        examples=["Windows 11"],
    )
    driver: Driver = Field(description="the driver it needs")
    runtime: Package = Field(description="the package that loads it")


def load_hardware(path: Path) -> dict[str, Hardware]:
    """Read every kind of hardware.

    Raises:
        ConfigurationError: the first thing that is wrong, naming file and key.
    """
    return {name: read_block(Hardware, row, path, name) for name, row in read_named_blocks(path)}
