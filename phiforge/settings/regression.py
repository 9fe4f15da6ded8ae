"""config/regression.yaml: how much worse a new release may be than an old one."""

from typing import Annotated

from pydantic import Field

from phiforge.settings.blocks import Block

_Fraction = Annotated[float, Field(ge=0)]


class Regression(Block):
    """What `phiforge diff` accepts as no worse, in fractions of the old value.

    Attributes:
        size: growth of the payload's bytes; e.g. 0.02
        mean_kl: growth of the mean KL divergence from the reference, on each row; e.g. 0.25
        max_kl: growth of the largest KL divergence, on each row; e.g. 0.5
        first_token_ms: growth of the median time to the first token, on each row; e.g. 0.5
        tokens_per_s: loss of the median tokens per second, on each row; e.g. 0.33
    """

    size: _Fraction
    mean_kl: _Fraction
    max_kl: _Fraction
    first_token_ms: _Fraction
    tokens_per_s: _Fraction
