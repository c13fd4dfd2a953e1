"""Independent parts of a differentiable computation on two threads, forward and backward.

The operations of a fit are too short for torch to share one among threads; whole branches of the model are not.
Autograd runs the backward pass of a processor on one thread, so each part keeps a graph of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from render._workers import on_threads

Part = Callable[..., tuple[Tensor, ...]]


def _on_two_threads(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    """What the jobs return; the first runs on this thread, the others one by one on another."""
    result, rest = on_threads([jobs[0], lambda: [job() for job in jobs[1:]]])
    return [result, *rest]


def side_by_side(parts: Sequence[Part], inputs: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
    """What each part returns for the same inputs; the first runs on this thread, the others one by one on another.

    Without gradients (many frames are then rendered at a time) or on another device all run on this thread.

    Args:
        parts: functions of the inputs. Parameters that they read besides get their gradients as ever; one that two
            parts read would get the sum in the order in which the threads come to it, which may differ by a rounding.
        inputs: tensors; their gradients are summed in the order of the parts.
    """
    if not torch.is_grad_enabled() or inputs[0].device.type != "cpu":
        return [part(*inputs) for part in parts]
    counts: list[int] = []
    # An input that wants a gradient makes autograd come back for the parameters, even if no other input does.
    outputs = iter(_SideBySide.apply(parts, counts, torch.empty(0, requires_grad=True), *inputs))
    return [tuple(next(outputs) for _ in range(count)) for count in counts]


class _SideBySide(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, parts: Sequence[Part], counts: list[int], _: Tensor, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.copies = [[tensor.detach().requires_grad_(tensor.requires_grad) for tensor in inputs] for _ in parts]
        ctx.results = _on_two_threads(
            [lambda part=part, own=own: _forward(part, own) for part, own in zip(parts, ctx.copies, strict=True)]
        )
        counts.extend(len(result) for result in ctx.results)
        return tuple(tensor.detach() for result in ctx.results for tensor in result)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        remaining = iter(gradients)
        pairs = [[(tensor, next(remaining)) for tensor in result] for result in ctx.results]
        _on_two_threads([lambda own=own: _backward(own) for own in pairs])
        return None, None, None, *(_sum([copy.grad for copy in copies]) for copies in zip(*ctx.copies, strict=True))


def _forward(part: Part, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    with torch.enable_grad():  # inside a Function it is off, in another thread on
        return part(*inputs)


def _backward(pairs: list[tuple[Tensor, Tensor | None]]) -> None:
    asked = [(tensor, gradient) for tensor, gradient in pairs if gradient is not None and tensor.requires_grad]
    if asked:
        torch.autograd.backward(*zip(*asked, strict=True))


def _sum(gradients: list[Tensor | None]) -> Tensor | None:
    known = [gradient for gradient in gradients if gradient is not None]
    return sum(known[1:], known[0]) if known else None
