"""The hypernetwork at work: it learns no more, and its answers are adapters."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence

import torch

from intrinsic.errors import HypernetError
from intrinsic.hypernet.generated import Generated
from intrinsic.hypernet.network import Embedding, HyperNetwork
from intrinsic.lora import Factors


class WeightGenerator:
    """Generates adapters with a copy of a network as it is now. Thread-safe.

    `norms` are those of the base weights, `(targets,)`, from `base_norms`. Raises `HypernetError`
    for another number of them.
    """

    def __init__(self, network: HyperNetwork, norms: torch.Tensor) -> None:
        if norms.shape != (len(network.targets),):
            raise HypernetError(
                f"{tuple(norms.shape)} base norms were given for {len(network.targets)} targets; "
                "take them from base_norms(model, network.targets)"
            )
        with torch.inference_mode(False):
            self.network = copy.deepcopy(network).requires_grad_(False).eval()
            learned = list(self.network.parameters())
            own = learned[0]
            self._norms = norms.to(own.device, torch.float32, copy=True)
        self._learned = {parameter.untyped_storage().data_ptr() for parameter in learned}
        self.fingerprint = self.network.fingerprint()
        self._transposed = any(target.transposed for target in network.targets)

    def generate(self, embedding: Embedding) -> Generated:
        """The adapter for one embedding `(d,)`; raises as `HyperNetwork.forward` does.

        Raises `HypernetError` too where the weights that come out are not finite.
        """
        found = self.network.checked(embedding)
        if found.dim() != 1:
            raise HypernetError(
                f"the embedding has the shape {tuple(found.shape)}; give one of shape "
                f"({self.network.embed_dim},), or several to generate_batch"
            )
        return self.generate_batch(found.unsqueeze(0))[0]

    def generate_batch(self, embeddings: Embedding) -> list[Generated]:
        """The adapters for embeddings `(n, d)`, in one pass; raises as `generate` does."""
        with torch.inference_mode(False), torch.no_grad():
            found = self.network.checked(embeddings)
            payload = self.network.payload(found)
            expanded = self.network.expand(payload)
            relative = self._relative(self.network.body.norms(payload))
        return [
            self._adapter(row, expanded, digest_of(embedding), float(norm))
            for row, (embedding, norm) in enumerate(zip(found, relative, strict=True))
        ]

    def _relative(self, norms: torch.Tensor) -> torch.Tensor:
        """The largest `‖ΔW‖ / ‖W‖` of each query; weights of zeros may not be changed at all."""
        if not torch.isfinite(norms).all():
            raise HypernetError(
                "the hypernetwork generated weights that are not finite; it was trained too far or "
                "at too high a rate: use an earlier checkpoint"
            )
        changed = norms.float() * self.network.scale
        return torch.where(changed == 0, 0.0, changed / self._norms).amax(-1).cpu()

    def _adapter(
        self,
        row: int,
        expanded: Sequence[tuple[torch.Tensor, torch.Tensor]],
        digest: str,
        relative_norm: float,
    ) -> Generated:
        factors, bytes_used = {}, 0
        for target, (all_A, all_B) in zip(self.network.targets, expanded, strict=True):
            shared = all_A.untyped_storage().data_ptr() in self._learned
            A = all_A[0] if len(all_A) == 1 else all_A[row].clone()
            B = all_B[0] if len(all_B) == 1 else all_B[row].clone()
            factors[target.name] = Factors(A, B, self.network.scale)
            bytes_used += (B.numel() + (0 if shared else A.numel())) * B.element_size()
        return Generated(
            self.fingerprint, digest, factors, relative_norm, bytes_used, self._transposed
        )


def digest_of(embedding: torch.Tensor) -> str:
    """SHA-256 of an embedding's float32 bytes, in hex."""
    return hashlib.sha256(embedding.detach().cpu().float().numpy().tobytes()).hexdigest()
