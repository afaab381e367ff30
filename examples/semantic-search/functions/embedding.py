"""Sentence embeddings with all-MiniLM-L6-v2, from the files of a directory, with NumPy alone.

The model is BERT with 6 layers, 12 heads and 384 dimensions; its weights are read by mmap, so that every
execution environment on a host shares the pages of the one file on the file system.
"""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

LONGEST = 256
BATCH = 20


class SentenceEncoder:
    """`encode` maps n texts to an (n, 384) float32 matrix of unit vectors."""

    def __init__(self, directory: str) -> None:
        model = Path(directory)
        config = json.loads((model / "config.json").read_text())
        self._heads = config["num_attention_heads"]
        self._layers = config["num_hidden_layers"]
        self._epsilon = config["layer_norm_eps"]
        self._weights = load_file(model / "model.safetensors")
        self._tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self._tokenizer.enable_truncation(LONGEST)
        self._tokenizer.enable_padding()

    def encode(self, texts: list[str]) -> np.ndarray:
        """A few at a time: every text of a batch is padded to its longest."""
        return np.vstack(
            [self._encode(texts[first : first + BATCH]) for first in range(0, len(texts), BATCH)]
        )

    def _encode(self, texts: list[str]) -> np.ndarray:
        batch = self._tokenizer.encode_batch(texts)
        ids = np.array([entry.ids for entry in batch])
        mask = np.array([entry.attention_mask for entry in batch], dtype=np.float32)
        hidden = self._embed(ids)
        for layer in range(self._layers):
            hidden = self._encode_layer(f"encoder.layer.{layer}", hidden, mask)
        pooled = (hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)

    def _embed(self, ids: np.ndarray) -> np.ndarray:
        words = self._weights["embeddings.word_embeddings.weight"][ids]
        positions = self._weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
        kinds = self._weights["embeddings.token_type_embeddings.weight"][0]
        return self._normalise("embeddings.LayerNorm", words + positions + kinds)

    def _encode_layer(self, name: str, hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
        attended = self._dense(
            f"{name}.attention.output.dense", self._attend(f"{name}.attention.self", hidden, mask)
        )
        hidden = self._normalise(f"{name}.attention.output.LayerNorm", hidden + attended)
        widened = _gelu(self._dense(f"{name}.intermediate.dense", hidden))
        return self._normalise(
            f"{name}.output.LayerNorm", hidden + self._dense(f"{name}.output.dense", widened)
        )

    def _attend(self, name: str, hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
        texts, length, width = hidden.shape

        def heads(part: str) -> np.ndarray:
            split = self._dense(f"{name}.{part}", hidden).reshape(texts, length, self._heads, -1)
            return split.transpose(0, 2, 1, 3)

        query, key, value = heads("query"), heads("key"), heads("value")
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32(np.sqrt(width // self._heads))
        scores += (1 - mask[:, None, None, :]) * np.float32(-1e9)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        return (scores @ value).transpose(0, 2, 1, 3).reshape(texts, length, width)

    def _dense(self, name: str, values: np.ndarray) -> np.ndarray:
        return values @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _normalise(self, name: str, values: np.ndarray) -> np.ndarray:
        centred = values - values.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(self._epsilon))
        return scaled * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def _gelu(values: np.ndarray) -> np.ndarray:
    """The exact GELU, x·Φ(x), with Φ by Abramowitz and Stegun's formula 7.1.26 (error under 1.5e-7)."""
    z = np.abs(values) * np.float32(np.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * z)
    tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return values * 0.5 * (1 + np.sign(values) * (1 - tail * np.exp(-z * z)))
