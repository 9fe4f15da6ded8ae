"""Write a card's metadata in the Hub's form: https://huggingface.co/docs/hub/model-cards."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

METRICS = {
    "top1_agreement": "top-1 agreement with the float32 reference",
    "mean_kl": "mean KL divergence from the float32 reference, nats",
    "max_kl": "largest KL divergence from the float32 reference, nats",
    "perplexity_ratio": "perplexity, as a multiple of the float32 reference's",
}
DIVERGING = {
    "fdt": "FDT, tokens before the first that differs from the reference's (mean of the answers)",
    "sdt": "SDT, share of the tokens to be corrected (mean of the answers)",
}
_SPEED = {
    "first_token_ms": "time to first token, ms (median)",
    "tokens_per_s": "tokens per second (median)",
}
_LIBRARIES = {
    "openvino": "openvino",
    "onnx-genai": "onnxruntime-genai",
    "npu-blob": "openvino",
    "npu-library": "intel-npu-acceleration-library",
}


def metadata(
    build: Mapping[str, Any],
    receipts: Sequence[Mapping[str, Any]],
    languages: Sequence[str],
    base_model: str | None,
    answers: Mapping[str, Mapping[str, float] | None],
) -> str:
    """Return the YAML between a card's first two ``---`` lines.

    Args:
        receipts: those that passed become evaluation results (``model-index``).
        base_model: of a local checkpoint: what it was tuned from, on the Hub.
        answers: of each row, as `phiforge.release.comparison.diverging` returns it.
    """
    import yaml

    facts: dict[str, Any] = {"language": list(languages), "license": build["license"].lower()}
    facts["license_link"] = "LICENSE"
    if build["source"]["kind"] == "hub":
        facts |= {"base_model": build["source"]["repo"], "base_model_relation": "quantized"}
    elif base_model is not None:
        facts |= {"base_model": base_model, "base_model_relation": "finetune"}
    facts |= {
        "library_name": _LIBRARIES[build["format"]],
        "pipeline_tag": "text-generation",
        "tags": ["phi3", build["format"], build["precision"]],
    }
    if results := list(_results(receipts, answers)):
        name = f"{build['title']} {build['variant']}"
        facts["model-index"] = [{"name": name, "results": results}]
    return str(yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=10_000))


def _results(
    receipts: Sequence[Mapping[str, Any]], answers: Mapping[str, Mapping[str, float] | None]
) -> Iterator[dict[str, Any]]:
    """Yield one result a receipt: the golden prompts on that row are the data set."""
    for receipt in receipts:
        own = answers.get(receipt["device"])
        measured = dict(_metrics(receipt, own)) if receipt["verdict"] == "passed" else {}
        if not measured:
            continue
        row = receipt["device"]
        positions = receipt["metrics"]["positions"] if receipt["metrics"] else 0
        yield {
            "task": {"type": "text-generation"},
            "dataset": {
                "type": "golden-prompts",
                "name": f"phiforge golden prompts on {row} ({receipt['kind']})",
                "config": row,
                "revision": receipt["golden_sha256"],
                "args": {"positions": positions, "prompts": len(receipt["golden"])},
            },
            "metrics": [
                {"type": name, "value": value, "name": title}
                for name, (title, value) in measured.items()
            ],
        }


def _metrics(
    receipt: Mapping[str, Any], answers: Mapping[str, float] | None
) -> Iterator[tuple[str, tuple[str, float]]]:
    for name, title in METRICS.items() if receipt["metrics"] else ():
        yield name, (title, receipt["metrics"][name])
    for name, title in DIVERGING.items():
        if answers:
            yield name, (title, answers[name])
    measured = receipt["performance"] or {}
    for name, title in _SPEED.items():
        if spread := measured.get(name):
            yield name, (title, spread["p50"])
