"""Run ``python -m phiforge``, in which the working folder's own modules win."""

from phiforge.cli import main

main()
