"""The text that picture files carry about how they were made."""

from __future__ import annotations

from typing import Any


def parameters_text(record: dict[str, Any]) -> str:
    """The `parameters` text of AUTOMATIC1111's web UI, which other tools read."""
    attempt = record["attempts"][record["chosen"]]
    knobs = attempt["knobs"]
    lines = [record["prompt"]]
    if record["negative_prompt"]:
        lines.append(f"Negative prompt: {record['negative_prompt']}")
    values = {
        "Steps": knobs["num_inference_steps"],
        "Sampler": record["sampler"],
        "CFG scale": knobs["guidance_scale"],
        "Seed": attempt["seed"],
        "Size": "x".join(map(str, record["picture"]["size"])),
        "Model": record["recipe"],
        "Denoising strength": knobs["strength"],
        "IP-Adapter scale": knobs["ip_adapter_scale"],
        "Style": record["style"],
        "Version": f"portrait {record['versions']['portrait']}",
    }
    return "\n".join([*lines, ", ".join(f"{key}: {value}" for key, value in values.items())])
