"""Is an artifact what it says it is: reference, runtimes, metrics, golden prompts, receipts."""
