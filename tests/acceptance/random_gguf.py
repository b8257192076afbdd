"""A language model of random weights for llama.cpp: python random_gguf.py FILE. Its speed is real, its words are not.

Some 20 million parameters in single precision, a vocabulary of bytes; a token takes some ten milliseconds on one core.
"""

import sys

import gguf
import numpy as np

WORDS, WIDTH, LAYERS, HEADS, INNER, CONTEXT = 260, 512, 6, 8, 1536, 1024


def tensor(random: np.random.Generator, *shape: int) -> np.ndarray:
    """Random weights, small enough that nothing overflows."""
    return (random.standard_normal(shape) * 0.05).astype(np.float32)


def main(path: str) -> None:
    """Write the model."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(WORDS)
    writer.add_file_type(0)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([b"<unk>", b"<s>", b"</s>", b"\xe2\x96\x81", *(f"<0x{i:02X}>".encode() for i in range(256))])
    writer.add_token_scores([0.0] * WORDS)
    writer.add_token_types([2, 3, 3, 1] + [6] * 256)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    random = np.random.default_rng(0)
    for name in ("token_embd", "output"):
        writer.add_tensor(f"{name}.weight", tensor(random, WORDS, WIDTH))
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    square, wide, narrow = (WIDTH, WIDTH), (INNER, WIDTH), (WIDTH, INNER)
    shapes = {"attn_q": square, "attn_k": square, "attn_v": square, "attn_output": square}
    shapes |= {"ffn_gate": wide, "ffn_up": wide, "ffn_down": narrow}
    for layer in range(LAYERS):
        for name, shape in shapes.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", tensor(random, *shape))
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1])
