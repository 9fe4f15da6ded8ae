"""The configuration as a contract: closed schemas, one-line errors, one plan of what is built."""
