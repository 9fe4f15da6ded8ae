"""How a model is converted: one module a toolchain, one contract (`converters.contract`)."""
