"""One module a runtime; each has one public function, ``open_runtime`` (validators/contract.py)."""
