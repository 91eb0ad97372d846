"""The hypernetwork at work: it learns no more, and its answers are adapters."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable

import torch

from intrinsic.errors import HypernetError
from intrinsic.hypernet.architecture import Payload
from intrinsic.hypernet.generated import Generated
from intrinsic.hypernet.network import Embedding, HyperNetwork
from intrinsic.lora import CoreFactors, Factors


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
        with torch.inference_mode(False), torch.no_grad():
            self.network = copy.deepcopy(network).requires_grad_(False).eval()
            learned = {p.untyped_storage().data_ptr() for p in self.network.parameters()}
            own = next(self.network.parameters())
            self._per_norm = self.network.scale / norms.to(own.device, torch.float32)
            trial = self.network.expand(self.network.payload(torch.zeros(network.embed_dim)))
            self._frames = self.network.body.frames()
        self.fingerprint = self.network.fingerprint()
        self._shares_a = [A.untyped_storage().data_ptr() in learned for A, _ in trial]
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
        return self._generate(found.unsqueeze(0))[0]

    def generate_batch(self, embeddings: Embedding) -> list[Generated]:
        """The adapters for embeddings `(n, d)`, in one pass; raises as `generate` does."""
        return self._generate(self.network.checked(embeddings).reshape(-1, self.network.embed_dim))

    def _generate(self, embeddings: torch.Tensor) -> list[Generated]:
        with torch.inference_mode(False), torch.no_grad():
            own = embeddings.clone()  # one made in inference mode would be of that mode
            payload = self.network.body(own)
            relative = self._relative(self.network.body.norms(payload))
            of_row = self._framed(payload) if self._frames else self._whole(payload)
            return [
                Generated(
                    self.fingerprint,
                    digest_of(embedding),
                    *of_row(row),
                    relative_norm=norm,
                    transposed=self._transposed,
                )
                for row, (embedding, norm) in enumerate(zip(own, relative, strict=True))
            ]

    def _relative(self, norms: torch.Tensor) -> list[float]:
        """The largest `‖ΔW‖ / ‖W‖` of each query; infinite where a W of zeros is changed."""
        if not math.isfinite(norms.sum()):
            raise HypernetError(
                "the hypernetwork generated weights that are not finite; it was trained too far or "
                "at too high a rate: use an earlier checkpoint"
            )
        relative = norms.float() * self._per_norm
        return relative.nan_to_num(0.0, posinf=math.inf).amax(-1).tolist()

    def _framed(self, payload: Payload) -> OfRow:
        """Of a query its cores alone; the rest is the network's."""
        cores = self.network.body.cores_of(payload)
        scale = self.network.scale

        def of_row(row: int) -> tuple[dict[str, Factors], int]:
            own = cores[row].clone()
            factors: dict[str, Factors] = {
                target.name: CoreFactors(A, frame, core, scale)
                for target, (A, frame), core in zip(
                    self.network.targets, self._frames or (), own, strict=True
                )
            }
            return factors, own.nbytes

        return of_row

    def _whole(self, payload: Payload) -> OfRow:
        expanded = self.network.expand(payload)

        def of_row(row: int) -> tuple[dict[str, Factors], int]:
            scale, factors, bytes_used = self.network.scale, {}, 0
            for target, shares_a, (all_A, all_B) in zip(
                self.network.targets, self._shares_a, expanded, strict=True
            ):
                A = all_A[0] if len(all_A) == 1 else all_A[row].clone()
                B = all_B[0] if len(all_B) == 1 else all_B[row].clone()
                factors[target.name] = Factors(A, B, scale)
                bytes_used += B.nbytes + (0 if shares_a else A.nbytes)
            return factors, bytes_used

        return of_row


OfRow = Callable[[int], tuple[dict[str, Factors], int]]
"""The factors of a query of a batch, and the bytes that are its own."""


def digest_of(embedding: torch.Tensor) -> str:
    """SHA-256 of an embedding's float32 bytes, in hex."""
    return hashlib.sha256(embedding.detach().cpu().float().numpy().tobytes()).hexdigest()
