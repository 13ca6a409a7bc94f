"""An encoder-decoder in plain NumPy, to hold the Keras model against."""

import numpy as np


class Reference:
    """The model's arithmetic in NumPy, float64, one sequence at a time, without padding."""

    def __init__(self, model):
        self.config = model.config
        self.weights = {w.path.split("/", 1)[1]: np.array(w, "float64") for w in model.weights}

    def logits(self, inputs):
        return np.array([
            self.sequence(source_ids[:source_len], token_ids)
            for source_ids, source_len, token_ids in zip(*inputs.values())
        ])  # fmt: skip

    def sequence(self, source_ids, token_ids):
        source = self.embed(source_ids)
        places = np.arange(len(source))
        for i in range(self.config.num_layers):
            name = f"encoder_block_{i}"
            source = self.add(source, f"{name}/attention", self.attend, source=None, places=places)
            source = self.add(source, f"{name}/feed_forward", self.feed_forward)
        source = self.norm(source, "encoder_norm")
        x = self.embed(token_ids)
        # The first token that the decoder takes in is the source's last.
        places = len(source) - 1 + np.arange(len(x))
        for i in range(self.config.num_layers):
            name = f"block_{i}"
            x = self.add(x, f"{name}/attention", self.attend, source=None, places=places, past=True)
            x = self.add(x, f"{name}/cross_attention", self.attend, source=source, places=places)
            x = self.add(x, f"{name}/feed_forward", self.feed_forward)
        head = self.weights.get("token_embedding/reverse_embeddings")
        tied = self.weights["token_embedding/embeddings"].T
        return self.norm(x, "final_norm") @ (tied if head is None else head)

    def embed(self, token_ids):
        x = self.weights["token_embedding/embeddings"][token_ids]
        dim = self.config.hidden_dim
        if self.config.position == "learned":
            x = x + self.weights["position_embedding/embeddings"][: len(x)]
        if self.config.position == "sinusoidal":
            x = x * np.sqrt(dim)
            for position, i in np.ndindex(x.shape):
                angle = position / 10000 ** ((i - i % 2) / dim)
                x[position, i] += np.cos(angle) if i % 2 else np.sin(angle)
        return x

    def add(self, x, name, layer, **arguments):
        if self.config.norm_position == "post":
            return self.norm(x + layer(x, name, **arguments), f"{name}_norm")
        return x + layer(self.norm(x, f"{name}_norm"), name, **arguments)

    def norm(self, x, name):
        if self.config.norm == "rms":
            return (
                x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * self.weights[f"{name}/scale"]
            )
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * self.weights[f"{name}/gamma"] + self.weights[f"{name}/beta"]

    def dense(self, x, name):
        return x @ self.weights[f"{name}/kernel"] + self.weights.get(f"{name}/bias", 0)

    def feed_forward(self, x, name):
        x = np.maximum(self.dense(x, f"{name}/expand"), 0)
        x = x**2 if self.config.activation == "relu_squared" else x
        x = x @ self.weights[f"{name}/contract_kernel"].T
        return x + self.weights.get(f"{name}/contract_bias", 0)

    def attend(self, x, name, source, places, past=False):
        config, dim = self.config, self.config.head_dim
        if source is None:
            source, source_places = x, places
            projected = self.dense(x, f"{name}/qkv")
            queries, rest = np.split(projected, [config.hidden_dim], axis=1)
        else:
            source_places = np.arange(len(source))
            queries = self.dense(x, f"{name}/query")
            rest = self.dense(source, f"{name}/key_value")
        keys, values = np.split(rest, 2, axis=1)
        heads = []
        for head in range(config.num_heads):
            kv_head = head // (config.num_heads // config.num_kv_heads)
            of_query = slice(head * dim, (head + 1) * dim)
            of_key = slice(kv_head * dim, (kv_head + 1) * dim)
            q = self.turned(queries[:, of_query], places)
            k = self.turned(keys[:, of_key], source_places)
            scores = q @ k.T / np.sqrt(dim)
            if past:
                scores[np.triu_indices(len(x), 1)] = -np.inf
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            heads.append(weights / weights.sum(-1, keepdims=True) @ values[:, of_key])
        return self.dense(np.concatenate(heads, axis=1), f"{name}/output")

    def turned(self, vectors, places):
        if self.config.qk_norm:
            vectors = vectors / np.sqrt((vectors**2).mean(-1, keepdims=True) + 1e-6)
        if self.config.position != "rope":
            return vectors
        half = vectors.shape[1] // 2
        angles = places[:, None] * 10000.0 ** (-np.arange(half) / half)
        turned = (vectors[:, :half] + 1j * vectors[:, half:]) * np.exp(1j * angles)
        return np.concatenate([turned.real, turned.imag], axis=1)
