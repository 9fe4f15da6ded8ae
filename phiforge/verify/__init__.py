"""Whether a release folder is what its signatures say, on any machine, with nothing but Python.

This package needs ``cryptography`` and the standard library only: it is what
``phiforge-verify.pyz`` holds. Everything that it reads is taken for hostile until it is proven.
"""
